// The bytes of a log, whatever they are wrapped in: a file or standard input, plain or compressed
// with gzip, xz or zstd (told by the first bytes, not by the name), in several members, or cut off.
// What can be read is read; what cannot is told. Memory is constant whatever the input holds.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import type { Decoder } from "../ffi/decoder.ts";
import { GzipDecoder } from "../ffi/inflate.ts";
import { XzDecoder } from "../ffi/lzma.ts";
import { MEMBER_SIGNATURE, nextMember } from "../ffi/zlib.ts";
import { ZstdDecoder } from "../ffi/zstd.ts";
import { errnoOf, reasonOf } from "../output/open-file.ts";
import { formatExact } from "../output/units.ts";
import { announcedBytes, LOOK_AHEAD_BYTES, MEMBER_BYTES_MOST, memberEnd } from "./member-end.ts";

const STDIN = 0;
const READ_BYTES = 1 << 20;
/** Compressed input that stays at hand, to look for the next member when this one is damaged. */
const KEPT_BYTES = 1 << 16;
/** As many as it takes to see a member behind the first two bytes of a torn one. */
const START_BYTES = 2 + MEMBER_SIGNATURE.length;
const SLOW_WRITER_MS = 5;
const NOTHING_BEHIND = "nothing behind it can be read";

/** What another reason is behind than for a file that is written. */
const UNREADABLE: Record<string, string> = {
  ENOENT: "there is no such file (ENOENT)",
  ELOOP: "its symbolic links lead in a circle (ELOOP)",
};

interface Format {
  readonly name: string;
  /** The first bytes of each member, frame or stream. */
  readonly magic: readonly number[];
  readonly open: () => Decoder;
}

const GZIP: Format = { name: "gzip", magic: [0x1f, 0x8b, 8], open: () => new GzipDecoder() };
const FORMATS: readonly Format[] = [
  GZIP,
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], open: () => new XzDecoder() },
  { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd], open: () => new ZstdDecoder() },
];

