// The histogram against the exact quantiles of the sorted values.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { BUCKETS, bucketLow, bucketWidth, Histogram } from "../../src/output/histogram.ts";

type Sample = readonly [value: number, weight: number];

/** Whole values in all octaves alike: what a uniform choice below 2^53 would hardly ever hit. */
const value = fc
  .tuple(
    fc.integer({ min: 0, max: 52 }),
    fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  )
  .map(([bits, share]) => Math.floor(2 ** bits * (1 + share)) - (bits === 0 ? 1 : 0))
  // The sum is rounded: a share next to 1 can give 2^53, which is no valid time.
  .map((each) => Math.min(each, Number.MAX_SAFE_INTEGER));
const weight = fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 65536 }));
const samples = fc.array(fc.tuple(value, weight), { maxLength: 300 });
const QUANTILES = [0.001, 0.1, 0.5, 0.9, 0.99, 0.999];

function filled(list: readonly Sample[]): Histogram {
  const histogram = new Histogram();
  for (const [each, count] of list) histogram.record(each, count);
  return histogram;
}

function exactQuantile(list: readonly Sample[], q: number): number {
  const sorted = [...list].sort((a, b) => a[0] - b[0]);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  let passed = 0;
  for (const [each, count] of sorted) {
    passed += count;
    if (passed >= q * total) return each;
  }
  return sorted.at(-1)![0];
}

function contents(histogram: Histogram): unknown {
  const buckets: number[][] = [];
  histogram.forEachBucket((bucket, count) => buckets.push([bucket, count]));
  const { count, min, max } = histogram;
  return { buckets, count, min, max };
}

test("quantiles are within 1 % of the exact ones; the ends and the mean are exact", () => {
  fc.assert(
    fc.property(samples, (list) => {
      const histogram = filled(list);
      if (list.length === 0) {
        expect([histogram.min, histogram.max, histogram.mean, histogram.quantile(0.5)]).toEqual([
          null,
          null,
          null,
          null,
        ]);
        return;
      }
      const values = list.map(([each]) => each);
      const total = list.reduce((sum, [, count]) => sum + count, 0);
      expect(histogram.count).toBe(total);
      expect(histogram.min).toBe(Math.min(...values));
      expect(histogram.max).toBe(Math.max(...values));
      expect(histogram.quantile(0)).toBe(Math.min(...values));
      expect(histogram.quantile(1)).toBe(Math.max(...values));
      const mean = list.reduce((sum, [each, count]) => sum + each * count, 0) / total;
      expect(Math.abs(histogram.mean! - mean)).toBeLessThanOrEqual(mean * 1e-12);
      for (const q of QUANTILES) {
        const exact = exactQuantile(list, q);
        expect(Math.abs(histogram.quantile(q)! - exact)).toBeLessThanOrEqual(exact / 128);
      }
    }),
    { numRuns: 500 },
  );
});

test("merge is the union", () => {
  fc.assert(
    fc.property(samples, samples, (left, right) => {
      const merged = filled(left);
      merged.merge(filled(right));
      expect(contents(merged)).toEqual(contents(filled([...left, ...right])));
    }),
    { numRuns: 300 },
  );
});

test("reset empties, and what follows is as in a new one", () => {
  fc.assert(
    fc.property(samples, samples, (before, after) => {
      const histogram = filled(before);
      histogram.reset();
      expect(contents(histogram)).toEqual(contents(new Histogram()));
      for (const [each, count] of after) histogram.record(each, count);
      expect(contents(histogram)).toEqual(contents(filled(after)));
    }),
  );
});

test("restore is the inverse of forEachBucket", () => {
  fc.assert(
    fc.property(samples, (list) => {
      const histogram = filled(list);
      const buckets: [number, number][] = [];
      histogram.forEachBucket((bucket, count) => buckets.push([bucket, count]));
      const { min, max, sum } = histogram;
      const restored = Histogram.restore(buckets, min ?? 0, max ?? 0, sum);
      expect(contents(restored)).toEqual(contents(histogram));
      expect(restored.mean).toBe(histogram.mean);
    }),
  );
});

test("every bucket holds its least and its greatest value, and they meet without a gap", () => {
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const low = bucketLow(bucket);
    const high = low + bucketWidth(bucket) - 1;
    for (const each of [low, high]) {
      const histogram = new Histogram();
      histogram.record(each, 1);
      histogram.forEachBucket((found) => expect(found).toBe(bucket));
    }
    if (bucket + 1 < BUCKETS) expect(bucketLow(bucket + 1)).toBe(high + 1);
  }
  expect(bucketLow(BUCKETS - 1) + bucketWidth(BUCKETS - 1)).toBe(2 ** 53);
});

test("what is no time is refused, and counted as refused", () => {
  const histogram = new Histogram();
  histogram.record(-1, 5);
  histogram.record(Number.NaN, 6);
  histogram.record(Infinity, 7);
  histogram.record(2 ** 53, 8);
  expect(histogram.refused).toBe(26);
  expect(contents(histogram)).toEqual(contents(new Histogram()));
});

test("a mean is never beyond the extremes, also where the sum was rounded", () => {
  for (let weight = 1; weight < 200; weight++) {
    const histogram = new Histogram();
    histogram.record(2 ** 53 - 1, weight);
    histogram.record(2 ** 53 - 1, 1);
    expect(histogram.mean).toBe(2 ** 53 - 1);
  }
});
