// The font in all pictures: letters side by side, as they are measured.

import { expect, test } from "bun:test";
import { create } from "fontkit";
import { Font } from "../../src/plot/fonts.ts";
import { loadResvg } from "../../src/plot/png.ts";

const TEXTS = ["17,159 calls", "AVATAR To 7.1", "--> 10x10", "1,1"];

test("no kerning, no ligatures: a text is as wide as its letters", async () => {
  const font = await Font.load();
  const face = create(font.bytes);
  for (const text of TEXTS) {
    const { glyphs, positions } = face.layout(text);
    expect(glyphs).toHaveLength(text.length);
    const advance = positions.reduce((sum, { xAdvance }) => sum + xAdvance, 0);
    expect((advance / face.unitsPerEm) * 10).toBeCloseTo(font.width(text, 10), 9);
  }
  const { Resvg } = await loadResvg();
  for (const text of TEXTS) {
    // From the left edge of the first I to that of the last.
    const svg = `<svg xmlns="http://www.w3.org/2000/svg"><text font-size="100">I${text}I</text></svg>`;
    const fonts = { fontBuffers: [new Uint8Array(font.bytes)], defaultFontFamily: "Inter" };
    const resvg = new Resvg(svg.replace("<text", '<text font-family="Inter"'), { font: fonts });
    const alone = new Resvg(svg.replace(`I${text}I`, "I"), { font: fonts });
    const box = resvg.getBBox()!;
    expect(box.width - alone.getBBox()!.width).toBeCloseTo(font.width(`I${text}`, 100), 1);
    resvg.free();
    alone.free();
  }
});

test("the font is a whole one", async () => {
  const { bytes } = await Font.load();
  // OpenType: what the words of a file sum up to.
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 4) sum = (sum + bytes.readUInt32BE(at)) >>> 0;
  expect(sum).toBe(0xb1b0afba);
});
