// Decompression of gzip (RFC 1952) through libz. Bun's and node's own stream ends at the first
// member or throws away what it had when a later one is damaged; logs are rows of members, and may
// be cut.

import { type Library, type Pointer, ptr } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { putAddress } from "./address.ts";
import type { Decoder } from "./decoder.ts";
import { openLibrary } from "./library.ts";

const SYMBOLS = {
  inflateInit2_: {
    args: [
      "buffer", // z_streamp strm
      "i32", // int windowBits
      "cstring", // const char *version
      "i32", // int stream_size
    ],
    returns: "i32",
  },
  inflate: { args: ["buffer" /* z_streamp strm */, "i32" /* int flush */], returns: "i32" },
  inflateReset: { args: ["buffer" /* z_streamp strm */], returns: "i32" },
  inflateEnd: { args: ["buffer" /* z_streamp strm */], returns: "i32" },
} as const;

let library: Library<typeof SYMBOLS> | undefined;

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;
const Z_NO_FLUSH = 0;
/** The whole window, and a gzip header before it. */
const GZIP_WINDOW_BITS = 15 + 16;
/** libz compares the first digit and the size of its structure. */
const API_VERSION = "1.2.0";

/** `z_stream` where pointers and long have 64 bits; the members used here. */
const STREAM_BYTES = 112;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;

export class GzipDecoder implements Decoder {
  consumed = 0;
  between = true;
  failure = "";
  readonly #symbols: Library<typeof SYMBOLS>["symbols"];
  // An ArrayBuffer first, and a view on it: libz keeps the structure's address.
  readonly #stream = new DataView(new ArrayBuffer(STREAM_BYTES));
  #open = true;
  #broken = false;

  /** @throws KQTimeError `E_LIBRARY` without libz, `E_ZLIB` if it refuses. */
  constructor() {
    library ??= openLibrary({
      name: "libz",
      environment: "KQTIME_LIBZ",
      sonames: ["libz.so.1", "libz.so"],
      symbols: SYMBOLS,
      packages: { apt: "zlib1g", dnf: "zlib" },
    });
    this.#symbols = library.symbols;
    const { inflateInit2_ } = this.#symbols;
    const status = inflateInit2_(this.#stream, GZIP_WINDOW_BITS, API_VERSION, STREAM_BYTES);
    if (status !== Z_OK) {
      throw new KQTimeError("E_ZLIB", "inflateInit2", `libz refuses to decompress (error ${status})`);
    }
  }

  decode(
    input: Uint8Array,
    from: number,
    to: number,
    output: Uint8Array,
    at: number,
    room: number,
  ): number {
    if (this.#broken) {
      this.consumed = 0;
      return -1;
    }
    const stream = this.#stream;
    putAddress(stream, NEXT_IN, (ptr(input) + from) as Pointer);
    stream.setUint32(AVAIL_IN, to - from, true);
    putAddress(stream, NEXT_OUT, (ptr(output) + at) as Pointer);
    stream.setUint32(AVAIL_OUT, room, true);
    const status = this.#symbols.inflate(stream, Z_NO_FLUSH);
    this.consumed = to - from - stream.getUint32(AVAIL_IN, true);
    const written = room - stream.getUint32(AVAIL_OUT, true);
    if (this.consumed > 0) this.between = false;
    if (status === Z_STREAM_END) {
      this.restart();
    } else if (status !== Z_OK && status !== Z_BUF_ERROR) {
      this.failure = `libz error ${status}`;
      this.#broken = true;
      // What was decoded before the damage counts.
      if (written === 0) return -1;
    }
    return written;
  }

  restart(): void {
    this.#symbols.inflateReset(this.#stream);
    this.between = true;
    this.#broken = false;
  }

  close(): void {
    if (this.#open) this.#symbols.inflateEnd(this.#stream);
    this.#open = false;
  }
}
