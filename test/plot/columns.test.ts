// Time in columns: bounded, and nothing lost, in whatever order the samples come.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { Histogram } from "../../src/output/histogram.ts";
import { Columns } from "../../src/plot/columns.ts";
import { IN, MOST_NAMES, MOST_POINTS, OUT, PlotModel } from "../../src/plot/model.ts";
import { drawnColumns } from "../../src/plot/pages/over-time.ts";

test("at most 1,024 columns, whatever the times: each value is in the one of its time", () => {
  const micros = fc.integer({ min: -1e12, max: 1e12 }).map((count) => count / 1e6);
  const times = fc.array(fc.tuple(micros, fc.nat(1e9)), {
    minLength: 1,
    maxLength: 3000,
    size: "max",
  });
  fc.assert(
    fc.property(times, fc.integer({ min: 1, max: 300 }), (samples, most) => {
      const columns = new Columns();
      const all = new Histogram();
      for (const [at, value] of samples) {
        columns.add(at, value);
        all.record(value, 1);
      }
      expect(columns.size).toBeLessThanOrEqual(1024);
      const sum = new Histogram();
      const { widthSec, columns: merged } = columns.merged(2e6 / most);
      expect(merged.length).toBeLessThanOrEqual(most + 2);
      for (const [, histogram] of merged) sum.merge(histogram);
      expect([sum.count, sum.sum, sum.min, sum.max]).toEqual([
        all.count,
        all.sum,
        all.min,
        all.max,
      ]);
      const keys = merged.map(([key]) => key);
      const wanted = new Set(samples.map(([at]) => Math.floor(at / widthSec)));
      expect(keys).toEqual([...wanted].sort((a, b) => a - b));
    }),
    { numRuns: 60 },
  );
});

test("both directions are drawn in columns of one width, however far apart their own are", () => {
  const model = new PlotModel();
  for (let i = 0; i < 5000; i++) model.addTime(OUT, i * 60, i, 0);
  model.addTime(IN, 5, 7, 0);
  const { widthSec, of } = drawnColumns(model.times, 100);
  expect(of[OUT].length).toBeLessThanOrEqual(101);
  expect(of[OUT].reduce((sum, [, histogram]) => sum + histogram.count, 0)).toBe(5000);
  expect(of[IN]).toHaveLength(1);
  expect(of[IN][0]![0]).toBe(Math.floor(5 / widthSec));
});

test("single samples are kept as long as they are few, and names too", () => {
  const model = new PlotModel();
  for (let i = 0; i < MOST_POINTS; i++) model.addTime(OUT, i, i, i);
  expect(model.times.points).toHaveLength(MOST_POINTS);
  model.addTime(IN, 0, 1, 0);
  expect(model.times.points).toBeNull();
  expect(model.names).toHaveLength(MOST_NAMES);
  expect(model.otherNames[OUT].count).toBe(MOST_POINTS - MOST_NAMES);
});

test("what is no time is counted and in nothing else", () => {
  const model = new PlotModel();
  model.addTime(OUT, 0, -5, 0);
  model.addTime(OUT, Number.NaN, 5, 0);
  model.addTime(IN, 0, Number.NaN, 0);
  expect([model.times.refused, model.times.count, model.names.length]).toEqual([3, 0, 0]);
});
