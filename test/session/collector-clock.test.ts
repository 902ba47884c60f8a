// A collector whose clock is set: when it knows, and which packets are still of a measurement that
// ends afterwards.

import { expect, test } from "bun:test";
import type { PacketBatch } from "../../src/capture/packets.ts";
import { type Capture, CaptureState } from "../../src/ffi/libpcap.ts";
import type { MessageListener } from "../../src/ffi/libc.ts";
import { Engine } from "../../src/match/engine.ts";
import { ClockWatch } from "../../src/session/clock-watch.ts";
import { Collector } from "../../src/session/collector.ts";
import { MS } from "../match/bench.ts";
import { BASE_SEC } from "../match/words.ts";

const SECOND_NS = 1e9;

/** Clocks that are made up; each look at them takes a microsecond. */
class MadeUpClocks {
  bootNs = 5 * SECOND_NS;
  aheadNs = 0;
  boottimeNs = () => (this.bootNs += 1000);
  realtimeNs = () => (this.bootNs += 1000) + this.aheadNs;
}

/** A collector without a process, a capture without a device. */
function made() {
  const clocks = new MadeUpClocks();
  const engine = new Engine({ baseSec: BASE_SEC, out: true, in: true, everything: null });
  const capture = {
    linkType: 1, bytes: new Uint8Array(64), state: CaptureState.Running, stats: () => ({ droppedKernel: 0 }),
  } as unknown as Capture;
  const collector = new Collector({
    engine, capture, token: "0".repeat(32), baseSec: BASE_SEC, tape: null, statsEveryMs: 0,
    listener: { next: () => null } as unknown as MessageListener,
    clock: new ClockWatch(0, clocks),
    logs: () => [],
    isIntervalDue: () => false,
    anyInterface: false,
    onWarning: () => {},
  });
  return { clocks, engine, collector };
}

test("a clock that is set in the middle of a round is known before the records are read", () => {
  const { clocks, engine, collector } = made();
  collector.source.read = () => {
    clocks.aheadNs = 3600 * SECOND_NS;
    return 0;
  };
  collector.round();
  expect(engine.clock.isSteady).toBe(false);
  collector.close();
});

for (const byNs of [-3600 * SECOND_NS, 0, 3600 * SECOND_NS]) {
  test(`detached from, with a clock that was set by ${byNs / SECOND_NS} s: what came before is joined`, async () => {
    const { clocks, engine, collector } = made();
    // A packet each 20 ms, stamped by the clock, and handed over later: with each read 100 ms pass.
    const stamped: number[] = [];
    const stamps: number[] = [];
    let given = 0;
    collector.source.read = (batch: PacketBatch) => {
      for (let n = 0; n < 5; n++) {
        clocks.bootNs += 20 * MS;
        stamps.push(clocks.realtimeNs());
        stamped.push(clocks.bootNs);
      }
      batch.count = 0;
      while (stamped[given]! <= clocks.bootNs - 70 * MS) batch.timeNs[batch.count++] = stamps[given++]!;
      return batch.count;
    };
    const joined: number[] = [];
    engine.packets = (batch) => {
      for (let n = 0; n < batch.count; n++) joined.push(engine.clock.steady(batch.timeNs[n]!));
    };
    collector.round();
    clocks.aheadNs = byNs;
    collector.round();
    await collector.detach();
    const due = stamped.filter((ns) => ns <= collector.endNs);
    expect(due.length).toBeLessThan(given);
    expect(joined.length).toBe(due.length);
    for (const [n, ns] of joined.entries()) expect(Math.abs(ns - due[n]!)).toBeLessThan(MS);
    collector.close();
  });
}
