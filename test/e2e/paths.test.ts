// The ways that packets can take past the capture: both families, one device or `any`, loopback
// with one end measured or both, a bridge on which the same packet shows twice.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { joined, transfer, transferOnLoopback } from "../lib/flow.ts";
import { expectExact } from "../lib/judge.ts";
import { withLab, withLoopback } from "../lib/network.ts";

const FLOW = ["--conns", "4", "--total", "400000", "--size", "4000", "--both"];
const SHAPE = { rate: "40mbit" };

for (const v6 of [false, true]) {
  const family = v6 ? "IPv6" : "IPv4";

  e2e(`${family} over veth, one device`, async () => {
    await withLab({ shape: SHAPE }, async (lab) => {
      const result = await transfer(lab, { flow: FLOW, v6, kqtime: ["--interface", "kq0"] });
      expectExact(result.client);
      expectExact(result.server);
    });
  }, 60_000);

  e2e(`${family} over veth, any device`, async () => {
    await withLab({ shape: SHAPE }, async (lab) => {
      const result = await transfer(lab, { flow: [...FLOW, "--mode", "threads"], v6 });
      expectExact(result.client);
      expectExact(result.server);
    });
  }, 60_000);

  for (const device of ["any", "lo"]) {
    for (const measure of ["client", "server"] as const) {
      e2e(`${family} on loopback (${device}), the ${measure} measured`, async () => {
        await withLoopback(async (node, scope) => {
          const kqtime = ["--interface", device];
          const result = await transferOnLoopback(node, scope, { flow: FLOW, v6, measure, kqtime });
          expectExact(result[measure]);
        });
      }, 60_000);
    }

    e2e(`${family} on loopback (${device}), both ends measured`, async () => {
      await withLoopback(async (node, scope) => {
        const kqtime = ["--interface", device];
        expectExact(joined(await transferOnLoopback(node, scope, { flow: FLOW, v6, kqtime })));
      });
    }, 60_000);
  }

  e2e(`${family} from a bridge, whose port is shaped`, async () => {
    await withLab({ bridge: true, shape: { rate: "8mbit" } }, async (lab) => {
      const flow = ["--total", "600000", "--sndbuf", "400000", "--both"];
      const result = await transfer(lab, { flow, v6 });
      const { longestNs } = expectExact(result.client);
      expectExact(result.server);
      // Seen at the bridge instead of at its port, nothing would seem to wait in the port's qdisc.
      expect(longestNs).toBeGreaterThan(50e6);
    });
  }, 60_000);
}
