// Loss in the three places where it means three different things: on the way (a retransmission;
// the first transmission counts), in the sender's own queueing discipline, below the application
// and above the tap (the first sighting is the retransmission), and in the capture itself (booked,
// never guessed).

import { expect } from "bun:test";
import { IN, OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { judge, transfer, type End } from "../lib/flow.ts";
import { expectExact, repeatedBytes } from "../lib/judge.ts";
import { BARE, BASE_SEC, booksFlaws, flaws, Measurement, timeFlaws } from "../lib/kqtime.ts";
import { dropEveryNth, droppedPackets, qdiscDrops, withLab } from "../lib/network.ts";
import { until } from "../lib/process.ts";

import { Witness } from "../lib/tcpdump.ts";

const CUBIC = ["--congestion", "cubic"];

function expectRetransmitted(end: End, direction: typeof OUT | typeof IN): void {
  if (!end.measurement) return;
  const { directions } = end.measurement.summary();
  const booked = direction === OUT ? directions.out : directions.in;
  expect(booked.bytesRetransmitted).toBe(repeatedBytes(end, direction));
}

for (const measured of ["prompt reader", "sleeping reader"]) {
  e2e(`a drop at a middle hop, ${measured}`, async () => {
    await withLab({ middle: true, shape: { rate: "20mbit" } }, async (lab) => {
      await dropEveryNth(lab.middle!, 7000, 25);
      const result = await transfer(lab, {
        flow: ["--conns", "3", "--total", "700000", "--size", "8000", ...CUBIC],
        server: measured === "sleeping reader" ? ["--read-sleep", "20"] : [],
      });
      expect(await droppedPackets(lab.middle!)).toBeGreaterThan(0);
      expect(repeatedBytes(result.client, OUT)).toBeGreaterThan(0);
      expectExact(result.client);
      expectRetransmitted(result.client, OUT);
      // The receiver: waiting for a hole is told apart (`inorder` of each line is compared).
      const { reassembled } = expectExact(result.server);
      expect(reassembled).toBeGreaterThan(0);
      expectRetransmitted(result.server, IN);
      const reassembly = result.server.measurement?.summary().directions.in.reassemblyNs;
      if (reassembly) {
        expect(reassembly.count).toBeGreaterThan(0);
        expect(reassembly.max).toBeGreaterThan(1e6);
      }
    });
  }, 60_000);
}

e2e("a drop in the sender's own qdisc", async () => {
  await withLab({ shape: { rate: "20mbit", limitBytes: 40_000 } }, async (lab) => {
    const result = await transfer(lab, {
      flow: ["--conns", "4", "--total", "700000", ...CUBIC],
    });
    expect(await qdiscDrops(lab.left)).toBeGreaterThan(0);
    const filled = result.client.seen.streams.reduce((sum, seen) => sum + seen.filledHoles, 0);
    expect(filled).toBeGreaterThan(0);
    expectExact(result.client);
    expectExact(result.server);
    expectRetransmitted(result.client, OUT);
  });
}, 60_000);

e2e("a drop of the capture is booked", async () => {
  await withLab({ shape: { rate: "200mbit" }, shapeBack: { rate: "200mbit" } }, async (lab) => {
    const ends = await transfer(lab, {
      measure: "client",
      flow: ["--total", "20000000", "--both", "--size", "16384"],
      // The ring holds every record; the capture's buffer holds a small part of the packets.
      kqtime: ["--buffer", "1", "--ring", "262144", "--interface", "kq0"],
      meanwhile: async (running, measurement) => {
        if (!measurement) return;
        // The collector does not look for a while, as if this host had no time for it.
        await until("traffic", () => transmitted(lab.left.name) > 2_000_000);
        process.kill(running.pid, "SIGSTOP");
        try {
          const from = transmitted(lab.left.name);
          await until("more traffic", () => transmitted(lab.left.name) > from + 8_000_000);
        } finally {
          process.kill(running.pid, "SIGCONT");
        }
      },
    });
    const { client } = ends;
    const comparison = judge(client, { lossy: true });
    expect(comparison.report()).toBe("");
    if (!client.measurement) return;
    const summary = client.measurement.summary();
    const { out, in: inbound } = summary.directions;
    expect(summary.losses.capturePackets).toBeGreaterThan(0);
    expect((out.bytesUnmatched["capture drop"] ?? 0) + (inbound.bytesUnmatched["capture drop"] ?? 0))
      .toBeGreaterThan(0);
    expect(Object.keys(out.bytesUnmatched).filter((reason) => reason !== "capture drop")).toEqual([]);
    expect(Object.keys(inbound.bytesUnmatched).filter((reason) => reason !== "capture drop"))
      .toEqual([]);
    expect(out.coverage!).toBeLessThan(1);
    expect(out.bytesCalled).toBe(20_000_000);
    expect(inbound.bytesCalled).toBe(20_000_000);
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(client.measurement)).toEqual([]);
    expect(timeFlaws(client.measurement.log())).toEqual([]);
  });
}, 60_000);

e2e("data that a reset throws away", async () => {
  await withLab({ shape: { rate: "200mbit", burstBytes: 20_000 } }, async (lab) => {
    const { scope, left, right } = lab;
    const witness = await Witness.start(scope, left);
    const server = scope.start(
      ["iperf3", "-s", "-1", "--forceflush", "-B", right.v4], { prefix: right.prefix },
    );
    await server.says(/Server listening/);
    // Its receiver closes when the time is over, with megabytes still in the sender's buffer.
    const client = new Measurement(
      scope, ["iperf3", "-c", right.v4, "-t", "1"], { prefix: left.prefix },
    );
    await client.running.success();
    const seen = await witness.finish(BASE_SEC, right.v4);
    const departed = seen.streams
      .filter((stream) => stream.destinationPort === 5201)
      .reduce((sum, stream) => sum + stream.bytes, 0);
    expect(departed).toBeGreaterThan(10_000_000);
    if (BARE) return;
    const { out } = client.summary().directions;
    expect(out.bytesMatched).toBe(departed);
    expect(out.bytesUnmatched["closed unsent"]).toBeGreaterThan(0);
    expect(flaws(client, { allow: ["closed unsent"] })).toEqual([]);
  });
}, 60_000, ["iperf3"]);

function transmitted(namespace: string): number {
  const listing = Bun.spawnSync(["ip", "-n", namespace, "-s", "-j", "link", "show", "kq0"]);
  return JSON.parse(listing.stdout.toString())[0].stats64.tx.bytes as number;
}
