// Distributions: steps, and at each of them the number of samples that are not above its value.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { risesOf, stepsText } from "../../src/plot/cumulative.ts";
import { Font } from "../../src/plot/fonts.ts";
import { IN, MOST_POINTS, OUT, Series } from "../../src/plot/model.ts";
import { drawPages } from "../../src/plot/pages.ts";
import { renderSvg } from "../../src/plot/svg.ts";
import { KINDS, makeCase } from "./cases.ts";

const value = fc.oneof(fc.nat(3), fc.nat(1000), fc.nat({ max: 2 ** 31 - 1 }));

test("property: every rise is exact, with few samples and with many", () => {
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 60 }), fc.boolean(), (values, many) => {
      const series = new Series();
      const repeats = many ? Math.ceil((MOST_POINTS + 1) / values.length) : 1;
      for (let i = 0; i < repeats; i++) for (const one of values) series.add(OUT, i, one);
      series.add(IN, 0, 5);
      const rises = risesOf(series, OUT);
      for (const { value, passed } of rises) {
        expect(passed).toBe(repeats * values.filter((one) => one <= value).length);
      }
      expect(rises.at(-1)).toEqual({ value: Math.max(...values), passed: repeats * values.length });
      if (!many) expect(rises.map((rise) => rise.value)).toEqual(
        [...new Set(values)].sort((a, b) => a - b),
      );
    }),
    { numRuns: 60 },
  );
});

test("what the note says of the steps holds with equal values too", () => {
  const series = new Series();
  for (const value of [7, 7, 9]) series.add(OUT, 0, value);
  expect(risesOf(series, OUT).length).toBe(2);
  expect(stepsText(series)).toBe("each value has a step of its own.");
});

test.each(["10 samples", "zeros", "nearly equal values", "seconds in three days"])(
  "the lines are level or upright, never slanted (%s)",
  async (name) => {
    const font = await Font.load();
    const { model, names } = makeCase(KINDS[name]!);
    const drawing = { model, font, use: "still", nameOf: (i: number) => names[i]!, remarks: [] } as const;
    for (const { id, spec } of drawPages(drawing, ["time-cdf", "length-cdf", "hdr"]).pages) {
      const { text } = await renderSvg(spec, font);
      const paths = [...text.matchAll(/<path [^>]*d="(M[^"]*)"[^>]*stroke-width="2"/g)]
        .map(([, path]) => [...path!.matchAll(/([ML])([-\d.e]+),([-\d.e]+)/g)])
        .filter((points) => points.length > 4);
      expect([id, paths.length]).toEqual([id, 2]);
      for (const points of paths) {
        for (let i = 1; i < points.length; i++) {
          const [from, to] = [points[i - 1]!, points[i]!];
          expect(from[2] === to[2] || from[3] === to[3], `${id}: ${from[0]} ${to[0]}`).toBe(true);
        }
      }
    }
  },
  20_000,
);
