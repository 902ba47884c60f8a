// What a flawless measurement of a fixture's transfer is held to, in one place for all the tests.

import { expect } from "bun:test";
import { IN, OUT } from "./calllog.ts";
import { judge, type End } from "./flow.ts";
import { directionOf, flaws } from "./kqtime.ts";
import type { Comparison } from "./truth.ts";

/** Everything exact: each line, each sum, coverage 1. Gives the comparison for further questions. */
export function expectExact(end: End): Comparison {
  const comparison = judge(end);
  expect(comparison.report()).toBe("");
  expect(comparison.calls).toBeGreaterThan(0);
  expect(end.seen.strays).toBe(0);
  if (!end.measurement) return comparison;
  expect(flaws(end.measurement)).toEqual([]);
  const summary = end.measurement.summary();
  for (const direction of [OUT, IN] as const) {
    const truth = end.calls.filter((stream) => stream.direction === direction);
    const books = directionOf(summary, direction);
    expect(books.bytesCalled).toBe(truth.reduce((sum, stream) => sum + stream.bytes, 0));
    expect(books.calls).toBe(truth.reduce((sum, stream) => sum + stream.calls.length, 0));
  }
  return comparison;
}

/** Bytes that the witness saw again, of the streams that the measured end sent or received. */
export function repeatedBytes(end: End, direction: typeof OUT | typeof IN): number {
  let sum = 0;
  for (const stream of end.calls) {
    if (stream.direction !== direction) continue;
    const [from, to] = direction === OUT
      ? [stream.lport, stream.rport]
      : [stream.rport, stream.lport];
    for (const seen of end.seen.between(from, to)) sum += seen.repeated;
  }
  return sum;
}
