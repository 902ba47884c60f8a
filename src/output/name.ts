// Names and labels come from the measured program: nothing in them may break a line of the log,
// forge a field, or command a terminal.

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\uFFFD]/gu;
const UNSAFE = /[;\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\uFFFD]/gu;
/** How a log says that there is none. */
export const NO_NAME = "NULL";
/** As much of a name as a log line keeps; the C API's callers use up to 255 bytes. */
export const NAME_MAX_BYTES = 512;

/**
 * `name` with `;`, control, format and line-breaking characters, and what was not UTF-8, each
 * replaced by `_`; `NO_NAME` when it is empty, as the ancestor prints it.
 */
export function safeName(name: string): string {
  return name === "" ? NO_NAME : name.replace(UNSAFE, "_");
}

/** What a reader is told in the place of no name, however a log writes that. */
export function readableName(name: string): string {
  return name === "" || name === NO_NAME ? "(no name)" : name;
}

/** Text of the program's that is shown as it is, but for what could command a terminal. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, "_");
}

/** `safeName` as the bytes that `Log` takes, cut between characters at `NAME_MAX_BYTES`. */
export function encodeName(name: string): Uint8Array {
  // Anything beyond this many UTF-16 units lies beyond the limit in bytes as well.
  const text = safeName(name.slice(0, NAME_MAX_BYTES + 1));
  const bytes = new Uint8Array(NAME_MAX_BYTES);
  const { written } = new TextEncoder().encodeInto(text, bytes);
  return bytes.slice(0, written);
}
