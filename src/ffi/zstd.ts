// Decompression of Zstandard (RFC 8878) through libzstd, frame after frame.

import { type Library, type Pointer, ptr } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { putAddress } from "./address.ts";
import type { Decoder } from "./decoder.ts";
import { openLibrary } from "./library.ts";

const SYMBOLS = {
  /** → ZSTD_DStream * */
  ZSTD_createDStream: { args: [], returns: "ptr" },
  /** ZSTD_DStream *zds → size_t, an error or a hint */
  ZSTD_initDStream: { args: ["ptr"], returns: "u64" },
  ZSTD_decompressStream: {
    args: [
      "ptr", // ZSTD_DStream *zds
      "buffer", // ZSTD_outBuffer *output
      "buffer", // ZSTD_inBuffer *input
    ],
    returns: "u64", // size_t: 0 at the end of a frame, an error, or a hint
  },
  /** size_t code → unsigned */
  ZSTD_isError: { args: ["u64"], returns: "u32" },
  /** size_t code → const char *, static */
  ZSTD_getErrorName: { args: ["u64"], returns: "cstring" },
  /** ZSTD_DStream *zds → size_t */
  ZSTD_freeDStream: { args: ["ptr"], returns: "u64" },
} as const;

let library: Library<typeof SYMBOLS> | undefined;

/** `ZSTD_inBuffer` and `ZSTD_outBuffer`: address, size, position, 64 bits each. */
const BUFFER_BYTES = 24;
const SIZE = 8;
const POSITION = 16;
/** Decoded at once, a part of a block: where a call fails, libzstd forgets what it had written. */
const STEP_BYTES = 32 * 1024;

export class ZstdDecoder implements Decoder {
  consumed = 0;
  between = true;
  failure = "";
  readonly #symbols: Library<typeof SYMBOLS>["symbols"];
  readonly #input = new DataView(new ArrayBuffer(BUFFER_BYTES));
  readonly #output = new DataView(new ArrayBuffer(BUFFER_BYTES));
  #stream: Pointer | null;

  /** @throws KQTimeError `E_LIBRARY` without libzstd, `E_ZSTD` if it refuses. */
  constructor() {
    library ??= openLibrary({
      name: "libzstd",
      environment: "KQTIME_LIBZSTD",
      sonames: ["libzstd.so.1", "libzstd.so"],
      symbols: SYMBOLS,
      packages: { apt: "libzstd1", dnf: "libzstd" },
    });
    this.#symbols = library.symbols;
    this.#stream = this.#symbols.ZSTD_createDStream() as Pointer | null;
    if (this.#stream === null) {
      throw new KQTimeError("E_ZSTD", "createDStream", "libzstd refuses to decompress (no memory)");
    }
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
    const source = this.#input;
    const target = this.#output;
    putAddress(source, 0, (ptr(input) + from) as Pointer);
    putAddress(source, SIZE, to - from);
    putAddress(source, POSITION, 0);
    putAddress(target, 0, (ptr(output) + at) as Pointer);
    putAddress(target, SIZE, Math.min(room, STEP_BYTES));
    putAddress(target, POSITION, 0);
    const status = this.#symbols.ZSTD_decompressStream(this.#stream, target, source);
    this.consumed = source.getUint32(POSITION, true);
    if (this.#symbols.ZSTD_isError(status) !== 0) {
      this.failure = `libzstd: ${this.#symbols.ZSTD_getErrorName(status)}`;
      return -1;
    }
    if (this.consumed > 0 || target.getUint32(POSITION, true) > 0) this.between = Number(status) === 0;
    return target.getUint32(POSITION, true);
  }

  restart(): void {
    this.#symbols.ZSTD_initDStream(this.#stream);
    this.between = true;
  }

  close(): void {
    if (this.#stream !== null) this.#symbols.ZSTD_freeDStream(this.#stream);
    this.#stream = null;
  }
}
