// Names are untrusted: one line, a width, characters that the font has, and told apart.

import { beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { Font } from "../../src/plot/fonts.ts";
import { displayName, displayNames } from "../../src/plot/names.ts";
import { loadResvg } from "../../src/plot/png.ts";
import { HOSTILE_NAMES } from "./cases.ts";

let font: Font;

beforeAll(async () => {
  font = await Font.load();
});

test("ordinary names stay as they are", () => {
  for (const name of ["out:443", "in:9001", "a b", "Žluťoučký", "λ/µ", "$5~x=y,z", "<b>&amp;"]) {
    expect(displayName(name, font, 10, 200)).toBe(name);
  }
});

test("what the font does not draw, or turns the line around, is written as its number", () => {
  expect(displayName("\u202egnp", font, 10, 200)).toBe("\\u{202e}gnp");
  expect(displayName("a\u0000b\nc", font, 10, 200)).toBe("a\\u{0}b\\u{a}c");
  expect(displayName("ש", font, 10, 200)).toBe("\\u{5e9}");
  expect(displayName("\ud800", font, 10, 200)).toBe("\\u{d800}");
});

test("any name fits, whatever is in it; any names are told apart", () => {
  const name = fc.oneof(
    fc.string({ unit: "binary", maxLength: 50 }),
    fc.constantFrom(...HOSTILE_NAMES),
  );
  fc.assert(
    fc.property(
      fc.array(name, { maxLength: 10 }),
      fc.integer({ min: 60, max: 300 }),
      (names, mostPx) => {
        const shown = displayNames(names, font, 10, mostPx);
        expect(new Set(shown).size).toBe(names.length);
        for (const text of shown) {
          expect(font.width(text, 10)).toBeLessThanOrEqual(mostPx);
          for (const character of text) expect(font.has(character.codePointAt(0)!)).toBe(true);
          expect(text).not.toMatch(/[\p{C}\p{M}\u2028\u2029]/u);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("text is measured as it is drawn", async () => {
  const { Resvg } = await loadResvg();
  for (const text of [
    "Cumulative distribution",
    "p99.9 1.23 ms, max 45.6 s",
    "100 µs",
    "out:9001",
  ]) {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="2000" height="100">' +
      `<text x="0" y="60" font-family="Inter" font-size="40px">${text}</text></svg>`;
    const drawn = new Resvg(svg, { font: { fontBuffers: [new Uint8Array(font.bytes)] } });
    const { width } = drawn.getBBox()!;
    drawn.free();
    // The box is that of the ink: it lacks the room beside the first and the last letter.
    expect(Math.abs(font.width(text, 40) - width)).toBeLessThan(6 + width * 0.01);
  }
}, 30_000);

test("widths add up", () => {
  expect(font.width("", 10)).toBe(0);
  // Inter has no tabular figures by default: 1 is narrower than 8.
  expect(font.width("1", 10)).toBeLessThan(font.width("8", 10));
  expect(font.width("MM", 20)).toBeCloseTo(4 * font.width("M", 10), 9);
});
