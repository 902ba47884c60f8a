// What is used of packages that bring no types.

declare module "fontkit" {
  export function create(file: Buffer): {
    readonly unitsPerEm: number;
    hasGlyphForCodePoint(codePoint: number): boolean;
    glyphForCodePoint(codePoint: number): { readonly advanceWidth: number };
    layout(text: string): {
      readonly glyphs: readonly unknown[];
      readonly positions: readonly { readonly xAdvance: number }[];
    };
  };
}

declare module "pdfkit" {
  import type { Readable } from "node:stream";

  export default class PDFDocument extends Readable {
    constructor(options: {
      autoFirstPage: boolean;
      font: Buffer;
      info: Record<string, string | Date>;
      lang: string;
    });
    registerFont(name: string, file: Buffer): this;
    addPage(options: { size: [number, number]; margin: number }): this;
    outline: { addItem(title: string): unknown };
    end(): void;
  }
}

declare module "svg-to-pdfkit" {
  import type PDFDocument from "pdfkit";

  export default function svgToPdf(
    document: PDFDocument,
    svg: string,
    xPt: number,
    yPt: number,
    options: {
      width: number;
      height: number;
      assumePt: boolean;
      preserveAspectRatio: string;
      fontCallback: () => string;
      warningCallback: (warning: string) => void;
    },
  ): void;
}
