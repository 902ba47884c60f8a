// Specification → SVG, by Vega, without a browser. Texts are measured with the font itself: Vega's
// own estimate for a program without a canvas is up to half too wide.

import { FONT_NAME, type Font } from "./fonts.ts";
import type { Page, Spec } from "./spec.ts";

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

/** Several pages as one specification, one under the other. */
export function stacked(pages: readonly Page[]): Spec {
  if (pages.length === 1) return pages[0]!.spec;
  const { $schema, config } = pages[0]!.spec;
  const parts = pages.map(({ spec }): Spec => {
    const { $schema: _schema, config: _config, ...rest } = spec;
    return rest;
  });
  return {
    $schema: $schema!,
    config: config!,
    spacing: 60,
    vconcat: parts,
    resolve: { scale: { color: "independent", strokeDash: "independent", shape: "independent" } },
  };
}

/** The SVG as a file of its own: with the font in it. */
export function withFont({ text }: Svg, font: Font): string {
  const data = font.bytes.toString("base64");
  const style =
    `<defs><style>@font-face { font-family: ${FONT_NAME}; ` +
    `src: url(data:font/ttf;base64,${data}) format("truetype"); }</style></defs>`;
  return text.replace(/^<svg[^>]*>/, (start) => start + style);
}
