// SVG → PNG, by resvg, with the one font and none of the machine's.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FONT_NAME, type Font } from "./fonts.ts";
import type { Svg } from "./svg.ts";

/** Pixels of the picture for each px of the page: sharp on screens of today and in print. */
const SCALE = 2;
/** A picture may not be higher than this: many viewers refuse it. */
const MOST_PIXELS = 30000;

let isReady: Promise<void> | null = null;

/** resvg, made ready: once in a process. */
export async function loadResvg(): Promise<typeof import("@resvg/resvg-wasm")> {
  const resvg = await import("@resvg/resvg-wasm");
  const wasm = fileURLToPath(import.meta.resolve("@resvg/resvg-wasm/index_bg.wasm"));
  isReady ??= resvg.initWasm(new Uint8Array(readFileSync(wasm)));
  await isReady;
  return resvg;
}

export async function renderPng(svg: Svg, font: Font): Promise<Uint8Array> {
  const { Resvg } = await loadResvg();
  const scale = Math.min(SCALE, MOST_PIXELS / Math.max(svg.widthPx, svg.heightPx));
  const resvg = new Resvg(svg.text, {
    fitTo: { mode: "zoom", value: scale },
    font: { fontBuffers: [new Uint8Array(font.bytes)], defaultFontFamily: FONT_NAME },
    textRendering: 2,
    shapeRendering: 2,
  });
  try {
    return resvg.render().asPng();
  } finally {
    resvg.free();
  }
}
