// Every page of every kind of input: drawn, complete, readable, and nothing in it that was not
// counted.

import { beforeAll, describe, expect, test } from "bun:test";
import { Font } from "../../src/plot/fonts.ts";
import { drawPages, PAGE_IDS, type Source } from "../../src/plot/pages.ts";
import type { Use } from "../../src/plot/spec.ts";
import { KINDS, makeCase } from "./cases.ts";
import { lookAt } from "./looks.ts";

let font: Font;

beforeAll(async () => {
  font = await Font.load();
});

function drawing(name: string, use: Use): Source {
  const { model, names } = makeCase(KINDS[name]!);
  return {
    model,
    font,
    use,
    nameOf: (i) => names[i]!,
    remarks: [{ on: null, text: "12 of 10,012 lines were damaged and skipped." }],
  };
}

describe.each(Object.keys(KINDS))("%s", (name) => {
  test("every page: no text overlaps or is cut off, none is empty, all pages are of one size", async () => {
    const drawn = drawing(name, "still");
    const { pages, leftOut } = drawPages(drawn, null);
    expect([...pages, ...leftOut].map(({ id }) => id).sort()).toEqual([...PAGE_IDS].sort());
    expect(pages.length).toBeGreaterThan(0);
    const faults: string[] = [];
    for (const page of pages) {
      const looks = await lookAt(page.spec, font);
      faults.push(...looks.faults.map((fault) => `${page.id}: ${fault}`));
      const { widthPx, heightPx } = looks.svg;
      if (widthPx > 800 || heightPx > 620) faults.push(`${page.id}: ${widthPx} × ${heightPx}`);
      if (!looks.texts.some(({ text }) => text === page.title)) faults.push(`${page.id}: no title`);
      if (/NaN|undefined|Infinity/.test(looks.svg.text)) faults.push(`${page.id}: not a number`);
    }
    expect(faults).toEqual([]);
  }, 30_000);

  test("the interactive pages compile and draw as much", async () => {
    for (const page of drawPages(drawing(name, "interactive"), null).pages) {
      const looks = await lookAt(page.spec, font);
      expect(looks.marks, page.id).toBeGreaterThan(0);
      expect(
        looks.faults.filter((fault) => fault.includes("cut off")),
        page.id,
      ).toEqual([]);
    }
  }, 30_000);
});

test("a page without data is left out, and why", () => {
  const { pages, leftOut } = drawPages(drawing("lengths alone", "still"), null);
  expect(pages.map(({ id }) => id)).toEqual(["length-cdf", "length"]);
  expect(leftOut[0]).toEqual({ id: "time-cdf", why: "no queue times (KQTIME-OUT, KQTIME-IN)" });
  expect(drawPages(drawing("equal values", "still"), ["length"]).leftOut).toEqual([
    { id: "length", why: "no queue lengths (KQTIME-STATS)" },
  ]);
});

test("by name: exact counts with separators, labels at even steps", async () => {
  const textsOf = async (name: string): Promise<string[]> => {
    const { pages } = drawPages(drawing(name, "still"), ["names"]);
    return (await lookAt(pages[0]!.spec, font)).texts.map(({ text }) => text);
  };
  const hours = await textsOf("hours");
  expect(hours.filter((text) => / s$/.test(text)).slice(0, 5)).toEqual(
    ["100 s", "300 s", "1,000 s", "3,000 s", "10,000 s"],
  );
  expect(hours).toContain("2,107");
  expect((await textsOf("nearly equal values")).filter((text) => / ms$/.test(text))).toEqual(
    [1, 2].flatMap(() => ["100 ms", "200 ms", "300 ms", "400 ms"]),
  );
});

test("the extremes of every column are drawn, and every sample is counted", () => {
  const { model, names } = makeCase(KINDS["10,000 samples"]!);
  const drawn: Source = { model, font, use: "still", nameOf: (i) => names[i]!, remarks: [] };
  const spec = JSON.stringify(drawPages(drawn, ["time"]).pages[0]!.spec);
  for (const histogram of model.times.all) {
    expect(spec).toContain(`"min":${histogram.min}`);
    expect(spec).toContain(`"max":${histogram.max}`);
  }
  const counts = [...spec.matchAll(/"n":(\d+)/g)].map(([, n]) => Number(n));
  expect(counts.reduce((sum, n) => sum + n, 0)).toBe(10_000);
  const cells = JSON.stringify(drawPages(drawn, ["heatmap"]).pages[0]!.spec);
  const inCells = [...cells.matchAll(/"n":([\d.]+)/g)].map(([, n]) => Number(n));
  expect(inCells.every((n) => Number.isInteger(n))).toBe(true);
  expect(inCells.reduce((sum, n) => sum + n, 0)).toBe(10_000);
});
