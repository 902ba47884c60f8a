// The calls of one direction, put into order: gaps, groups, and what is made of lost neighbours.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Call, Calls, MATCHABLE } from "../../src/match/calls.ts";
import { Reason } from "../../src/output/reasons.ts";

function add(calls: Calls, off: number, bytes: number, group = 0, timeNs = off): boolean {
  return calls.add(off, bytes, timeNs, 3, 100, group > 0, group);
}

/** [end, reason] of what reached the queue. */
function booked(calls: Calls): [number, number][] {
  const { queue } = calls;
  return Array.from({ length: queue.length }, (_, p) => {
    const at = queue.at(p);
    return [queue.values[at + Call.end]!, queue.values[at + Call.reason]!];
  });
}

describe("order", () => {
  test("records come in any order, the queue is in the order of the stream", () => {
    const calls = new Calls();
    expect(add(calls, 10, 5)).toBe(true);
    expect(add(calls, 15, 1)).toBe(true);
    expect(calls.waiting).toBe(2);
    expect(booked(calls)).toEqual([]);
    expect(add(calls, 0, 10)).toBe(true);
    expect(booked(calls)).toEqual([[10, MATCHABLE], [15, MATCHABLE], [16, MATCHABLE]]);
    expect([calls.waiting, calls.edge, calls.count, calls.bytes]).toEqual([0, 16, 3, 16]);
  });

  test("what contradicts the records before it is refused", () => {
    const calls = new Calls();
    add(calls, 0, 10);
    expect(add(calls, 0, 10)).toBe(false);
    expect(add(calls, 9, 5)).toBe(false);
    add(calls, 20, 10);
    expect(add(calls, 25, 1)).toBe(false);
    expect(add(calls, 15, 6)).toBe(false);
    expect(add(calls, 15, 5)).toBe(true);
    expect(add(calls, 10, 5)).toBe(true);
    expect(calls.edge).toBe(30);
  });

  test("also where it is next, and reaches into one that waits", () => {
    const calls = new Calls();
    add(calls, 10, 5);
    expect(add(calls, 0, 11)).toBe(false);
    expect(add(calls, 0, 12, 1)).toBe(false);
    expect(add(calls, 0, 10)).toBe(true);
    expect([calls.edge, calls.waiting]).toEqual([15, 0]);
  });

  test("whatever records claim, the gaps between them come to an end", () => {
    const bytesOf = fc.integer({ min: 1, max: 12 });
    const record = fc.tuple(fc.nat(40), bytesOf, fc.integer({ min: 0, max: 2 }));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 30 }), (records) => {
        const calls = new Calls();
        let bytes = 0;
        for (const [off, length, group] of records) {
          if (add(calls, off, length, group)) bytes += length;
        }
        for (let n = 0; calls.waiting > 0; n++) {
          expect(n).toBeLessThanOrEqual(records.length);
          calls.skipGap(Reason.ringDrop);
        }
        calls.release();
        const lost = booked(calls).reduce(
          (sum, [end, reason], i, all) =>
            sum + (reason === Reason.ringDrop ? end - (all[i - 1]?.[0] ?? 0) : 0),
          0,
        );
        expect([calls.edge, calls.bytes]).toEqual([bytes + lost, bytes + lost]);
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  test("the time of the oldest record that waits", () => {
    const calls = new Calls();
    expect(calls.waitingSinceNs).toBe(Infinity);
    add(calls, 50, 1, 0, 500);
    add(calls, 10, 1, 0, 700);
    expect(calls.waitingSinceNs).toBe(500);
  });

  test("a gap is booked up to the first record that waits, and counts no call", () => {
    const calls = new Calls();
    add(calls, 10, 5);
    calls.skipGap(Reason.ringDrop);
    expect(booked(calls)).toEqual([[10, Reason.ringDrop], [15, MATCHABLE]]);
    expect([calls.count, calls.bytes]).toEqual([1, 15]);
    calls.skipGap(Reason.ringDrop);
    expect(calls.edge).toBe(15);
  });

  test("where offsets prove nothing any more, no call has a time, also one that is next", () => {
    for (const ahead of [false, true]) {
      const calls = new Calls();
      add(calls, 0, 10);
      if (ahead) add(calls, 50, 10);
      calls.forgetOrder();
      expect(add(calls, calls.edge, 5)).toBe(true);
      expect(add(calls, 3, 5)).toBe(true);
      expect(add(calls, calls.edge, 5)).toBe(true);
      const reasons = booked(calls).map(([, reason]) => reason);
      expect(reasons).toEqual([MATCHABLE, ...Array<number>(reasons.length - 1).fill(Reason.concurrent)]);
      expect(reasons.length).toBe(ahead ? 5 : 4);
    }
  });

  test("offsets beyond 4 GiB", () => {
    const calls = new Calls();
    for (let i = 0; i < 5; i++) add(calls, i * 0x80000000, 0x80000000);
    expect(calls.edge).toBe(5 * 2 ** 31);
  });
});

describe("groups of calls that overlapped", () => {
  test("of two that moved bytes neither has a time", () => {
    const calls = new Calls();
    add(calls, 0, 10, 1);
    expect([calls.held, calls.known, calls.edge]).toEqual([1, 10, 0]);
    add(calls, 10, 10, 1);
    // The second decides: what follows of the group does not wait for its end.
    expect([calls.held, calls.known, calls.edge]).toEqual([0, 20, 20]);
    expect(calls.open).toBe(true);
    add(calls, 20, 10, 1);
    add(calls, 30, 10, 2);
    add(calls, 40, 5);
    expect(calls.open).toBe(false);
    expect(booked(calls)).toEqual([
      [10, Reason.concurrent],
      [20, Reason.concurrent],
      [30, Reason.concurrent],
      [40, MATCHABLE],
      [45, MATCHABLE],
    ]);
  });

  test("one that alone moved bytes has a time", () => {
    const calls = new Calls();
    add(calls, 0, 10, 1);
    add(calls, 10, 10, 2);
    calls.release();
    expect(booked(calls)).toEqual([[10, MATCHABLE], [20, MATCHABLE]]);
  });

  test("beside a lost record, it may have had company", () => {
    const before = new Calls();
    add(before, 0, 10, 1);
    before.skipTo(20, Reason.ringDrop);
    expect(booked(before)).toEqual([[10, Reason.concurrent], [20, Reason.ringDrop]]);
    const behind = new Calls();
    behind.skipTo(20, Reason.ringDrop);
    add(behind, 20, 10, 1);
    expect(behind.open).toBe(true);
    behind.release();
    expect(booked(behind)).toEqual([[20, Reason.ringDrop], [30, Reason.concurrent]]);
  });

  test("a call that was alone does not care what was lost beside it", () => {
    const calls = new Calls();
    add(calls, 20, 10);
    calls.skipGap(Reason.ringDrop);
    calls.skipTo(40, Reason.ringDrop);
    expect(booked(calls).map(([, reason]) => reason)).toEqual([
      Reason.ringDrop,
      MATCHABLE,
      Reason.ringDrop,
    ]);
  });

  test("the doubt ends with the group", () => {
    const calls = new Calls();
    calls.skipTo(5, Reason.ringDrop);
    add(calls, 5, 5, 1);
    add(calls, 10, 5, 2);
    calls.release();
    expect(booked(calls)).toEqual([
      [5, Reason.ringDrop],
      [10, Reason.concurrent],
      [15, MATCHABLE],
    ]);
  });

  test("a call that was cut off may have been of the group", () => {
    const calls = new Calls();
    add(calls, 0, 10, 1);
    calls.doubt();
    calls.release();
    expect(booked(calls)).toEqual([[10, Reason.concurrent]]);
    calls.doubt();
    add(calls, 10, 10, 2);
    calls.release();
    expect(booked(calls)[1]).toEqual([20, MATCHABLE]);
  });
});

test("records whose predecessor never comes are given up in time", () => {
  const calls = new Calls();
  for (let n = 1; n <= 10_000; n++) {
    expect(add(calls, n * 2, 2)).toBe(true);
    expect(calls.waiting).toBeLessThanOrEqual(4096);
  }
  expect(booked(calls).slice(0, 2)).toEqual([[2, Reason.ringDrop], [4, MATCHABLE]]);
  expect([calls.edge, calls.waiting, calls.count]).toEqual([20_002, 0, 10_000]);
});
