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

function timeTicks(axis: TimeAxis): { title: string; values: number[] } {
  return axis.encoding(true, "still").axis as unknown as { title: string; values: number[] };
}

test("a part of a run counts from the run's start, in what `--since +30s` takes", () => {
  const axis = new TimeAxis(1795435635.5, 1, 31, 32);
  expect(axis.at(31)).toBe(30);
  const { title, values } = timeTicks(axis);
  expect(title).toBe("time since 2026-11-23 12:07:16.500 UTC, in s");
  expect(values[0]).toBeCloseTo(30, 9);
  expect(values.length).toBeGreaterThan(3);
});

test("a short part that is late counts from a round time, which the title names", () => {
  const axis = new TimeAxis(1795435635.5, 1, 32.834_41, 32.834_46);
  const { title, values } = timeTicks(axis);
  expect(title).toBe("time since 2026-11-23 12:07:16.500 UTC + 31.8344 s, in µs");
  expect(values.map((tick) => Math.round(tick * 1000) / 1000)).toEqual([10, 20, 30, 40, 50, 60]);
  expect(axis.at(32.834_42)).toBeCloseTo(20, 6);
  // What is pointed at is told since the start: as --since takes it.
  expect(axis.expression("t")).toBe("format(t / 1000000 + 31.8344, '.12~r') + ' s'");
  expect(new TimeAxis(1795435635.5, 0, 1, 2).expression("t")).toBe("format(t, '.12~r') + ' s'");
});

test("a moment, and any part of a run, is between round ticks of few digits", () => {
  const part = fc.tuple(fc.double({ min: 0, max: 1e6, noNaN: true }), fc.integer({ min: -8, max: 2 }));
  fc.assert(
    fc.property(part, fc.boolean(), ([firstSec, exponent], isMoment) => {
      const lastSec = firstSec + (isMoment ? 0 : 3.7 * 10 ** exponent);
      const axis = new TimeAxis(0, 0, firstSec, lastSec);
      const { values } = timeTicks(axis);
      expect(values.length).toBeGreaterThan(isMoment ? 2 : 1);
      for (const tick of values) {
        expect(Math.abs(tick - Number(tick.toPrecision(6)))).toBeLessThanOrEqual(Math.abs(tick) * 1e-9);
      }
      const { domain } = axis.encoding(true, "still").scale as { domain: [number, number] };
      for (const sec of [firstSec, lastSec]) {
        expect(axis.at(sec)).toBeGreaterThanOrEqual(domain[0]);
        expect(axis.at(sec)).toBeLessThanOrEqual(domain[1]);
      }
    }),
    { numRuns: 2000 },
  );
  // Nothing is before the start.
  expect(timeTicks(new TimeAxis(0, 0, 0, 0)).values[0]).toBeCloseTo(0, 9);
});

test("a fitted axis begins near the least value, others at 0 unless that is far below it", () => {
  const extent = { least: 960_000, leastPositive: 1_960_000, greatest: 1_960_000 };
  expect(new ValueAxis("bytes", extent).low).toBe(0);
  const { low, high } = new ValueAxis("bytes", extent, true);
  expect([low, high]).toEqual([900_000, 2_000_000]);
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
