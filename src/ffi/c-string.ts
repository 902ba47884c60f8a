// Text on its way to C and back. A NUL inside would end it early there: it is replaced.

/** `text` as NUL-terminated UTF-8, in memory that does not move. */
export function cString(text: string): Uint8Array {
  const encoded = new TextEncoder().encode(text.replaceAll("\0", "_"));
  // An ArrayBuffer first: a small typed array of its own may move when its buffer is touched.
  const bytes = new Uint8Array(new ArrayBuffer(encoded.length + 1));
  bytes.set(encoded);
  return bytes;
}

/** The text up to the first NUL. */
export function readCString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
