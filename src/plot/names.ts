// Names from a log as they are written into a picture. They are untrusted: any characters, any
// length. What the font does not draw (control characters, writing from right to left, marks that
// change the direction, …) is written as its number, so that all formats show the same and no name
// can pass for another.

import type { Font } from "./fonts.ts";

const ELLIPSIS = "…";

/** One line that the font draws, at most `mostPx` wide; of a longer one the middle is left out. */
export function displayName(name: string, font: Font, sizePx: number, mostPx: number): string {
  // A character is at least a few hundredths of the size wide: beyond this it cannot fit anyway.
  const enough = 2000;
  const whole = name.length <= 2 * enough;
  const head = visible(whole ? name : name.slice(0, enough), font);
  const tail = whole ? head : visible(name.slice(-enough), font);
  if (whole && font.width(head.join(""), sizePx) <= mostPx) return head.join("");
  let left = "";
  let right = "";
  for (let i = 0; ; i++) {
    const fromLeft = i % 2 === 0;
    const piece = fromLeft ? head[i >> 1] : tail[tail.length - 1 - (i >> 1)];
    if (piece === undefined) break;
    const nextLeft = fromLeft ? left + piece : left;
    const nextRight = fromLeft ? right : piece + right;
    if (font.width(nextLeft + ELLIPSIS + nextRight, sizePx) > mostPx) break;
    left = nextLeft;
    right = nextRight;
  }
  return left + ELLIPSIS + right;
}

/** Each name with a text of its own: where two would look the same, the later one gets a number. */
export function displayNames(
  names: readonly string[],
  font: Font,
  sizePx: number,
  mostPx: number,
): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    let shown = displayName(name, font, sizePx, mostPx);
    for (let number = 2; taken.has(shown); number++) {
      const mark = ` (${number})`;
      shown = displayName(name, font, sizePx, mostPx - font.width(mark, sizePx)) + mark;
    }
    taken.add(shown);
    return shown;
  });
}

/** The characters of a name, each as it is drawn. */
function visible(name: string, font: Font): string[] {
  return Array.from(name, (character) => {
    const codePoint = character.codePointAt(0)!;
    if (codePoint === 0x20) return character;
    return drawable(character) && font.has(codePoint) ? character : escaped(codePoint);
  });
}

function drawable(character: string): boolean {
  return !/[\p{C}\p{Z}\p{M}]/u.test(character);
}

function escaped(codePoint: number): string {
  return `\\u{${codePoint.toString(16)}}`;
}
