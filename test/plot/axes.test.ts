// Axes: whatever the data, it lies within, ticks too, and rows cut no bucket in two.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { bucketLow, BUCKETS, Histogram } from "../../src/output/histogram.ts";
import { extentOf, TimeAxis, ValueAxis } from "../../src/plot/axes.ts";

const values = fc.array(fc.oneof(fc.nat(1000), fc.nat(2 ** 31 - 1), fc.constant(0), fc.nat(1e15)), {
  minLength: 1,
  maxLength: 20,
});
const lows = new Set(Array.from({ length: BUCKETS }, (_, bucket) => bucketLow(bucket)));

function axisOf(samples: readonly number[]): ValueAxis {
  const histogram = new Histogram();
  for (const value of samples) histogram.record(value, 1);
  return new ValueAxis("time", extentOf([histogram, new Histogram()]));
}

test("an axis of values holds them all, with 2 to 20 ticks on it", () => {
  fc.assert(
    fc.property(values, (samples) => {
      const axis = axisOf(samples);
      expect(axis.low).toBeLessThanOrEqual(Math.min(...samples));
      expect(axis.high).toBeGreaterThanOrEqual(Math.max(...samples));
      expect(axis.high).toBeGreaterThan(axis.low);
      if (axis.kind === "log") expect(axis.low).toBeGreaterThan(0);
      const ticks = axis.ticks();
      expect(ticks.length).toBeGreaterThanOrEqual(2);
      expect(ticks.length).toBeLessThanOrEqual(20);
      expect(ticks).toEqual([...new Set(ticks)].sort((a, b) => a - b));
      expect(ticks[0]!).toBeGreaterThanOrEqual(axis.low * 0.999);
      expect(ticks[ticks.length - 1]!).toBeLessThanOrEqual(axis.high * 1.001);
    }),
    { numRuns: 2000 },
  );
});

test("where there is room for few labels, ticks are fewer", () => {
  fc.assert(
    fc.property(values, fc.integer({ min: 2, max: 12 }), (samples, most) => {
      const axis = axisOf(samples);
      // Whole decades are the coarsest ticks of a logarithmic axis.
      if (axis.kind === "symlog" || (axis.kind === "log" && axis.high / axis.low > 10 ** most)) return;
      const ticks = axis.ticks(most);
      const place = (tick: number): number =>
        axis.kind === "log"
          ? Math.log(tick / axis.low) / Math.log(axis.high / axis.low)
          : (tick - axis.low) / (axis.high - axis.low);
      for (let i = 1; i < ticks.length; i++) {
        expect(place(ticks[i]!) - place(ticks[i - 1]!)).toBeGreaterThan(0.99 / most);
      }
    }),
    { numRuns: 20_000 },
  );
  expect(axisOf([1e9, 1.9e12]).ticks(5)).toEqual([1e9, 1e10, 1e11, 1e12]);
  expect(axisOf([1e9, 4e10]).ticks(5)).toEqual([1e9, 3e9, 1e10, 3e10]);
});

test("rows rise, cover the axis, and begin where buckets begin", () => {
  fc.assert(
    fc.property(values, fc.integer({ min: 1, max: 60 }), (samples, count) => {
      const axis = axisOf(samples);
      const edges = axis.rows(count);
      expect(edges.length).toBeLessThanOrEqual(count + 2);
      expect(edges[0]!).toBeLessThanOrEqual(Math.min(...samples));
      expect(edges[edges.length - 1]).toBe(axis.high);
      edges.forEach((edge, i) => {
        if (i > 0) expect(edge).toBeGreaterThan(edges[i - 1]!);
        if (i < edges.length - 1) expect(lows.has(edge)).toBe(true);
      });
    }),
    { numRuns: 2000 },
  );
});

test("logarithmic where the data asks for it, with a place for zeros", () => {
  expect(axisOf([100, 200]).kind).toBe("linear");
  expect(axisOf([0, 100, 200]).kind).toBe("linear");
  expect(axisOf([100, 20000]).kind).toBe("log");
  expect(axisOf([0, 100, 20000]).kind).toBe("symlog");
  expect(axisOf([5]).low).toBe(0);
  expect([axisOf([0]).low, axisOf([0]).high]).toEqual([0, 1000]);
});

test("a part of a run counts from the run's start, in what `--since +30s` takes", () => {
  const axis = new TimeAxis(1795435635.5, 1, 31, 31.001);
  expect(axis.at(31)).toBe(30);
  const { title, values } = axis.encoding(true, "still").axis as {
    title: string;
    values: number[];
  };
  expect(title).toBe("time since 2026-11-23 12:07:16.500 UTC, in s");
  expect(values[0]).toBeCloseTo(30, 9);
  expect(values.length).toBeGreaterThan(3);
});

test("short runs count from their start, long ones show the clock; both name the zone", () => {
  const title = (spanSec: number): unknown =>
    (new TimeAxis(1795435635.5, 0, 0, spanSec).encoding(true, "still").axis as { title: string })
      .title;
  expect(title(0)).toBe("time since 2026-11-23 12:07:15.500 UTC, in µs");
  expect(title(1)).toBe("time since 2026-11-23 12:07:15.500 UTC, in ms");
  expect(title(60)).toBe("time since 2026-11-23 12:07:15.500 UTC, in s");
  expect(title(3 * 86400)).toBe("time of the day, UTC (from 2026-11-23)");
});
