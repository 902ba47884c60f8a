// How many samples are not above a value, for the distributions. It rises in steps, and only where
// that number is exact: at each value while every sample is kept, else at the end of each bucket.

import { bucketEdges } from "./axes.ts";
import type { Direction, Series } from "./model.ts";

export interface Rise {
  readonly value: number;
  /** Samples that are not above it, this rise's among them. */
  readonly passed: number;
}

/** Rising; the last one is the greatest value with all samples. */
export function risesOf({ all, points }: Series, direction: Direction): Rise[] {
  const rises: Rise[] = [];
  let passed = 0;
  if (points !== null) {
    const own = points.filter((point) => point.direction === direction);
    const values = own.map(({ value }) => value).sort((a, b) => a - b);
    for (const [i, value] of values.entries()) {
      if (value !== values[i + 1]) rises.push({ value, passed: i + 1 });
    }
    return rises;
  }
  const histogram = all[direction];
  histogram.forEachBucket((bucket, weight) => {
    passed += weight;
    rises.push({ value: bucketEdges(histogram, bucket).high, passed });
  });
  return rises;
}

/** What was put together, for the note under a distribution. */
export function stepsText({ points }: Series): string {
  return points !== null
    ? "each value has a step of its own."
    : "values are put together in steps of at most 1.6 %, the least and the greatest are exact.";
}
