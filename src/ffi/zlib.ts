// libz (RFC 1951, RFC 1952) for the log: compression into memory of its own, without a copy or an
// allocation a chunk. Bun's gzipSync allocates its result and keeps no compressor.
//
// Each chunk becomes one complete gzip member. A file of members stays valid wherever it is cut
// between two, so that a killed collector leaves nothing unfinished; and a later run, or several
// at once, can append to it, as one cannot to a stream that was cut. The idea, and the length of
// the member in an extra field, are those of BGZF (SAM specification §4.1), with room for more
// than 64 KiB.

import { type Library, type Pointer, ptr } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { putAddress } from "./address.ts";
import { openLibrary } from "./library.ts";

const SYMBOLS = {
  deflateInit2_: {
    args: [
      "buffer", // z_streamp strm
      "i32", // int level
      "i32", // int method
      "i32", // int windowBits
      "i32", // int memLevel
      "i32", // int strategy
      "cstring", // const char *version
      "i32", // int stream_size
    ],
    returns: "i32",
  },
  deflate: { args: ["buffer" /* z_streamp strm */, "i32" /* int flush */], returns: "i32" },
  deflateReset: { args: ["buffer" /* z_streamp strm */], returns: "i32" },
  deflateEnd: { args: ["buffer" /* z_streamp strm */], returns: "i32" },
  crc32: {
    args: ["usize" /* uLong crc */, "buffer" /* const Bytef *buf */, "u32" /* uInt len */],
    returns: "u32", // uLong; its upper half is always 0
  },
} as const;

let library: Library<typeof SYMBOLS> | undefined;

function libz(): Library<typeof SYMBOLS>["symbols"] {
  library ??= openLibrary({
    name: "libz",
    environment: "KQTIME_LIBZ",
    sonames: ["libz.so.1", "libz.so"],
    symbols: SYMBOLS,
    packages: { apt: "zlib1g", dnf: "zlib" },
  });
  return library.symbols;
}

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_FINISH = 4;
const Z_DEFLATED = 8;
const Z_DEFAULT_STRATEGY = 0;
/** 32 KiB of window and no header: the header is written here. */
const RAW_WINDOW_BITS = -15;
const MEM_LEVEL = 9;
/** libz compares the first digit and the size of its structure. */
const API_VERSION = "1.2.0";

/** `z_stream` where pointers and long have 64 bits; the members used here. */
const STREAM_BYTES = 112;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;

/** Magic, deflate, "has an extra field", no time, no hint, Unix, 8 extra bytes, "KQ", 4 bytes. */
export const MEMBER_SIGNATURE: readonly number[] = [
  0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 8, 0, 0x4b, 0x51, 4, 0,
];
const SIGNATURE = Uint8Array.from(MEMBER_SIGNATURE);
/** Bytes before the compressed data: the signature and the member's length (u32). */
export const MEMBER_HEADER_BYTES = MEMBER_SIGNATURE.length + 4;
/** Bytes after it: CRC and length of the text. */
export const MEMBER_TRAILER_BYTES = 8;

/** Where in `bytes` the last member header of `MemberEncoder` begins, -1 if there is none. */
export function lastMember(bytes: Uint8Array): number {
  for (let at = bytes.length - MEMBER_HEADER_BYTES; at >= 0; at--) {
    let same = 0;
    while (same < MEMBER_SIGNATURE.length && bytes[at + same] === MEMBER_SIGNATURE[same]) same++;
    if (same === MEMBER_SIGNATURE.length) return at;
  }
  return -1;
}

/** Where in `bytes[from … to)` the first such header begins (its signature at least), -1 if none does. */
export function nextMember(bytes: Uint8Array, from: number, to: number): number {
  if (to - from < SIGNATURE.length) return -1;
  const at = Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).indexOf(SIGNATURE);
  return at < 0 ? -1 : from + at;
}

/** The whole length of the member whose header begins at `at`, from its extra field. */
export function memberBytes(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + MEMBER_SIGNATURE.length, true);
}

/** Compresses chunk after chunk, each into one complete gzip member. */
export class MemberEncoder {
  /** Holds the member after `encode`; overwritten by the next one. */
  readonly output: Uint8Array;
  readonly #symbols = libz();
  // An ArrayBuffer first, and views on it: libz keeps the structure's address.
  readonly #stream = new DataView(new ArrayBuffer(STREAM_BYTES));
  readonly #header: DataView;
  readonly #outputAddress: number;
  #open = true;

  /** @throws KQTimeError `E_LIBRARY` without libz, `E_ZLIB` if it refuses. */
  constructor(maximumInputBytes: number, level: number) {
    // Deflate's worst case is a few bytes a block; zlib-ng's fastest level writes 9 bits a byte.
    const bound = maximumInputBytes + (maximumInputBytes >>> 2) + 1024;
    this.output = new Uint8Array(new ArrayBuffer(bound));
    this.output.set(MEMBER_SIGNATURE);
    this.#header = new DataView(this.output.buffer);
    this.#outputAddress = ptr(this.output);
    const status = this.#symbols.deflateInit2_(
      this.#stream,
      level,
      Z_DEFLATED,
      RAW_WINDOW_BITS,
      MEM_LEVEL,
      Z_DEFAULT_STRATEGY,
      API_VERSION,
      STREAM_BYTES,
    );
    if (status !== Z_OK) {
      throw new KQTimeError("E_ZLIB", "deflateInit2", `libz refuses to compress (error ${status})`);
    }
  }

  /**
   * Compresses the first `length` bytes of `input`, a view on an ArrayBuffer, into `output`.
   * Returns the member's length; 0 if libz failed.
   */
  encode(input: Uint8Array, length: number): number {
    const stream = this.#stream;
    const room = this.output.length - MEMBER_HEADER_BYTES - MEMBER_TRAILER_BYTES;
    putAddress(stream, NEXT_IN, ptr(input));
    stream.setUint32(AVAIL_IN, length, true);
    putAddress(stream, NEXT_OUT, (this.#outputAddress + MEMBER_HEADER_BYTES) as Pointer);
    stream.setUint32(AVAIL_OUT, room, true);
    const status = this.#symbols.deflate(stream, Z_FINISH);
    const body = room - stream.getUint32(AVAIL_OUT, true);
    if (this.#symbols.deflateReset(stream) !== Z_OK || status !== Z_STREAM_END) return 0;
    const end = MEMBER_HEADER_BYTES + body;
    const member = end + MEMBER_TRAILER_BYTES;
    this.#header.setUint32(MEMBER_SIGNATURE.length, member, true);
    this.#header.setUint32(end, this.#symbols.crc32(0, input, length), true);
    this.#header.setUint32(end + 4, length, true);
    return member;
  }

  /** Gives libz's memory back. */
  close(): void {
    if (this.#open) this.#symbols.deflateEnd(this.#stream);
    this.#open = false;
  }
}
