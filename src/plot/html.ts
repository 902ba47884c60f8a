// Pages → one HTML file that needs nothing else: Vega, its embedder, the font and the data are in
// it, and its security policy lets it load nothing and run nothing but them. Names from a log are
// data in it, never markup or code: expressions are interpreted, not evaluated.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { VERSION } from "../version.ts";
import { FONT_NAME, type Font } from "./fonts.ts";
import type { Page } from "./spec.ts";
import { compile } from "./svg.ts";

const START = `
"use strict";
const pages = JSON.parse(document.getElementById("pages").textContent);
const options = {
  mode: "vega", renderer: "svg", ast: true,
  actions: { export: true, source: false, compiled: false, editor: false },
};
// Texts are measured with the font: it has to be there.
document.fonts.load("12px ${FONT_NAME}").finally(() => {
  pages.forEach((spec, i) => {
    vegaEmbed("#page" + (i + 1), spec, options).catch((error) => {
      document.getElementById("page" + (i + 1)).textContent = String(error);
    });
  });
});
`;

const STYLE = `
body { font: 14px ${FONT_NAME}, sans-serif; color: #222; background: #fff; margin: 16px; }
figure { margin: 0 0 40px; }
footer { color: #555; }
.vega-embed { font-family: ${FONT_NAME}, sans-serif; }
`;

export async function renderHtml(pages: readonly Page[], font: Font): Promise<string> {
  const specs = await Promise.all(pages.map(({ spec }) => compile(spec)));
  const scripts = [script("vega", "vega.min.js"), script("vega-embed", "vega-embed.min.js"), START];
  const hashes = scripts.map(
    (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`,
  );
  const policy =
    `default-src 'none'; script-src ${hashes.join(" ")}; style-src 'unsafe-inline'; ` +
    "font-src data:; img-src data: blob:; base-uri 'none'; form-action 'none'";
  const face =
    `@font-face { font-family: ${FONT_NAME}; ` +
    `src: url(data:font/ttf;base64,${font.bytes.toString("base64")}) format("truetype"); }`;
  const figures = pages.map(
    ({ id, title }, i) =>
      `<figure id="${id}" aria-label="${escapeHtml(title)}"><div id="page${i + 1}"></div></figure>`,
  );
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width">',
    "<title>Queue times</title>",
    `<style>${face}${STYLE}</style>`,
    "</head>",
    "<body>",
    ...figures,
    `<footer>kqtime ${VERSION}. Point at a mark for its figures; Ctrl and the wheel zoom, dragging ` +
      "moves, a double click goes back.</footer>",
    `<script type="application/json" id="pages">${embeddedJson(specs)}</script>`,
    ...scripts.map((text) => `<script>${text}</script>`),
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

/** A minified build that lies beside the module that the package names. */
function script(name: string, file: string): string {
  const text = readFileSync(fileURLToPath(new URL(file, import.meta.resolve(name))), "utf8");
  // A map of the source would be looked for beside the page.
  const plain = text.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "\n");
  if (/<\/script|<!--/i.test(plain))
    throw new Error(`${name}/${file} would end its own script element`);
  return plain;
}

/** JSON within a script element: nothing in it can end the element or begin a comment. */
function embeddedJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}

function escapeHtml(text: string): string {
  const names: Record<string, string> = {
    "&": "amp",
    "<": "lt",
    ">": "gt",
    '"': "quot",
    "'": "#39",
  };
  return text.replace(/[&<>"']/g, (character) => `&${names[character]};`);
}
