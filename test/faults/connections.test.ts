// A program with ten thousand connections at a time: every byte of each is matched, and what kqtime
// keeps of them is bounded.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, flaws, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { compare } from "../lib/truth.ts";

const CONNECTIONS = 10_000;
const BYTES = 3000;
/** Measured: 412 MiB, of which 120 are there without a connection: 30 KiB each, mostly histograms. */
const MOST_MIB = 120 + (CONNECTIONS * 45) / 1024;

e2e(`${CONNECTIONS} connections`, () => withLoopback(async (node, scope) => {
  const program = await fixture("flow");
  const log = scope.path("flow");
  const words = [
    "--address", node.v4, "--port", "7500", "--conns", `${CONNECTIONS}`, "--total", `${BYTES}`,
    "--size", "1000", "--read", "4096", "--both", "--log", log,
  ];
  const files = ["prlimit", `--nofile=${CONNECTIONS + 100}`];
  const server = scope.start([...files, program, "server", ...words], { prefix: node.prefix });
  await server.says(/ready/);
  const client = new Measurement(scope, [...files, program, "client", ...words], { prefix: node.prefix });
  let mib = 0;
  const watch = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${client.running.pid}/status`, "utf8");
      mib = Math.max(mib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It has ended.
    }
  }, 50);
  scope.finally(() => clearInterval(watch));
  await client.running.success();
  await server.success();
  if (BARE) return;
  const total = CONNECTIONS * BYTES;
  expect(flaws(client, { out: total, in: total })).toEqual([]);
  const { directions, sockets, socketsRest } = client.summary();
  expect(sockets.length + socketsRest.count).toBe(CONNECTIONS);
  expect([directions.out.bytesCalled, directions.in.bytesCalled]).toEqual([total, total]);
  expect(compare(client.log(), { calls: readCallLog(`${log}.client`, BASE_SEC) }).report()).toBe("");
  expect(mib).toBeLessThan(MOST_MIB);
}), 60_000, ["prlimit"]);
