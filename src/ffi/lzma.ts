// Decompression of xz through liblzma (lzma/base.h, lzma/container.h), stream after stream.

import { type Library, type Pointer, ptr } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { putAddress } from "./address.ts";
import type { Decoder } from "./decoder.ts";
import { openLibrary } from "./library.ts";

const SYMBOLS = {
  lzma_stream_decoder: {
    args: [
      "buffer", // lzma_stream *strm
      "u64", // uint64_t memlimit
      "u32", // uint32_t flags
    ],
    returns: "i32",
  },
  lzma_code: { args: ["buffer" /* lzma_stream *strm */, "i32" /* lzma_action */], returns: "i32" },
  lzma_end: { args: ["buffer" /* lzma_stream *strm */], returns: "void" },
} as const;

let library: Library<typeof SYMBOLS> | undefined;

const LZMA_OK = 0;
const LZMA_STREAM_END = 1;
const LZMA_MEM_ERROR = 5;
const LZMA_MEMLIMIT_ERROR = 6;
const LZMA_BUF_ERROR = 10;
const LZMA_RUN = 0;
/** `xz -9` needs 65 MiB. */
const MEMORY_MIB = 256;

/** `lzma_stream` where pointers have 64 bits; zeros are LZMA_STREAM_INIT. */
const STREAM_BYTES = 136;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;

export class XzDecoder implements Decoder {
  consumed = 0;
  between = true;
  failure = "";
  readonly #symbols: Library<typeof SYMBOLS>["symbols"];
  // An ArrayBuffer first, and a view on it: liblzma keeps the structure's address.
  readonly #stream = new DataView(new ArrayBuffer(STREAM_BYTES));
  #broken = false;

  /** @throws KQTimeError `E_LIBRARY` without liblzma, `E_LZMA` if it refuses. */
  constructor() {
    library ??= openLibrary({
      name: "liblzma",
      environment: "KQTIME_LIBLZMA",
      sonames: ["liblzma.so.5", "liblzma.so"],
      symbols: SYMBOLS,
      packages: { apt: "liblzma5", dnf: "xz-libs" },
    });
    this.#symbols = library.symbols;
    this.restart();
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
    let start = from;
    // Streams may be followed by zeros (xz file format, section 2.2).
    if (this.between) while (start < to && input[start] === 0) start++;
    if (start === to) {
      this.consumed = to - from;
      return 0;
    }
    putAddress(stream, NEXT_IN, (ptr(input) + start) as Pointer);
    putAddress(stream, AVAIL_IN, to - start);
    putAddress(stream, NEXT_OUT, (ptr(output) + at) as Pointer);
    putAddress(stream, AVAIL_OUT, room);
    this.between = false;
    const status = this.#symbols.lzma_code(stream, LZMA_RUN);
    this.consumed = to - from - stream.getUint32(AVAIL_IN, true);
    const written = room - stream.getUint32(AVAIL_OUT, true);
    if (status === LZMA_STREAM_END) {
      this.restart();
    } else if (status !== LZMA_OK && status !== LZMA_BUF_ERROR) {
      const memory = status === LZMA_MEMLIMIT_ERROR || status === LZMA_MEM_ERROR;
      const more = `it needs more than ${MEMORY_MIB} MiB to decompress, pipe it through xz -dc`;
      this.failure = memory ? more : `liblzma error ${status}`;
      this.#broken = true;
      // What was decoded before the damage counts.
      if (written === 0) return -1;
    }
    return written;
  }

  restart(): void {
    const status = this.#symbols.lzma_stream_decoder(this.#stream, BigInt(MEMORY_MIB * 2 ** 20), 0);
    if (status !== LZMA_OK) {
      const why = `liblzma refuses to decompress (error ${status})`;
      throw new KQTimeError("E_LZMA", "stream_decoder", why);
    }
    this.between = true;
    this.#broken = false;
  }

  close(): void {
    this.#symbols.lzma_end(this.#stream);
  }
}
