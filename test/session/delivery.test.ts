// A capture that hands its packets over late: what was called is not judged before they have come.

import { expect, test } from "bun:test";
import type { PacketBatch } from "../../src/capture/packets.ts";
import { type Capture, CaptureState } from "../../src/ffi/libpcap.ts";
import type { MessageListener } from "../../src/ffi/libc.ts";
import { Engine } from "../../src/match/engine.ts";
import { ClockWatch } from "../../src/session/clock-watch.ts";
import { Collector } from "../../src/session/collector.ts";
import { MS } from "../match/bench.ts";
import { BASE_SEC } from "../match/words.ts";

/** A collector without a process, a capture without a device; a round each 10 ms. */
function made() {
  const capture = {
    linkType: 1, bytes: new Uint8Array(64), state: CaptureState.Running,
    stats: () => ({ received: kernel.counted, droppedKernel: 0 }),
  } as unknown as Capture;
  let nowNs = 1000 * MS;
  const clock = () => nowNs;
  const collector = new Collector({
    engine: new Engine({ baseSec: BASE_SEC, out: true, in: true, everything: null }),
    capture, token: "0".repeat(32), baseSec: BASE_SEC, tape: null, statsEveryMs: 0,
    listener: { next: () => null } as unknown as MessageListener,
    clock: new ClockWatch(0, { boottimeNs: clock, realtimeNs: clock }),
    logs: () => [],
    isIntervalDue: () => false,
    anyInterface: false,
    onWarning: () => {},
  });
  const kernel = { counted: 0, givesNs: [] as number[] };
  collector.source.read = (batch: PacketBatch) => {
    batch.count = 0;
    for (const ns of kernel.givesNs.splice(0)) batch.timeNs[batch.count++] = ns;
    collector.source.examined = batch.count;
    return batch.count;
  };
  let joinedNs = -Infinity;
  collector.onJoined = (capturedNs) => (joinedNs = capturedNs);
  /** How long ago the captured was joined, after so long. */
  const lagMs = (ms: number) => {
    for (; ms > 0; ms -= 10) {
      nowNs += 10 * MS;
      collector.round();
    }
    return (collector.nowNs() - joinedNs) / MS;
  };
  return { collector, kernel, lagMs };
}

test("a capture without packets is joined up to just before", () => {
  const { collector, lagMs } = made();
  expect(lagMs(500)).toBeCloseTo(80, 3);
  collector.close();
});

test("packets that the kernel has counted and not handed over are waited for", () => {
  const { collector, kernel, lagMs } = made();
  lagMs(500);
  const atNs = collector.nowNs() + 5 * MS;
  kernel.counted += 2;
  expect(lagMs(300)).toBeGreaterThan(300 - 10);
  kernel.givesNs = [atNs];
  expect(lagMs(10)).toBeCloseTo(80, 3);
  collector.close();
});

test("packets that came before the first look are waited for, too", () => {
  const { collector, kernel, lagMs } = made();
  kernel.counted = 7;
  expect(lagMs(300)).toBeGreaterThan(300);
  collector.close();
});

test("a block handed over says nothing about the packets that came after it", () => {
  const { collector, kernel, lagMs } = made();
  lagMs(500);
  const atNs = collector.nowNs() + 5 * MS;
  kernel.counted++;
  lagMs(20);
  kernel.counted++;
  lagMs(10);
  kernel.givesNs = [atNs];
  expect(lagMs(300)).toBeGreaterThan(300);
  kernel.givesNs = [atNs + 20 * MS];
  expect(lagMs(10)).toBeCloseTo(80, 3);
  collector.close();
});

test("what libpcap keeps to itself is not waited for without end", () => {
  const { collector, kernel, lagMs } = made();
  lagMs(500);
  kernel.counted++;
  expect(lagMs(3000)).toBeCloseTo(1000, 3);
  collector.close();
});
