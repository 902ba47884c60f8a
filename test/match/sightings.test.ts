// One direction of one connection on the wire: what the property tests cannot reach, or what is
// worth a name.

import { describe, expect, test } from "bun:test";
import { MATCHABLE } from "../../src/match/calls.ts";
import { MAX_RANGES, Seen, Sightings } from "../../src/match/sightings.ts";
import { Reason } from "../../src/output/reasons.ts";

const FIRST = 0xfffffff0;

function make(): { seen: Sightings; drops: { now: number; drained: number } } {
  return { seen: new Sightings(FIRST, 0), drops: { now: 0, drained: 0 } };
}

/** [end, time, inorder, reason] of what is queued. */
function queued(seen: Sightings): number[][] {
  return Array.from({ length: seen.queue.length }, (_, p) => {
    const at = seen.queue.at(p);
    return [...seen.queue.values.subarray(at, at + Seen.stride)];
  });
}

const at = (offset: number): number => (FIRST + offset) >>> 0;

describe("sequence numbers", () => {
  test("wrap, and count on beyond 4 GiB", () => {
    const { seen, drops } = make();
    const step = 2 ** 30;
    for (let i = 0; i < 6; i++) seen.segment(at((i * step) % 2 ** 32), step, i, 1, drops);
    expect([seen.edge, seen.high]).toEqual([6 * step, 6 * step]);
    expect(seen.offsetOf(at((6 * step) % 2 ** 32))).toBe(6 * step);
  });

  test("farther than any window are not of this connection", () => {
    const { seen, drops } = make();
    expect(seen.segment(at(2 ** 30 + 1), 1, 1, 1, drops)).toBe(false);
    expect(seen.segment(at(-(2 ** 30) - 10), 1, 1, 1, drops)).toBe(false);
    expect(seen.segment(at(2 ** 30), 1, 1, 1, drops)).toBe(true);
    expect([seen.edge, seen.high, seen.holes]).toEqual([0, 2 ** 30 + 1, 1]);
  });

  test("a keep-alive probe repeats the byte before the window, first of all the SYN", () => {
    const { seen, drops } = make();
    seen.segment(at(-1), 1, 1, 1, drops);
    expect([seen.edge, seen.high, seen.retransmitted]).toEqual([0, 0, 0]);
    seen.segment(at(0), 10, 2, 1, drops);
    seen.segment(at(9), 1, 3, 1, drops);
    expect([seen.edge, seen.retransmitted]).toEqual([10, 1]);
  });

  test("a segment that begins before the first byte", () => {
    const { seen, drops } = make();
    seen.segment(at(-1), 11, 5, 1, drops);
    expect(queued(seen)).toEqual([[10, 5, 5, MATCHABLE]]);
    expect(seen.retransmitted).toBe(0);
  });
});

describe("holes", () => {
  test("a fill is the first transmission where nothing was dropped", () => {
    const { seen, drops } = make();
    seen.segment(at(10), 10, 1, 1, drops);
    seen.segment(at(30), 10, 2, 1, drops);
    seen.segment(at(0), 40, 3, 1, drops);
    expect(queued(seen)).toEqual([
      [10, 3, 3, MATCHABLE],
      [20, 1, 3, MATCHABLE],
      [30, 3, 3, MATCHABLE],
      [40, 2, 3, MATCHABLE],
    ]);
    expect(seen.retransmitted).toBe(20);
  });

  test("with drops in between it may be a repetition", () => {
    const { seen, drops } = make();
    seen.segment(at(0), 10, 1, 1, drops);
    drops.now = 1;
    seen.segment(at(20), 10, 2, 1, drops);
    seen.segment(at(10), 10, 3, 1, drops);
    expect(queued(seen)[1]).toEqual([20, 3, 3, Reason.captureDrop]);
    // The buffer was empty since: what comes now is after all drops.
    drops.drained = 1;
    seen.segment(at(30), 10, 4, 1, drops);
    seen.segment(at(50), 10, 5, 1, drops);
    seen.segment(at(40), 10, 6, 1, drops);
    expect(queued(seen)[4]).toEqual([50, 6, 6, MATCHABLE]);
  });

  test("an acknowledgment closes the holes that it covers, and no others", () => {
    const { seen, drops } = make();
    seen.segment(at(10), 10, 1, 1, drops);
    seen.segment(at(30), 10, 2, 1, drops);
    seen.acknowledge(at(9), drops);
    expect(seen.edge).toBe(0);
    seen.acknowledge(at(10), drops);
    expect(queued(seen)).toEqual([[10, 0, 0, Reason.unseen], [20, 1, 1, MATCHABLE]]);
    drops.now = 2;
    seen.acknowledge(at(40), drops);
    expect(queued(seen)[2]).toEqual([30, 0, 0, Reason.captureDrop]);
    expect(seen.holes).toBe(0);
  });

  test("what was acknowledged before it was sighted had passed before", () => {
    const { seen, drops } = make();
    seen.acknowledge(at(15), drops);
    seen.segment(at(0), 20, 9, 1, drops);
    expect(queued(seen)).toEqual([[15, 0, 0, Reason.unseen], [20, 9, 9, MATCHABLE]]);
    expect(seen.retransmitted).toBe(15);
  });

  test("at the end each hole has its own reason", () => {
    const { seen, drops } = make();
    seen.segment(at(10), 10, 1, 1, drops);
    drops.drained = drops.now = 1;
    seen.segment(at(20), 10, 2, 1, drops);
    seen.segment(at(40), 10, 3, 1, drops);
    seen.bookMissed(60, drops);
    expect(queued(seen).map(([end, , , reason]) => [end, reason])).toEqual([
      [10, Reason.captureDrop],
      [20, MATCHABLE],
      [30, MATCHABLE],
      [40, Reason.unseen],
      [50, MATCHABLE],
      [60, Reason.unseen],
    ]);
  });

  test("bytes beyond a hole are counted without the hole", () => {
    const { seen, drops } = make();
    seen.segment(at(10), 10, 1, 1, drops);
    seen.segment(at(30), 5, 2, 1, drops);
    const ahead: [number, number][] = [];
    seen.forEachAhead((bytes, timeNs) => ahead.push([bytes, timeNs]));
    expect(ahead).toEqual([[10, 1], [5, 2]]);
    expect(seen.edge).toBe(0);
  });
});

