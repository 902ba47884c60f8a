// Pages → the bytes of one file.

import type { FileKind } from "../output/whole-file.ts";
import type { Font } from "./fonts.ts";
import type { Page } from "./spec.ts";
import { renderStacked, withFont } from "./svg.ts";

/** How a picture is written, told by the end of the file's name. */
export const FORMATS = ["pdf", "svg", "png", "html"] as const;
export type Format = (typeof FORMATS)[number];

/** Each format, as this program writes it: what else begins in another way is not replaced by it. */
export const KINDS: Readonly<Record<Format, FileKind>> = {
  pdf: { name: "PDF file", beginning: "%PDF-" },
  png: { name: "PNG file", beginning: "\x89PNG\r\n\x1a\n" },
  svg: {
    name: "SVG file of kqtime's",
    beginning:
      '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" ',
  },
  html: {
    name: "HTML file of kqtime's",
    beginning:
      '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
      '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src \'sha256-',
  },
};

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
