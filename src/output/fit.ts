// Texts made to fit columns of a terminal.

const ELLIPSIS = "…";

/** `text` cut to `width` columns, with an ellipsis if it was longer. */
export function fit(text: string, width: number): string {
  return Bun.stringWidth(text) <= width ? text : head(text, width - 1) + ELLIPSIS;
}

/**
 * The same with its middle left out: labels and addresses often differ only at their ends, a port or
 * a number.
 */
export function fitMiddle(text: string, width: number): string {
  if (Bun.stringWidth(text) <= width) return text;
  const left = Math.floor((width - 1) / 2);
  const reversed = [...text].reverse().join("");
  const tail = [...head(reversed, width - 1 - left)].reverse().join("");
  return head(text, left) + ELLIPSIS + tail;
}

export function padEnd(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
}

/** The beginning of `text`, at most `width` columns. */
function head(text: string, width: number): string {
  let kept = "";
  let used = 0;
  for (const character of text) {
    const columns = Bun.stringWidth(character);
    if (used + columns > width) break;
    kept += character;
    used += columns;
  }
  return kept;
}
