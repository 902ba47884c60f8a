// Pages → the bytes of one file.

import type { Font } from "./fonts.ts";
import type { Page } from "./spec.ts";
import { renderStacked, withFont } from "./svg.ts";

/** How a picture is written, told by the end of the file's name. */
export const FORMATS = ["pdf", "svg", "png", "html"] as const;
export type Format = (typeof FORMATS)[number];

export function formatOf(path: string): Format | null {
  const end = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  return FORMATS.find((format) => format === end) ?? null;
}

/** PDF: a page for each. SVG and PNG: one under the other. HTML: as SVG, interactive. */
export async function renderPicture(
  format: Format,
  pages: readonly Page[],
  font: Font,
): Promise<Uint8Array> {
  switch (format) {
    case "pdf":
      return (await import("./pdf.ts")).renderPdf(pages, font);
    case "html":
      return new TextEncoder().encode(await (await import("./html.ts")).renderHtml(pages, font));
    case "svg":
      return new TextEncoder().encode(withFont(await renderStacked(pages, font), font));
    case "png":
      return (await import("./png.ts")).renderPng(await renderStacked(pages, font), font);
  }
}
