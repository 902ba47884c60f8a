// A session as the join saw it: `events.kqt` holds the records, socket entries and decisions in the
// order in which the engine got them, `headers.pcap` the captured headers. Replaying the two gives
// the identical log and summary, so that every fault of the join can be reproduced.
//
// No payload is kept: packets end with their TCP header, and the tags of records are hashed with a
// salt that is thrown away.
//
// events.kqt: the line "kqtime tape 1\n", then frames of two u32 (type, bytes of body) and a body
// that is padded to a multiple of four. Little-endian.

import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { KQTimeError } from "../errors.ts";
import { SlotWord } from "../ring/layout.ts";
import { ENTRY_WORDS, SLOT_WORDS } from "../ring/ring.ts";

export const EVENTS_FILE = "events.kqt";
export const HEADERS_FILE = "headers.pcap";

const MAGIC = "kqtime tape 1\n\0\0";
const BUFFER_WORDS = 1 << 16;

export const Frame = {
  /** JSON text: how the session was set up. First. */
  Setup: 1,
  Table: 2,
  EndTable: 3,
  /** table, entry, 64 words. */
  Entry: 4,
  /** table, 16 words. */
  Record: 5,
  /** packets that follow in the savefile; capture drops now and when last drained (two f64). */
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
} as const;

export class TapeWriter {
  readonly #fd: number;
  readonly #words = new Uint32Array(new ArrayBuffer(BUFFER_WORDS * 4));
  readonly #bytes = new Uint8Array(this.#words.buffer);
  readonly #float = new Float64Array(new ArrayBuffer(16));
  readonly #floatWords = new Uint32Array(this.#float.buffer);
  readonly #salt = crypto.getRandomValues(new Uint8Array(16));
  readonly #tag = new Uint8Array(new ArrayBuffer(32));
  readonly #tagWords = new Uint32Array(this.#tag.buffer);
  readonly #onError: (message: string) => void;
  #used = 0;
  #failed = false;

  /** @throws KQTimeError `E_RECORD` */
  constructor(folder: string, onError: (message: string) => void) {
    const path = join(folder, EVENTS_FILE);
    this.#onError = onError;
    this.#tag.set(this.#salt, 16);
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    try {
      this.#fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    } catch (error) {
      throw new KQTimeError(
        "E_RECORD",
        "open",
        `cannot record into ${path} (${(error as NodeJS.ErrnoException).code}): ` +
          "--record needs a folder without an earlier recording, and the right to write there",
      );
    }
    this.#bytes.set(new TextEncoder().encode(MAGIC));
    this.#used = MAGIC.length / 4;
  }

  text(type: number, value: unknown): void {
    const text = new TextEncoder().encode(JSON.stringify(value));
    const words = (text.length + 3) >> 2;
    this.#flush();
    const frame = new Uint8Array(8 + words * 4);
    const header = new Uint32Array(frame.buffer, 0, 2);
    header[0] = type;
    header[1] = text.length;
    frame.set(text, 8);
    this.#write(frame);
  }

  plain(type: number): void {
    this.#begin(type, 0);
  }

  table(type: number, table: number): void {
    const at = this.#begin(type, 1);
    this.#words[at] = table;
  }

  entry(table: number, entry: number, words: Uint32Array): void {
    const at = this.#begin(Frame.Entry, 2 + ENTRY_WORDS);
    this.#words[at] = table;
    this.#words[at + 1] = entry;
    for (let w = 0; w < ENTRY_WORDS; w++) this.#words[at + 2 + w] = words[w]!;
  }

  record(table: number, words: Uint32Array): void {
    const at = this.#begin(Frame.Record, 1 + SLOT_WORDS);
    this.#words[at] = table;
    for (let w = 0; w < SLOT_WORDS; w++) this.#words[at + 1 + w] = words[w]!;
    for (let w = 0; w < 4; w++) this.#tagWords[w] = words[SlotWord.tag + w]!;
    const hash = Bun.hash.wyhash(this.#tag);
    this.#words[at + 1 + SlotWord.tag] = Number(hash & 0xffffffffn);
    this.#words[at + 2 + SlotWord.tag] = Number(hash >> 32n);
    this.#words[at + 3 + SlotWord.tag] = 0;
    this.#words[at + 4 + SlotWord.tag] = 0;
  }

  /** A frame of two numbers. */
  pair(type: number, a: number, b: number): void {
    const at = this.#begin(type, 4);
    this.#float[0] = a;
    this.#float[1] = b;
    this.#words.set(this.#floatWords, at);
  }

  packets(count: number, dropsNow: number, dropsDrained: number): void {
    const at = this.#begin(Frame.Packets, 5);
    this.#words[at] = count;
    this.#float[0] = dropsNow;
    this.#float[1] = dropsDrained;
    this.#words.set(this.#floatWords, at + 1);
  }

  inner(indices: Iterable<number>): void {
    const list = [...indices];
    const at = this.#begin(Frame.Inner, list.length);
    this.#words.set(list, at);
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
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
    this.#write(this.#bytes.subarray(0, this.#used * 4));
    this.#used = 0;
  }

  #write(bytes: Uint8Array): void {
    if (this.#failed) return;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#failed = true;
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      this.#onError(`the recording is incomplete: writing ${EVENTS_FILE} failed (${code})`);
    }
  }
}

export interface TapeFrame {
  readonly type: number;
  readonly words: Uint32Array;
  /** The body as text, for `Setup` and `End`. */
  text(): unknown;
}

const READ_BYTES = 1 << 20;
/** The largest frame that is believed: longer ones are texts of a damaged file. */
const FRAME_BYTES_MAX = 1 << 26;

/** Frames of a recording, in order; each is valid until the next. A cut-off end is the end. */
export function* readTape(folder: string): Generator<TapeFrame> {
  const path = join(folder, EVENTS_FILE);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new KQTimeError("E_RECORD", "read", `${folder} holds no recording: ${EVENTS_FILE} (${code})`);
  }
  const decoder = new TextDecoder();
  let bytes = new Uint8Array(new ArrayBuffer(READ_BYTES));
  let start = 0;
  let end = 0;
  /** Has `needed` bytes at `start`, a multiple of four, or says that the file has no more. */
  const fill = (needed: number): boolean => {
    if (end - start >= needed) return true;
    const room = needed > bytes.length ? new Uint8Array(new ArrayBuffer(needed + READ_BYTES)) : bytes;
    room.set(bytes.subarray(start, end));
    end -= start;
    start = 0;
    bytes = room;
    while (end < needed) {
      const length = readSync(fd, bytes, end, bytes.length - end, null);
      if (length === 0) return false;
      end += length;
    }
    return true;
  };
  try {
    if (!fill(MAGIC.length) || decoder.decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) {
      throw new KQTimeError("E_RECORD", "read", `${path} is no recording of this version of kqtime`);
    }
    start = MAGIC.length;
    while (fill(8)) {
      const [type, length] = new Uint32Array(bytes.buffer, start, 2) as unknown as [number, number];
      const padded = ((length + 3) >>> 2) * 4;
      if (length > FRAME_BYTES_MAX || !fill(8 + padded)) return;
      const body = start + 8;
      yield {
        type,
        words: new Uint32Array(bytes.buffer, body, padded / 4),
        text: () => JSON.parse(decoder.decode(bytes.subarray(body, body + length))) as unknown,
      };
      start = body + padded;
    }
  } finally {
    closeSync(fd);
  }
}
