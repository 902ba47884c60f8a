// Every page of every kind of input: drawn, complete, readable, and nothing in it that was not
// counted.

import { beforeAll, describe, expect, test } from "bun:test";
import * as vega from "vega";
import { Font } from "../../src/plot/fonts.ts";
import { drawPages, PAGE_IDS, type Source } from "../../src/plot/pages.ts";
import { OUT, PlotModel } from "../../src/plot/model.ts";
import type { Spec, Use } from "../../src/plot/spec.ts";
import { compile } from "../../src/plot/svg.ts";
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

/** As it is drawn, of one panel. */
function domainOf(spec: Spec, panel: number): [number, number] {
  const panels = (spec.vconcat as Spec[])[0]!.vconcat as Spec[];
  const { y } = panels[panel]!.encoding as { y: Spec };
  return (y.scale as Spec).domain as [number, number];
}

function source(model: PlotModel, names: readonly string[] = ["a"]): Source {
  return { model, font, use: "still", nameOf: (i) => names[i]!, remarks: [] };
}

function textsOf(spec: Spec): Promise<string[]> {
  return lookAt(spec, font).then(({ texts }) => texts.map(({ text }) => text));
}

test("an axis is of what is drawn: one fast call among many does not stretch it", async () => {
  const model = new PlotModel();
  for (let i = 0; i < 5000; i++) {
    const usual = Math.round(500_000 * 1.06 ** Math.floor(i / 50));
    model.addTime(OUT, i / 100, i === 2510 ? 200 : usual, 0);
  }
  // Alone in its column, at the end.
  model.addTime(OUT, 60, 3000, 0);
  const { pages } = drawPages(source(model), ["percentiles", "hdr"]);
  const [percentiles, hdr] = pages.map(({ spec }) => spec);
  expect(domainOf(percentiles!, 0)[0]).toBeGreaterThanOrEqual(200_000);
  expect(domainOf(percentiles!, 0)[1]).toBeGreaterThanOrEqual(160_000_000);
  expect((await textsOf(percentiles!)).join(" ")).toContain(
    "Not drawn: 1 column of a single call below all medians, which would stretch the axis.",
  );
  expect(domainOf(hdr!, 0)[0]).toBeGreaterThanOrEqual(200_000);
  expect((await textsOf(hdr!)).join(" ")).toContain("Each line begins at 1 % and ends at its greatest");
  // A slow one alone is drawn, and so are few.
  model.addTime(OUT, 70, 5e9, 0);
  const slow = drawPages(source(model), ["percentiles"]).pages[0]!.spec;
  expect(domainOf(slow, 0)[1]).toBeGreaterThanOrEqual(5e9);
  const few = new PlotModel();
  for (let i = 0; i < 20; i++) few.addTime(OUT, i, i === 7 ? 200 : 1e6, 0);
  const whole = drawPages(source(few), ["hdr"]).pages[0]!.spec;
  expect(domainOf(whole, 0)[0]).toBeLessThanOrEqual(200);
  expect((await textsOf(whole)).join(" ")).not.toContain("begins at");
});

test("a logarithmic axis has labels however near it is looked at", async () => {
  const { model } = makeCase(KINDS["10,000 samples"]!);
  const page = drawPages({ ...source(model), use: "interactive" }, ["hdr"]).pages[0]!;
  const view = new vega.View(vega.parse((await compile(page.spec)) as never), { renderer: "none" });
  for (const [low, high] of [[1e5, 2e6], [4e5, 9e5], [4.1e5, 4.4e5]] as const) {
    await view.signal("zoom_v", [low, high]).runAsync();
    const texts = [...(await view.toSVG()).matchAll(/<text[^>]*>([\d.,]+) ([mµ])s<\/text>/g)];
    const shown = texts.map(([, number, unit]) => Number(number) * (unit === "m" ? 1e6 : 1e3));
    expect(shown.filter((value) => value >= low && value <= high).length).toBeGreaterThanOrEqual(3);
  }
  view.finalize();
});

test("by name: the 20 busiest, all others together; no name is one, however it is written", async () => {
  const many = makeCase(KINDS["many names"]!);
  const rowsOf = async (model: PlotModel, names: readonly string[]): Promise<string[]> => {
    const { spec } = drawPages(source(model, names), ["names"]).pages[0]!;
    const { texts, faults, svg } = await lookAt(spec, font);
    expect(faults).toEqual([]);
    expect(svg.heightPx).toBeGreaterThan(250);
    return texts.map(({ text }) => text);
  };
  const rows = await rowsOf(many.model, many.names);
  expect(rows.filter((text) => text.startsWith("OR connection"))).toHaveLength(20);
  expect(rows.filter((text) => text.endsWith("other names)"))).toEqual(["(at least 981 other names)"]);
  const model = new PlotModel();
  for (let i = 0; i < 63; i++) model.addTime(OUT, i, 1000, i % 21);
  const numbers = Array.from({ length: 21 }, (_, i) => `name ${i}`);
  expect(await rowsOf(model, numbers)).toContain("(1 other name)");
  const unnamed = new PlotModel();
  for (let i = 0; i < 12; i++) unnamed.addTime(OUT, i, 1000 + i, i % 3);
  const three = await rowsOf(unnamed, ["NULL", "", "NULL."]);
  expect(three.filter((text) => /no name|NULL/.test(text))).toEqual(["(no name)", "NULL."]);
  expect(three).toContain("8");
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
