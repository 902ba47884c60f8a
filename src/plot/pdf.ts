// Pages → PDF: vector graphics, text that can be selected, the font embedded (the characters that
// are used). Every page is A4, landscape.

import { VERSION } from "../version.ts";
import { FONT_NAME, type Font } from "./fonts.ts";
import { renderSvg } from "./svg.ts";
import type { Page } from "./spec.ts";

const A4_LANDSCAPE: [number, number] = [841.89, 595.28];
const MARGIN_PT = 26;

export async function renderPdf(pages: readonly Page[], font: Font): Promise<Uint8Array> {
  const { default: PDFDocument } = await import("pdfkit");
  const { default: svgToPdf } = await import("svg-to-pdfkit");
  const document = new PDFDocument({
    autoFirstPage: false,
    font: font.bytes,
    info: { Title: "Queue times", Creator: `kqtime ${VERSION}`, Producer: "PDFKit" },
    lang: "en",
  });
  const chunks: Uint8Array[] = [];
  const done = new Promise<void>((resolve, reject) => {
    document.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    document.on("end", resolve);
    document.on("error", reject);
  });
  document.registerFont(FONT_NAME, font.bytes);
  for (const { title, spec } of pages) {
    const svg = await renderSvg(spec, font);
    const [width, height] = A4_LANDSCAPE;
    const room = [width - 2 * MARGIN_PT, height - 2 * MARGIN_PT] as const;
    const scale = Math.min(room[0] / svg.widthPx, room[1] / svg.heightPx);
    document.addPage({ size: A4_LANDSCAPE, margin: 0 });
    document.outline.addItem(title);
    svgToPdf(document, svg.text, (width - svg.widthPx * scale) / 2, MARGIN_PT, {
      width: svg.widthPx * scale,
      height: svg.heightPx * scale,
      assumePt: true,
      preserveAspectRatio: "xMidYMin meet",
      fontCallback: () => FONT_NAME,
      warningCallback: (warning) => {
        throw new Error(`PDF of "${title}": ${warning}`);
      },
    });
  }
  document.end();
  await done;
  return Buffer.concat(chunks);
}
