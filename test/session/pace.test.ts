// How long the collector rests: by what it asks of the timer, not by the clock.

import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { Constant } from "../../src/ring/layout.ts";
import { Pace } from "../../src/session/pace.ts";

/** Calls a second that a ring of the default size holds, also after idleness (src/session/pace.ts). */
const CALLS_A_SECOND = 650_000;
const CALLS_A_MS = CALLS_A_SECOND / 1000;

let rests: number[];
let timer: { mockRestore(): void };
/** Whether rests end by themselves. */
let ends: boolean;

beforeEach(() => {
  ends = true;
  timer = spyOn(globalThis, "setTimeout").mockImplementation(((done: () => void, ms: number) => {
    rests.push(ms);
    if (ends) queueMicrotask(done);
    return 0;
  }) as unknown as typeof setTimeout);
});

afterEach(() => timer.mockRestore());

/** Rests as after so many rounds; the longest that was asked for, ms, 0 if none was. */
async function rest(pace: Pace, rounds: number, busy: boolean, fill: number, hurried = false): Promise<number> {
  rests = [];
  for (let round = 0; round < rounds; round++) await pace.rest(busy, fill, hurried);
  return Math.max(0, ...rests);
}

test("however long nothing came, a ring holds what comes until the next round", async () => {
  const pace = new Pace();
  const longestMs = await rest(pace, 2000, false, 0);
  expect(pace.isIdle).toBe(true);
  expect(longestMs).toBeGreaterThan(20);
  expect(longestMs * CALLS_A_MS).toBeLessThanOrEqual(Constant.slotsDefault);
});

test("a ring that fills is read without a rest, also right after idleness", async () => {
  const pace = new Pace();
  await rest(pace, 2000, false, 0);
  // What came in the longest rest: from now on there is none.
  expect(await rest(pace, 3, true, 1)).toBe(0);
  expect(pace.isIdle).toBe(false);
  // A rest between rounds that bring something is one in which a ring fills by no more than the share
  // above which there is none.
  for (const fill of [1 / 16, 1 / 64, 0]) {
    const lightMs = await rest(pace, 3, true, fill);
    expect(lightMs * CALLS_A_MS).toBeLessThanOrEqual(Constant.slotsDefault / 16);
  }
  expect(await rest(pace, 3, true, 1 / 16 + 1e-6)).toBe(0);
});

test("who waits for an answer gets it within a few milliseconds, also out of idleness", async () => {
  const pace = new Pace();
  await rest(pace, 2000, false, 0);
  expect(await rest(pace, 200, false, 0, true)).toBeLessThanOrEqual(5);
  // The end of the command is not slept through.
  ends = false;
  const resting = pace.rest(false, 0, false);
  pace.wake();
  await resting;
});
