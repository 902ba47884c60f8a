// Slots that a thread claims and fills late, slowly or never: they hold others up for so long and no
// longer, and those that are given up are counted, and used no more.

import { expect, test } from "bun:test";
import { SlotWord } from "../../src/ring/layout.ts";
import { Ring } from "../../src/ring/ring.ts";
import type { Rings } from "../../src/ring/rings.ts";
import { nowNs, open, SLOT_WORDS, SLOTS, withClock } from "./writer.ts";

test("a thread that never fills its slot is not waited for for ever", async () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 1_000_000_000n;
  writers[0]!.claim(1, start);
  writers[1]!.write(2, start + 1000n);
  rings.drain();
  expect(rings.complete).toBe(false);
  while (!rings.complete) {
    await new Promise((resolve) => setImmediate(resolve));
    rings.drain();
  }
  expect(read).toEqual([2]);
  writers[1]!.write(3, start + 2000n);
  rings.drain();
  expect(rings.complete).toBe(true);
  expect(read).toEqual([2, 3]);
});

test("what a thread commits late is read, unless it took a second", () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 1_000_000_000n;
  withClock((clock) => {
    const commit = writers[0]!.claim(1, start);
    writers[0]!.write(2, start + 1000n);
    writers[1]!.write(3, start + 2000n);
    for (let round = 0; round < 900; round++) {
      rings.drain();
      clock.ms += 1;
    }
    // Others are not kept waiting; what is behind the slot is.
    expect([rings.complete, read]).toEqual([true, [3]]);
    commit();
    rings.drain();
    expect([rings.complete, read]).toEqual([true, [3, 1, 2]]);
    expect([rings.badRecords, rings.lostRecords()]).toEqual([0, 0]);
  });
});

test("slots that are filled slowly, one after the other, keep nobody waiting for long", () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 10_000_000_000n;
  const [slow, honest] = writers;
  withClock((clock) => {
    const commits = Array.from({ length: 40 }, (_, n) => slow!.claim(2 * n, start + BigInt(n)));
    let heldMs = 0;
    let longestMs = 0;
    let atOnceMs = 0;
    for (let ms = 0; ms < 5000; ms++, clock.ms++) {
      // Never so late that a slot is given up for itself.
      if (ms % 70 === 69) {
        commits.shift()!();
        commits.push(slow!.claim(1000 + 2 * ms, start + BigInt(ms)));
      }
      if (ms % 10 === 0) honest!.write(2 * ms + 1, start + BigInt(ms));
      rings.drain();
      atOnceMs = rings.complete ? 0 : atOnceMs + 1;
      longestMs = Math.max(longestMs, atOnceMs);
      if (!rings.complete) heldMs++;
    }
    expect(longestMs).toBeLessThanOrEqual(200);
    expect(heldMs).toBeLessThan(200 + 0.3 * 5000);
    // Of the honest one everything, and of the other what it filled.
    expect(read.filter((port) => port % 2 === 1).length).toBe(500);
    expect(read.filter((port) => port % 2 === 0).length).toBe(71);
    // Patience comes back: a slot that is being filled is waited for again.
    for (const commit of commits) commit();
    for (let ms = 0; ms < 1000; ms++, clock.ms++) rings.drain();
    slow!.claim(1, start);
    rings.drain();
    expect(rings.complete).toBe(false);
  });
});

/** Drains as a collector does that looks each 10 ms, by a clock of the test's own, until it is told. */
function drainUntil(rings: Rings, isOver: () => boolean): number {
  const { now } = performance;
  let sinceMs = 0;
  performance.now = () => sinceMs;
  try {
    for (; !isOver() && sinceMs < 60_000; sinceMs += 10) rings.drain();
  } finally {
    performance.now = now;
  }
  return sinceMs;
}

for (const count of [1, 2]) {
  test(`a record that is never finished is given up, its slot used no more (${count} rings)`, () => {
    const { rings, writers, read } = open(count);
    const [writer] = writers;
    const abandoned: number[] = [];
    rings.onAbandoned = (pid) => abandoned.push(pid);
    const start = nowNs() - 5_000_000_000n;
    writer!.write(1, start);
    const late = writer!.claim(2, start + 1000n);
    writer!.write(3, start + 2000n);
    const waitedMs = drainUntil(rings, () => read.length === 2);
    expect(read).toEqual([1, 3]);
    expect(waitedMs).toBeWithin(1000, 2000);
    expect([abandoned, rings.lostRecords(), rings.badRecords]).toEqual([[process.pid], 1, 1]);
    // Three laps, and the thread finishes its record all the same: once, in the middle of them.
    for (let port = 4; port < 4 + 3 * SLOTS; port++) {
      if (port === 4 + SLOTS * 1.5) late();
      writer!.write(port, start + BigInt(port) * 1000n);
      if (port % 5 === 0) rings.drain();
    }
    rings.drain();
    expect(rings.complete).toBe(true);
    expect(read).toEqual([1, ...Array.from({ length: 1 + 3 * SLOTS }, (_, i) => 3 + i)]);
    expect([rings.lostRecords(), rings.badRecords, rings.pressure()]).toEqual([1, 1, 0]);
    // Another collector that goes on with this ring passes over the slot too.
    const heir = new Ring(writer!.mapping, process.pid);
    const slot = new Uint32Array(SLOT_WORDS);
    for (let port = 0; port < SLOTS; port++) {
      writer!.write(port, start);
      expect(heir.backlog()).toBeGreaterThan(0);
      expect([heir.next(slot), slot[SlotWord.off]]).toEqual([true, port]);
      heir.publish();
    }
    expect(heir.backlog()).toBe(0);
  });
}

test("while a ring fills up, a record that is not finished is given up sooner", () => {
  const { rings, writers, read } = open(1);
  const start = nowNs() - 5_000_000_000n;
  writers[0]!.claim(1, start);
  for (let port = 2; port < SLOTS; port++) writers[0]!.write(port, start + BigInt(port));
  expect(drainUntil(rings, () => read.length > 0)).toBeWithin(100, 200);
});

test("a collector that has not looked for a while gives nothing up for that", () => {
  const { rings, writers, read } = open(1);
  const { now } = performance;
  const commit = writers[0]!.claim(1, nowNs() - 5_000_000_000n);
  performance.now = () => 0;
  try {
    rings.drain();
    performance.now = () => 3_600_000;
    for (let look = 0; look < 3; look++) rings.drain();
  } finally {
    performance.now = now;
  }
  commit();
  rings.drain();
  expect([read, rings.lostRecords()]).toEqual([[1], 0]);
});

test("so many slots are given up, and no more", () => {
  const { rings, writers } = open(1);
  const start = nowNs() - 5_000_000_000n;
  for (let n = 0; n < SLOTS; n++) writers[0]!.claim(n, start);
  drainUntil(rings, () => false);
  expect(rings.lostRecords()).toBe(SLOTS / 4);
});
