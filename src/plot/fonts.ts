// The one font of all pictures, in all formats: Inter (SIL Open Font License), from its package, so
// that a picture is the same on every machine and its texts are measured as they are drawn.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { withoutLayout } from "./plain-font.ts";

export const FONT_NAME = "Inter";

const FILE = "@expo-google-fonts/inter/400Regular/Inter_400Regular.ttf";

type Face = ReturnType<typeof import("fontkit").create>;

export class Font {
  /** A TrueType file. */
  readonly bytes: Buffer;
  readonly #face: Face;
  /** Advance of a character as a part of the font size. */
  readonly #advances = new Map<number, number>();

  private constructor(bytes: Buffer, face: Face) {
    this.bytes = bytes;
    this.#face = face;
  }

  static async load(): Promise<Font> {
    const bytes = withoutLayout(readFileSync(fileURLToPath(import.meta.resolve(FILE))));
    const fontkit = await import("fontkit");
    return new Font(bytes, fontkit.create(bytes));
  }

  /** Whether the font draws this character. */
  has(codePoint: number): boolean {
    return this.#face.hasGlyphForCodePoint(codePoint);
  }

  /** Width of a line of text. */
  width(text: string, sizePx: number): number {
    let advance = 0;
    for (const character of text) {
      const codePoint = character.codePointAt(0)!;
      let own = this.#advances.get(codePoint);
      if (own === undefined) {
        own = this.#face.glyphForCodePoint(codePoint).advanceWidth / this.#face.unitsPerEm;
        this.#advances.set(codePoint, own);
      }
      advance += own;
    }
    return advance * sizePx;
  }

  /** Breaks a text between its words into lines of at most `mostPx`. */
  wrap(text: string, sizePx: number, mostPx: number): string[] {
    const lines: string[] = [];
    let line = "";
    for (const word of text.split(" ")) {
      const longer = line === "" ? word : `${line} ${word}`;
      if (line !== "" && this.width(longer, sizePx) > mostPx) {
        lines.push(line);
        line = word;
      } else {
        line = longer;
      }
    }
    return [...lines, line];
  }
}
