// The files: each format is what it says, with the font in it, and a name from a log is only ever
// text.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Font } from "../../src/plot/fonts.ts";
import { drawPages } from "../../src/plot/pages.ts";
import { type Format, formatOf, renderPicture } from "../../src/plot/picture.ts";
import { loadResvg } from "../../src/plot/png.ts";
import type { Page } from "../../src/plot/spec.ts";
import { renderStacked, renderSvg, type Svg } from "../../src/plot/svg.ts";
import { ROOT } from "../lib/kqtime.ts";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import { KINDS, makeCase } from "./cases.ts";

let font: Font;
let folder: string;

beforeAll(async () => {
  font = await Font.load();
  folder = mkdtempSync(join(tmpdir(), "kqtime-picture-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function pagesOf(name: string, format: Format): Page[] {
  const { model, names } = makeCase(KINDS[name]!);
  const use = format === "html" ? "interactive" : "still";
  return drawPages({ model, font, use, nameOf: (i) => names[i]!, remarks: [] }, null).pages;
}

async function textOf(name: string, format: Format): Promise<string> {
  return new TextDecoder().decode(await renderPicture(format, pagesOf(name, format), font));
}

test("the format is told by the end of the name", () => {
  expect(["a.pdf", "b.SVG", "c.d.png", "./x.html"].map(formatOf)).toEqual([
    "pdf",
    "svg",
    "png",
    "html",
  ]);
  expect(["pdf.", "a", "a.jpeg", ""].map(formatOf)).toEqual([null, null, null, null]);
}, 30_000);

test("PNG: all pages, twice as large as their pixels", async () => {
  const bytes = await renderPicture("png", pagesOf("10,000 samples", "png"), font);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  expect(Buffer.from(bytes.subarray(1, 4)).toString()).toBe("PNG");
  expect(view.getUint32(16)).toBeGreaterThan(1400);
  expect(view.getUint32(20)).toBeGreaterThan(8 * 400 * 2);
}, 30_000);

/** Rows of pixels, four bytes each. */
async function pixelsOf({ text }: Svg): Promise<{ bytes: Uint8Array; widthPx: number }> {
  const { Resvg } = await loadResvg();
  const fonts = { fontBuffers: [new Uint8Array(font.bytes)], defaultFontFamily: "Inter" };
  const resvg = new Resvg(text, { font: fonts });
  const image = resvg.render();
  const { pixels: bytes, width: widthPx } = image;
  resvg.free();
  return { bytes, widthPx };
}

test.each(["10,000 samples", "zeros", "microseconds in a second", "hostile names", "1 sample"])(
  "SVG and PNG of several pages: each is what it is alone (%s)",
  async (name) => {
    const pages = pagesOf(name, "svg");
    const all = await renderStacked(pages, font);
    const tops = [...all.text.matchAll(/<svg y="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect(tops).toHaveLength(pages.length);
    const together = await pixelsOf(all);
    for (const [i, page] of pages.entries()) {
      const svg = await renderSvg(page.spec, font);
      const alone = await pixelsOf(svg);
      let different = 0;
      for (let y = 0; y < svg.heightPx; y++) {
        const from = (tops[i]! + y) * together.widthPx * 4;
        const row = together.bytes.subarray(from, from + alone.widthPx * 4);
        const own = alone.bytes.subarray(y * alone.widthPx * 4, (y + 1) * alone.widthPx * 4);
        // Further down, the same edge is rounded otherwise.
        if (own.some((value, at) => Math.abs(value - row[at]!) > 16)) different++;
      }
      expect([page.id, different]).toEqual([page.id, 0]);
    }
    const ids = [...all.text.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!);
    expect(new Set(ids).size).toBe(ids.length);
    const used = [...all.text.matchAll(/"url\(#([^)]*)\)"/g)].map(([, id]) => id!);
    expect(used.filter((id) => !ids.includes(id))).toEqual([]);
  },
  30_000,
);

const noPoppler = reason(lacks("pdftotext", "pdffonts"));

test("PDF: a page for each, an outline", async () => {
  const pages = pagesOf("10,000 samples", "pdf");
  const text = Buffer.from(await renderPicture("pdf", pages, font)).toString("latin1");
  expect(text.startsWith("%PDF-")).toBe(true);
  expect(text.match(/\/Type \/Page\b/g)).toHaveLength(pages.length);
  expect([text.includes("/FontFile2"), text.includes("/Outlines")]).toEqual([true, true]);
}, 30_000);

testUnless(
  noPoppler,
  "PDF: text can be selected, hostile or not; the font is embedded",
  async () => {
    const path = join(folder, "x.pdf");
    writeFileSync(path, await renderPicture("pdf", pagesOf("hostile names", "pdf"), font));
    const text = Bun.spawnSync(["pdftotext", "-layout", path, "-"]).stdout.toString();
    expect(text).toContain("<script>alert(1)</script>");
    expect(text).toContain("\\u{202e}gnp.exe");
    expect(text).toContain("Percentiles of queue time over time");
    const fonts = Bun.spawnSync(["pdffonts", path]).stdout.toString().trim().split("\n").slice(2);
    expect(fonts).toHaveLength(1);
    expect(fonts[0]).toMatch(/\+Inter-Regular .* yes yes yes /);
  },
  30_000,
);

test("SVG: the font is in it, nothing is loaded, and no name is markup", async () => {
  const text = await textOf("hostile names", "svg");
  expect(text.includes("@font-face")).toBe(true);
  expect(text.includes("&lt;script&gt;alert(1)&lt;/script&gt;")).toBe(true);
  const tags = [...text.matchAll(/<[^>]*>/g)].map(([tag]) => tag.replace(/"[^"]*"/g, '""'));
  expect(
    tags.filter((tag) => /^<(script|foreignObject|!)|\s(on\w+|\w*:?href)=/i.test(tag)),
  ).toEqual([]);
  const addresses = [...text.matchAll(/(?:url\(|https?:)[^)"' ]*/g)].map(([address]) =>
    address.slice(0, 12),
  );
  const allowed = (address: string): boolean =>
    /^(url\(data:fon|url\(#|http:\/\/www)/.test(address);
  expect(addresses.filter((address) => !allowed(address))).toEqual([]);
  // resvg reads XML strictly: what is not well-formed is refused.
  const { Resvg } = await loadResvg();
  new Resvg(text).free();
}, 30_000);

test("HTML: one file, which loads nothing and runs nothing but its own scripts", async () => {
  const html = await textOf("hostile names", "html");
  const scripts = [...html.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/gi)];
  expect(scripts.map(([, attributes]) => attributes!.trim())).toEqual([
    'type="application/json" id="pages"',
    "",
    "",
    "",
  ]);
  const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)![1]!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toMatch(/unsafe-eval|script-src[^;]*unsafe-inline|\*|https?:/);
  for (const [, , body] of scripts.slice(1)) {
    expect(policy).toContain(`'sha256-${createHash("sha256").update(body!).digest("base64")}'`);
  }
  const outside = html
    .replace(/<script[\s\S]*?<\/script>/gi, "")
    .replace(/<style>[\s\S]*?<\/style>/, "");
  expect(/src=|href=|url\(|\son\w+=|alert/i.exec(outside)).toBeNull();
  const specs = JSON.parse(scripts[0]![2]!) as unknown[];
  expect(specs).toHaveLength(pagesOf("hostile names", "html").length);
  expect(JSON.stringify(specs).includes("<script>alert(1)</script>")).toBe(true);
}, 30_000);

test("what pictures need is loaded only for them", () => {
  const files = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  const libraries =
    /^import (?!type )[^;]*from "(vega|vega-lite|vega-embed|pdfkit|svg-to-pdfkit|fontkit|@resvg)/m;
  const eager = /^import (?!type )[^;]*from "[^"]*\/plot\/[^"]*"/m;
  for (const file of files.filter((name) => name.endsWith(".ts"))) {
    const text = readFileSync(join(ROOT, "src", file), "utf8");
    expect(libraries.test(text), file).toBe(false);
    if (!file.startsWith("plot/") && file !== "cli/plot.ts")
      expect(eager.test(text), file).toBe(false);
  }
}, 30_000);
