// What a person sees at once, told by a program: texts that overlap or are cut off, and pages on
// which nothing is drawn. It looks at Vega's scene graph, whose texts are measured with the font.

import * as vega from "vega";
import type { Font } from "../../src/plot/fonts.ts";
import type { Spec } from "../../src/plot/spec.ts";
import { compile, renderSvg, type Svg } from "../../src/plot/svg.ts";

interface Item {
  readonly x?: number;
  readonly y?: number;
  readonly opacity?: number;
  readonly text?: unknown;
  readonly bounds: {
    readonly x1: number;
    readonly y1: number;
    readonly x2: number;
    readonly y2: number;
  };
  readonly items?: readonly Mark[];
}

interface Mark {
  readonly marktype: string;
  readonly role: string;
  readonly items: readonly Item[];
}

interface Box {
  readonly text: string;
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

export interface Looks {
  readonly svg: Svg;
  readonly texts: readonly Box[];
  /** Marks that stand for data. */
  readonly marks: number;
  readonly faults: readonly string[];
}

/** Rounding, and the room that a font leaves above and below its letters. */
const TOLERANCE_PX = 1.5;

export async function lookAt(spec: Spec, font: Font): Promise<Looks> {
  // The first rendering sets how texts are measured.
  const svg = await renderSvg(spec, font);
  const view = new vega.View(vega.parse((await compile(spec)) as never), { renderer: "none" });
  await view.runAsync();
  const texts: Box[] = [];
  let marks = 0;
  const walk = (mark: Mark, left: number, top: number): void => {
    for (const item of mark.items) {
      if (mark.marktype === "group") {
        for (const child of item.items ?? [])
          walk(child, left + (item.x ?? 0), top + (item.y ?? 0));
        continue;
      }
      if (mark.role === "mark") marks++;
      const text = [item.text ?? ""].flat().join(" ").trim();
      if (mark.marktype !== "text" || text === "" || item.opacity === 0) continue;
      const { x1, y1, x2, y2 } = item.bounds;
      texts.push({ text, x1: x1 + left, y1: y1 + top, x2: x2 + left, y2: y2 + top });
    }
  };
  const [originX, originY] = view.origin();
  walk((view.scenegraph() as unknown as { root: Mark }).root, originX!, originY!);
  view.finalize();
  const faults: string[] = [];
  if (marks === 0) faults.push("nothing is drawn");
  texts.forEach((one, i) => {
    if (Math.min(one.x1, one.y1) < 0 || one.x2 > svg.widthPx || one.y2 > svg.heightPx) {
      faults.push(`"${one.text}" is cut off`);
    }
    for (const other of texts.slice(i + 1)) {
      const across = Math.min(one.x2, other.x2) - Math.max(one.x1, other.x1);
      const down = Math.min(one.y2, other.y2) - Math.max(one.y1, other.y1);
      if (across > TOLERANCE_PX && down > TOLERANCE_PX) {
        faults.push(`"${one.text}" and "${other.text}" overlap by ${across} × ${down}`);
      }
    }
  });
  return { svg, texts, marks, faults };
}
