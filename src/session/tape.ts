// A session as the join saw it: `events.kqt` holds the records, socket entries and decisions in the
// order in which the engine got them, `headers.pcap` the captured headers. Replaying the two gives
// the identical log and summary, so that every fault of the join can be reproduced.
//
// No payload is kept: packets end with their TCP header, and records have none; what a process may
// have put in the place for names stays out where there is no name.
//
// events.kqt: the line "kqtime tape 5\n", then chunks. A chunk is three u32 (its length in bytes and
// the complement of that, the CRC-32 of what follows) and whole frames; a frame is two u32 (type,
// bytes of body) and a body that is padded to a multiple of four. Little-endian. A kqtime that is
// killed leaves an incomplete chunk. ("kqtime tape 4\n" has no checksums of packets.)

import { closeSync, constants, fstatSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { KQTimeError } from "../errors.ts";
import type { ClockStep } from "../match/clock-steps.ts";
import { errnoOf, openPrivate, reasonOf } from "../output/open-file.ts";
import { Kind, SlotWord } from "../ring/layout.ts";
import { ENTRY_WORDS, SLOT_WORDS } from "../ring/ring.ts";

export const EVENTS_FILE = "events.kqt";
export const HEADERS_FILE = "headers.pcap";

const MAGIC = "kqtime tape 5\n\0\0";
const MAGIC_BEFORE = "kqtime tape 4\n\0\0";
const BUFFER_WORDS = 1 << 16;
/** Of a slot: a part of a name. */
const TAG_WORDS = 4;
/** Length, complement of the length, and CRC of a chunk. */
const HEAD_WORDS = 3;
/** What a kill may cost. */
const FLUSH_EVERY_MS = 1000;
/** … and a disk that becomes full: of events, and of packets. */
const FLUSH_BYTES = 1 << 16;

export const Frame = {
  /** JSON text: how the session was set up. First. */
  Setup: 1,
  Table: 2,
  EndTable: 3,
  /** table, entry, 64 words. */
  Entry: 4,
  /** table, 16 words. */
  Record: 5,
  /**
   * packets that follow in the savefile; capture drops now and when last drained (two f64); their
   * checksum, see digest.ts.
   */
  Packets: 6,
  /** capturedNs (f64), lost records. */
  Tick: 7,
  /** sock, bytes (i32). */
  Queued: 8,
  /** interface indices. */
  Inner: 9,
  /** Nothing: the end of a round. */
  Flush: 10,
  /** JSON text: what the summary needs besides the join. Last. */
  End: 11,
  /** JSON text, as `HandleSetup`. */
  Open: 12,
  /** JSON text: handle, endNs. */
  Free: 13,
  /** JSON text: handle, remove, text (see rule-text.ts), askedNs. */
  Rule: 14,
  /** sock, and what the kernel says of that socket (f64, see `Observed`). */
  Observed: 15,
  /** As Entry: the socket lived before the session took over. */
  Taken: 16,
  /** f64, as `Engine.sample` takes them. */
  Queues: 17,
  /** sock (f64): the kernel does not know it any more. */
  Gone: 18,
  /** f64, the fields of `ClockStep`: times in records and packets from here on know of it. */
  Clock: 19,
} as const;

/** What holds the packets: no event may speak of one that is not there. */
export interface Savefile {
  /** Bytes since the last flush. */
  readonly unflushedBytes: number;
  flush(): void;
}

export class TapeWriter {
  /** Flushed before events reach the file. */
  savefile: Savefile | null = null;
  readonly #fd: number;
  readonly #path: string;
  readonly #words = new Uint32Array(new ArrayBuffer(BUFFER_WORDS * 4));
  readonly #float = new Float64Array(new ArrayBuffer(16));
  readonly #floatWords = new Uint32Array(this.#float.buffer);
  readonly #onError: (message: string) => void;
  #used = HEAD_WORDS;
  #flushedMs = performance.now();
  #failed = false;

  /** @throws KQTimeError `E_RECORD` */
  constructor(folder: string, onError: (message: string) => void) {
    const path = join(folder, EVENTS_FILE);
    this.#onError = onError;
    this.#path = path;
    this.#fd = makeFile(path);
    this.#write(new TextEncoder().encode(MAGIC));
  }

  text(type: number, value: unknown): void {
    this.#whole(type, new TextEncoder().encode(JSON.stringify(value)));
  }

  numbers(type: number, numbers: Float64Array): void {
    this.#whole(type, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
  }

  clockStep({ fromNs, toNs, byNs }: ClockStep): void {
    this.numbers(Frame.Clock, Float64Array.of(fromNs, toNs, byNs));
  }

  /** A frame of any length, in a chunk of its own. */
  #whole(type: number, body: Uint8Array): void {
    const words = (body.length + 3) >> 2;
    this.#flush();
    const chunk = new Uint32Array(new ArrayBuffer((HEAD_WORDS + 2 + words) * 4));
    chunk[HEAD_WORDS] = type;
    chunk[HEAD_WORDS + 1] = body.length;
    new Uint8Array(chunk.buffer).set(body, (HEAD_WORDS + 2) * 4);
    this.#chunk(chunk, chunk.length);
  }

  plain(type: number): void {
    this.#begin(type, 0);
  }

  table(type: number, table: number): void {
    const at = this.#begin(type, 1);
    this.#words[at] = table;
  }

  entry(type: number, table: number, entry: number, words: Uint32Array): void {
    const at = this.#begin(type, 2 + ENTRY_WORDS);
    this.#words[at] = table;
    this.#words[at + 1] = entry;
    for (let w = 0; w < ENTRY_WORDS; w++) this.#words[at + 2 + w] = words[w]!;
  }

  record(table: number, words: Uint32Array): void {
    const at = this.#begin(Frame.Record, 1 + SLOT_WORDS);
    this.#words[at] = table;
    for (let w = 0; w < SLOT_WORDS; w++) this.#words[at + 1 + w] = words[w]!;
    const isName = (words[SlotWord.kind]! & 0xff) === Kind.Name;
    if (!isName) this.#words.fill(0, at + 1 + SlotWord.tag, at + 1 + SlotWord.tag + TAG_WORDS);
  }

  /** A frame of two numbers. */
  pair(type: number, a: number, b: number): void {
    const at = this.#begin(type, 4);
    this.#float[0] = a;
    this.#float[1] = b;
    this.#words.set(this.#floatWords, at);
    if (type === Frame.Tick && performance.now() - this.#flushedMs >= FLUSH_EVERY_MS) this.#flush();
  }

  observed(sock: number, values: Float64Array): void {
    const numbers = this.#begin(Frame.Observed, (1 + values.length) * 2);
    this.#float[0] = sock;
    for (let i = -1; i < values.length; i++) {
      if (i >= 0) this.#float[0] = values[i]!;
      this.#words[numbers + (i + 1) * 2] = this.#floatWords[0]!;
      this.#words[numbers + (i + 1) * 2 + 1] = this.#floatWords[1]!;
    }
  }

  packets(count: number, dropsNow: number, dropsDrained: number, checksum = 0): void {
    const at = this.#begin(Frame.Packets, 6);
    this.#words[at] = count;
    this.#float[0] = dropsNow;
    this.#float[1] = dropsDrained;
    this.#words.set(this.#floatWords, at + 1);
    this.#words[at + 5] = checksum;
    const events = (this.#used - HEAD_WORDS) * 4;
    // Often enough that neither file takes the last room on a disk without the other.
    if (events + (this.savefile?.unflushedBytes ?? 0) >= FLUSH_BYTES) this.#flush();
  }

  inner(indices: Iterable<number>): void {
    const list = [...indices];
    const at = this.#begin(Frame.Inner, list.length);
    this.#words.set(list, at);
  }

  close(): void {
    this.#flush();
    // Nobody would find what was written to it.
    if (fstatSync(this.#fd).nlink === 0) {
      this.#fail(`"${this.#path}" was removed during the run: keep its folder until the run has ended`);
    }
    closeSync(this.#fd);
  }

  /** Takes the file away again: nothing was recorded. */
  abandon(): void {
    closeSync(this.#fd);
    rmSync(this.#path, { force: true });
  }

  #begin(type: number, words: number): number {
    if (this.#used + 2 + words > BUFFER_WORDS) this.#flush();
    this.#words[this.#used] = type;
    this.#words[this.#used + 1] = words * 4;
    const at = this.#used + 2;
    this.#used = at + words;
    return at;
  }

  #flush(): void {
    this.#flushedMs = performance.now();
    if (this.#used === HEAD_WORDS) return;
    let failure: string | null = null;
    try {
      this.savefile?.flush();
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    // A replay finds out which packets are missing: what came before them is as good as ever.
    this.#chunk(this.#words, this.#used);
    this.#used = HEAD_WORDS;
    if (failure !== null) this.#fail(failure);
  }

  /** Writes the first `used` words of a buffer, whose head it fills in. */
  #chunk(buffer: Uint32Array, used: number): void {
    const bytes = new Uint8Array(buffer.buffer, 0, used * 4);
    buffer[0] = (used - HEAD_WORDS) * 4;
    buffer[1] = ~buffer[0]!;
    buffer[2] = Bun.hash.crc32(bytes.subarray(HEAD_WORDS * 4));
    this.#write(bytes);
  }

  #write(bytes: Uint8Array): void {
    if (this.#failed) return;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#fail(`writing ${EVENTS_FILE} failed: ${reasonOf(error)}`);
    }
  }

  #fail(why: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#onError(`the recording is incomplete: ${why}`);
  }
}

/** Makes the savefile of a recording, empty, and returns its path. @throws KQTimeError `E_RECORD` */
export function makeHeadersFile(folder: string): string {
  const path = join(folder, HEADERS_FILE);
  closeSync(makeFile(path));
  return path;
}

function makeFile(path: string): number {
  try {
    return openPrivate(path, { exclusive: true }).fd;
  } catch (error) {
    throw new KQTimeError(
      "E_RECORD",
      "open",
      `cannot record into "${path}": ${reasonOf(error)}; ` +
        "--record needs a folder without an earlier recording, and the right to write there",
    );
  }
}

/** A recording whose bytes are not those that were written. */
export function damaged(path: string, what: string): KQTimeError {
  return new KQTimeError("E_RECORD", "read", `the recording is damaged: ${path}: ${what}`);
}

export interface TapeFrame {
  readonly type: number;
  readonly words: Uint32Array;
  /** The body as text, for `Setup` and `End`. */
  text(): unknown;
}

/**
 * Frames of a recording, in order; each is valid until the next. A cut-off end is the end.
 * @throws KQTimeError `E_RECORD`
 */
export function* readTape(folder: string): Generator<TapeFrame> {
  const path = join(folder, EVENTS_FILE);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch (error) {
    const why = errnoOf(error) === "ENOTDIR"
      ? `${folder} is a file: replay takes the folder that \`run --record\` has made`
      : `${folder} holds no recording: ${EVENTS_FILE} (${errnoOf(error)})`;
    throw new KQTimeError("E_RECORD", "read", why);
  }
  try {
    const magic = readWhole(fd, MAGIC.length);
    if (magic === null || ![MAGIC, MAGIC_BEFORE].includes(new TextDecoder().decode(magic))) {
      throw new KQTimeError("E_RECORD", "read", `${path} is no recording of this version of kqtime`);
    }
    let left = fstatSync(fd).size - MAGIC.length;
    for (;;) {
      const head = readWhole(fd, HEAD_WORDS * 4);
      if (head === null) return;
      const [length = 0, complement = 0, crc = 0] = new Uint32Array(head.buffer);
      left -= head.length + length;
      if (length !== ~complement >>> 0 || length % 4 !== 0) throw damaged(path, "a chunk's length is wrong");
      if (left < 0) return;
      const chunk = readWhole(fd, length);
      if (chunk === null) return;
      if (Bun.hash.crc32(chunk) !== crc) throw damaged(path, "a chunk's checksum is wrong");
      yield* framesOf(chunk, path);
    }
  } finally {
    closeSync(fd);
  }
}

function* framesOf(chunk: Uint8Array<ArrayBuffer>, path: string): Generator<TapeFrame> {
  for (let at = 0; at < chunk.length; ) {
    const [type, length] = new Uint32Array(chunk.buffer, at, 2) as unknown as [number, number];
    const padded = ((length + 3) >>> 2) * 4;
    const body = at + 8;
    if (body + padded > chunk.length) throw damaged(path, "a frame's length is wrong");
    yield {
      type,
      words: new Uint32Array(chunk.buffer, body, padded / 4),
      text: () => parse(chunk.subarray(body, body + length), path),
    };
    at = body + padded;
  }
}

function parse(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw damaged(path, "a text in it cannot be read");
  }
}

/** The next bytes of a file, null if there are fewer. */
function readWhole(fd: number, length: number): Uint8Array<ArrayBuffer> | null {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  for (let done = 0; done < length; ) {
    const read = readSync(fd, bytes, done, length - done, null);
    if (read === 0) return null;
    done += read;
  }
  return bytes;
}