describe("devices", () => {
  test("another device shows the same bytes again, which repeats nothing", () => {
    const { seen, drops } = make();
    seen.segment(at(0), 10, 1, 1, drops);
    seen.segment(at(0), 10, 2, 2, drops);
    expect(seen.retransmitted).toBe(0);
    seen.segment(at(0), 10, 3, 1, drops);
    expect(seen.retransmitted).toBe(10);
    expect(queued(seen)).toEqual([[10, 1, 1, MATCHABLE]]);
  });
});

describe("resets", () => {
  test("only one whose number is next is believed", () => {
    const { seen, drops } = make();
    seen.segment(at(0), 100, 1, 1, drops);
    seen.acknowledge(at(40), drops);
    expect([40, 100, 101].map((offset) => seen.isNext(at(offset)))).toEqual([true, true, true]);
    expect([39, -1, 2 ** 29, 2 ** 31].map((offset) => seen.isNext(at(offset)))).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
});

describe("bounds", () => {
  test("of thousands of open holes the first is given up, and the books stay whole", () => {
    const { seen, drops } = make();
    for (let i = 0; i < 5000; i++) seen.segment(at(10 + i * 10), 5, i, 1, drops);
    expect(seen.holes).toBeLessThanOrEqual(4096);
    expect(queued(seen)[0]).toEqual([10, 0, 0, Reason.overflow]);
    seen.bookMissed(seen.high, drops);
    const ends = queued(seen).map(([end]) => end!);
    expect(ends).toEqual([...ends].sort((a, b) => a - b));
    expect([seen.edge, seen.high, seen.holes]).toEqual([50_005, 50_005, 0]);
  });

  test("times that no call fetches are given up, the older half first", () => {
    const { seen, drops } = make();
    for (let i = 0; i <= MAX_RANGES; i++) seen.segment(at(i * 2), 2, i, 1, drops);
    expect(seen.queue.length).toBe(MAX_RANGES / 2 + 1);
    const [end, , , reason] = queued(seen)[0]!;
    expect([end, reason]).toEqual([MAX_RANGES + 2, Reason.overflow]);
    expect(seen.edge).toBe((MAX_RANGES + 1) * 2);
  });

  test("what was passed over is booked once a socket comes", () => {
    const { seen, drops } = make();
    seen.pass(at(0), 10);
    seen.pass(at(20), 10);
    seen.pass(at(0), 10);
    seen.bookUnborn(Reason.unborn);
    expect(queued(seen)).toEqual([[30, 0, 0, Reason.unborn]]);
    seen.segment(at(30), 5, 7, 1, drops);
    expect(queued(seen)[1]).toEqual([35, 7, 7, MATCHABLE]);
  });

  test("what was kept and then forgotten, too", () => {
    const { seen, drops } = make();
    seen.segment(at(0), 10, 1, 1, drops);
    seen.segment(at(20), 10, 2, 1, drops);
    seen.forget();
    seen.pass(at(30), 5);
    seen.bookUnborn(Reason.unborn);
    expect(queued(seen)).toEqual([[35, 0, 0, Reason.unborn]]);
  });
});
