// Specification → SVG, by Vega, without a browser. Texts are measured with the font itself: Vega's
// own estimate for a program without a canvas is up to half too wide.

import { FONT_NAME, type Font } from "./fonts.ts";
import type { Page, Spec } from "./spec.ts";
import { BACKGROUND } from "./theme.ts";

const PAGE_GAP_PX = 40;

export interface Svg {
  readonly text: string;
  readonly widthPx: number;
  readonly heightPx: number;
}

interface TextItem {
  readonly text?: unknown;
  readonly fontSize?: number;
}

/** Compiles to Vega and renders. */
export async function renderSvg(spec: Spec, font: Font): Promise<Svg> {
  const vega = await import("vega");
  // Meant to be replaced (vega-scenegraph, util/text.js), but not in the types.
  const { textMetrics: metrics } = vega as unknown as {
    textMetrics: { width: (item: TextItem, text: unknown) => number };
  };
  metrics.width = (item, text) => font.width(String(text ?? "").trim(), item.fontSize ?? 11);
  const view = new vega.View(vega.parse((await compile(spec)) as never), { renderer: "none" });
  view.logLevel(vega.Error);
  try {
    const text = await view.toSVG();
    const size = /<svg[^>]* width="([\d.]+)" height="([\d.]+)"/.exec(text)!;
    return { text, widthPx: Number(size[1]), heightPx: Number(size[2]) };
  } finally {
    view.finalize();
  }
}

/** Vega-Lite → Vega. */
export async function compile(spec: Spec): Promise<Spec> {
  const vegaLite = await import("vega-lite");
  const problems: string[] = [];
  const note = (...words: readonly unknown[]): void => void problems.push(words.join(" "));
  const quiet = (): void => {};
  const logger = { level: quiet, error: note, warn: note, info: quiet, debug: quiet };
  const compiled = vegaLite.compile(spec as never, { logger: logger as never }).spec;
  // A specification is kqtime's own: what the library complains of is a mistake in it.
  if (problems.length > 0) throw new Error(`Vega-Lite: ${problems.join("; ")}`);
  return compiled as unknown as Spec;
}

/**
 * The pages one under the other. Each is rendered by itself, since views in one specification share
 * data, scales and legends. Ids hold for the whole file: Vega counts them on from page to page.
 */
export async function renderStacked(pages: readonly Page[], font: Font): Promise<Svg> {
  const parts: Svg[] = [];
  for (const { spec } of pages) parts.push(await renderSvg(spec, font));
  if (parts.length === 1) return parts[0]!;
  const widthPx = Math.max(...parts.map((part) => part.widthPx));
  let heightPx = 0;
  const placed = parts.map(({ text, heightPx: own }, i) => {
    const yPx = heightPx + (i > 0 ? PAGE_GAP_PX : 0);
    heightPx = yPx + own;
    return text.replace(/^<svg/, `<svg y="${yPx}"`);
  });
  const start =
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ' +
    `version="1.1" width="${widthPx}" height="${heightPx}" viewBox="0 0 ${widthPx} ${heightPx}">`;
  const paper = `<rect width="${widthPx}" height="${heightPx}" fill="${BACKGROUND}"/>`;
  return { text: `${start}${paper}${placed.join("")}</svg>`, widthPx, heightPx };
}

/** The SVG as a file of its own: with the font in it. */
export function withFont({ text }: Svg, font: Font): string {
  const data = font.bytes.toString("base64");
  const style =
    `<defs><style>@font-face { font-family: ${FONT_NAME}; ` +
    `src: url(data:font/ttf;base64,${data}) format("truetype"); }</style></defs>`;
  return text.replace(/^<svg[^>]*>/, (start) => start + style);
}