/** One input, read from its start to its end. */
export class Input {
  /** As the user named it; `standard input`. */
  readonly name: string;
  /** Size of the file, 0 where it is not known. */
  readonly sizeBytes: number;
  /** Bytes read so far, before decompression. */
  readBytes = 0;
  /** Sentences about what could not be read, for the user. */
  readonly problems: string[] = [];
  readonly #fd: number;
  readonly #raw = new Uint8Array(
    new ArrayBuffer(KEPT_BYTES + MEMBER_BYTES_MOST + LOOK_AHEAD_BYTES + READ_BYTES),
  );
  #from = 0;
  #to = 0;
  #ended = false;
  #format: Format | null = null;
  #decoder: Decoder | null = null;
  #begun = false;
  /** Where in the compressed input the present member, frame or stream began. */
  #partAt = 0;
  /** Where it ends, if that is known; it is at hand up to there. */
  #partEnd = Infinity;
  /** Up to here, what a header said of its member's length was wrong once. */
  #doubtedTo = 0;

  /** @param path a file; `-` is standard input. @throws KQTimeError `E_INPUT` */
  constructor(path: string) {
    this.name = path === "-" ? "standard input" : path;
    try {
      this.#fd = path === "-" ? STDIN : openSync(path, "r");
    } catch (error) {
      throw this.#failed("open", error);
    }
    try {
      const stat = fstatSync(this.#fd);
      if (stat.isDirectory()) {
        throw new KQTimeError("E_INPUT", "open", `"${path}" is a folder: name the log in it`);
      }
      this.sizeBytes = stat.isFile() ? stat.size : 0;
    } catch (error) {
      this.close();
      throw error instanceof KQTimeError ? error : this.#failed("stat", error);
    }
  }

  /**
   * Puts the next bytes of text into `into[at … at + room)`, a view on an ArrayBuffer of its own;
   * returns how many, 0 at the end.
   * @throws KQTimeError `E_INPUT` if reading fails, `E_LIBRARY` without the library to decompress
   */
  read(into: Uint8Array, at: number, room: number): number {
    if (!this.#begun) this.#begin();
    if (this.#decoder !== null) return this.#decode(this.#decoder, into, at, room);
    const ready = Math.min(room, this.#to - this.#from);
    if (ready > 0) {
      into.set(this.#raw.subarray(this.#from, this.#from + ready), at);
      this.#from += ready;
      return ready;
    }
    return this.#ended ? 0 : this.#readRaw(into, at, room);
  }

  close(): void {
    this.#decoder?.close();
    this.#decoder = null;
    if (this.#fd !== STDIN && this.#fd !== undefined) closeSync(this.#fd);
  }

  #begin(): void {
    this.#begun = true;
    while (this.#to < START_BYTES && !this.#ended) this.#refill();
    const start = this.#raw.subarray(0, this.#to);
    this.#format = FORMATS.find(({ magic }) => magic.every((byte, i) => start[i] === byte)) ?? null;
    if (nextMember(start, 0, Math.min(START_BYTES, this.#to)) > 0) this.#format = GZIP;
    this.#decoder = this.#format?.open() ?? null;
    if (this.#decoder === null && start[0] === 0x42 && start[1] === 0x5a && start[2] === 0x68) {
      const how = `bzip2 -dc ${this.name} | kqtime …`;
      throw new KQTimeError("E_INPUT", "read", `${this.name} is compressed with bzip2: ${how}`);
    }
  }

  #decode(decoder: Decoder, into: Uint8Array, at: number, room: number): number {
    for (;;) {
      if (this.#from === this.#to && !this.#ended) this.#refill();
      if (decoder.between) {
        if (this.#from === this.#to) return 0;
        this.#beginPart();
      }
      const end = this.#partEnd - this.readBytes + this.#to;
      const to = Math.min(this.#to, end);
      const written = decoder.decode(this.#raw, this.#from, to, into, at, room);
      this.#from += decoder.consumed;
      if (written > 0) return written;
      if (written < 0) {
        if (!this.#resume(decoder, decoder.failure)) return 0;
      } else if (decoder.consumed === 0 && !decoder.between && this.#from === end) {
        if (!this.#resume(decoder, "a part was torn there")) return 0;
      } else if (decoder.consumed === 0 && !decoder.between) {
        this.problems.push(`${this.name} is cut off in the middle: what it holds up to there was read`);
        decoder.restart();
        return 0;
      }
    }
  }

  #beginPart(): void {
    this.#partAt = this.readBytes - this.#to + this.#from;
    this.#partEnd = Infinity;
    if (this.#format !== GZIP) return;
    this.#require(LOOK_AHEAD_BYTES);
    this.#require(announcedBytes(this.#raw, this.#from, this.#to) + LOOK_AHEAD_BYTES);
    const isDoubted = this.#partAt < this.#doubtedTo;
    this.#partEnd = this.readBytes - this.#to + memberEnd(this.#raw, this.#from, this.#to, isDoubted);
  }

  /** After damage: goes on with the next member that can be found. False if there is none. */
  #resume(decoder: Decoder, failure: string): boolean {
    const { name, magic } = this.#format!;
    const where = `near byte ${formatExact(this.readBytes - this.#to + this.#from)}`;
    const problem = `${this.name} is damaged ${where} (${failure}): `;
    decoder.restart();
    const begun = this.#partAt - (this.readBytes - this.#to);
    if (this.#partEnd !== Infinity) {
      // Torn after all, and whole ones make up for what it lacks? Then the next one begins before.
      const end = this.#partEnd - (this.readBytes - this.#to);
      const next = nextMember(this.#raw, begun + 1, end);
      this.#from = next < 0 ? end : next;
      this.#doubtedTo = Math.max(this.#doubtedTo, this.#partEnd);
      const goesOn = this.#from < this.#to || !this.#ended;
      this.#tell(problem + (goesOn ? `reading goes on with the next ${name} part` : NOTHING_BEHIND));
      return goesOn;
    }
    // A cut member swallows the head of the next one before the damage shows.
    let from = Math.max(begun + 1, this.#from - KEPT_BYTES, 0);
    for (;;) {
      const found = find(this.#raw, magic, from, this.#to);
      if (found >= 0) {
        this.#from = found;
        this.#tell(`${problem}reading goes on with the next ${name} part`);
        return true;
      }
      if (this.#ended) {
        this.#from = this.#to;
        this.#tell(problem + NOTHING_BEHIND);
        return false;
      }
      this.#from = Math.max(from, this.#to - magic.length + 1);
      this.#refill();
      from = this.#from;
    }
  }

  /** A file may be damaged in a thousand places: the first few say enough. */
  #tell(problem: string): void {
    if (this.problems.length < 5) this.problems.push(problem);
    else if (this.problems.length === 5) this.problems.push(`${this.name} is damaged in more places`);
  }

  /** Has the next `bytes` at hand, `MEMBER_BYTES_MOST` and a look ahead at most, if there are so many. */
  #require(bytes: number): void {
    while (this.#to - this.#from < bytes && !this.#ended) this.#refill();
  }

  /** Reads on behind what is at hand; `#from` and `#to` may move, with the bytes. */
  #refill(): void {
    const kept = Math.max(0, this.#from - KEPT_BYTES);
    if (this.#to + READ_BYTES > this.#raw.length && kept > 0) {
      this.#raw.copyWithin(0, kept, this.#to);
      this.#from -= kept;
      this.#to -= kept;
    }
    this.#to += this.#readRaw(this.#raw, this.#to, Math.min(READ_BYTES, this.#raw.length - this.#to));
  }

  #readRaw(into: Uint8Array, at: number, room: number): number {
    for (;;) {
      try {
        const count = readSync(this.#fd, into, at, room, null);
        this.readBytes += count;
        if (count === 0) this.#ended = true;
        return count;
      } catch (error) {
        const code = errnoOf(error);
        if (code === "EINTR") continue;
        if (code !== "EAGAIN") throw this.#failed("read", error);
        // Standard input that another program has made non-blocking.
        Bun.sleepSync(SLOW_WRITER_MS);
      }
    }
  }

  #failed(op: string, error: unknown): KQTimeError {
    const why = `${this.name} cannot be read: ${UNREADABLE[errnoOf(error)] ?? reasonOf(error)}`;
    return new KQTimeError("E_INPUT", op, why, undefined, { cause: error });
  }
}

function find(bytes: Uint8Array, magic: readonly number[], from: number, to: number): number {
  const first = magic[0]!;
  for (let at = bytes.indexOf(first, from); at >= 0 && at + magic.length <= to; ) {
    if (magic.every((byte, i) => bytes[at + i] === byte)) return at;
    at = bytes.indexOf(first, at + 1);
  }
  return -1;
}
