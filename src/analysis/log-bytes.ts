// Characters of a log's lines, and what is asked of them in more than one place. A line ends in a
// newline, which nothing here reads beyond.

export const TAB = 9;
export const NEWLINE = 10;
export const RETURN = 13;
export const SPACE = 32;
export const PLUS = 43;
export const COMMA = 44;
export const MINUS = 45;
export const DOT = 46;
export const ZERO = 48;
export const NINE = 57;
export const SEMICOLON = 59;
export const EQUALS = 61;
export const LETTER_K = 75;
export const LETTER_Q = 81;
export const UNDERLINE = 95;
export const LETTER_E = 101;
export const DELETE = 127;

/** Four bytes as one word. */
export function four(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** Whether `text` stands at `at`; it may reach behind the buffer's end. */
export function starts(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** `KQTIME-WORD;start=`, which stands in no name. */
export function startsLine(bytes: Uint8Array, at: number): boolean {
  const to = endOfKind(bytes, at);
  return to >= 0 && starts(bytes, to, ";start=");
}

/** Where the `KQTIME-WORD` at `at` ends: in capitals, digits and `_`. -1 if none stands there. */
export function endOfKind(bytes: Uint8Array, at: number): number {
  if (!starts(bytes, at, "KQTIME-")) return -1;
  let to = at + 7;
  for (let c = bytes[to]!; ; c = bytes[++to]!) {
    const isPart = (c >= 65 && c <= 90) || (c >= ZERO && c <= NINE) || c === UNDERLINE;
    if (!isPart) return to > at + 7 ? to : -1;
  }
}

/**
 * Whether `bytes[from … newline)` is text, and nothing of a log: neither a line's beginning, which has
 * `KQ`, nor its end, which has a `;`. (Of the few bytes of a torn one that have neither nobody can tell.)
 */
export function isForeign(bytes: Uint8Array, from: number, newline: number): boolean {
  const to = bytes[newline - 1] === RETURN ? newline - 1 : newline;
  if (bytes[to - 1] === SEMICOLON) return false;
  for (let at = from; at < to; at++) {
    const c = bytes[at]!;
    if ((c < SPACE && c !== TAB) || c === DELETE) return false;
    if (c === LETTER_K && (bytes[at + 1] === LETTER_Q || at + 1 === to)) return false;
  }
  return true;
}

/** Where the next line begins, if this one ends at `at` (`\n`, `\r\n`); else -1. */
export function endOfLine(bytes: Uint8Array, at: number): number {
  if (bytes[at] === NEWLINE) return at + 1;
  return bytes[at] === RETURN && bytes[at + 1] === NEWLINE ? at + 2 : -1;
}

/** Where the next line begins, if this one is `KQTIME-WORD;…;`, as of a later version; else `at`. */
export function behindUnknown(bytes: Uint8Array, at: number): number {
  const to = endOfKind(bytes, at);
  if (to < 0 || bytes[to] !== SEMICOLON) return at;
  const newline = bytes.indexOf(NEWLINE, to);
  const end = bytes[newline - 1] === RETURN ? newline - 2 : newline - 1;
  return end > to && bytes[end] === SEMICOLON ? newline + 1 : at;
}

/** `-05` behind the `e` of a number. */
export function exponentAt(bytes: Uint8Array, from: number): { exponent: number; end: number } {
  const negative = bytes[from] === MINUS;
  let end = negative || bytes[from] === PLUS ? from + 1 : from;
  let exponent = 0;
  for (; bytes[end]! >= ZERO && bytes[end]! <= NINE; end++) {
    exponent = Math.min(exponent * 10 + bytes[end]! - ZERO, 999);
  }
  return { exponent: negative ? -exponent : exponent, end };
}
