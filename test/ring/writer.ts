// Processes whose rings and tables a test writes by hand, and the rings that read them together.

import type { Mapping, MessageListener } from "../../src/ffi/libc.ts";
import type { RecordFeed } from "../../src/ring/feed.ts";
import { Constant, Header, HeaderWord, Kind, Slot, SlotWord } from "../../src/ring/layout.ts";
import { Ring } from "../../src/ring/ring.ts";
import { Rings } from "../../src/ring/rings.ts";
import { slotWords } from "../match/words.ts";

export const SLOTS = 64;
export const SLOT_WORDS = Constant.slotBytes / 4;
export const HEADER_WORDS = Constant.headerBytes / 4;

/** A process's memory, written as the preload library does, by hand. */
export class Writer {
  readonly buffer: ArrayBuffer;
  readonly words: Uint32Array;
  readonly mapping: Mapping;
  readonly ring: Ring;
  #head = 0;

  constructor(id: bigint) {
    const bytes = Constant.headerBytes + SLOTS * Constant.slotBytes + Constant.entryBytes;
    this.buffer = new ArrayBuffer(bytes);
    this.words = new Uint32Array(this.buffer);
    const put = (name: keyof typeof HeaderWord, value: number) => {
      this.words[HeaderWord[name]] = value;
    };
    put("magic", Constant.magic);
    put("version", Constant.version);
    put("headerBytes", Constant.headerBytes);
    put("slotBytes", Constant.slotBytes);
    put("entryBytes", Constant.entryBytes);
    put("slotCount", SLOTS);
    put("entryCount", 1);
    const view = new DataView(this.buffer);
    view.setBigUint64(Header.ringId, id, true);
    view.setBigUint64(Header.tableId, id, true);
    const mapping = { buffer: this.buffer, bytes, inode: 0, close: () => {} };
    this.mapping = mapping as unknown as Mapping;
    this.ring = new Ring(this.mapping, process.pid);
  }

  /** Claims a slot; returns what commits it. */
  claim(port: number, timeNs: bigint, pid = -1): () => void {
    while (this.#isRetired(this.#head)) this.#head++;
    const index = this.#head++;
    Atomics.store(this.words, HeaderWord.head, this.#head);
    return () => {
      const at = HEADER_WORDS + (index & (SLOTS - 1)) * SLOT_WORDS;
      const kind = pid < 0 ? Kind.Listen : Kind.Fork;
      const slot = slotWords({ kind, entry: 0, generation: 0, timeNs: 0, off: port, pid });
      slot[SlotWord.timeNs] = Number(timeNs & 0xffffffffn);
      slot[SlotWord.timeNs + 1] = Number(timeNs >> 32n);
      const halves = new Uint16Array(this.buffer);
      const { retired } = Slot;
      const mark = halves[at * 2 + retired / 2]!;
      this.words.set(slot.subarray(1), at + 1);
      halves[at * 2 + retired / 2] = mark;
      Atomics.store(this.words, at, index + 1);
    };
  }

  #isRetired(index: number): boolean {
    const at = Constant.headerBytes + (index & (SLOTS - 1)) * Constant.slotBytes + Slot.retired;
    return this.words[HeaderWord.retired]! > 0 && new Uint16Array(this.buffer)[at / 2] !== 0;
  }

  write(port: number, timeNs: bigint): void {
    this.claim(port, timeNs)();
  }

  fork(pid: number, timeNs: bigint): void {
    this.claim(0, timeNs, pid)();
  }
}

export const TOKEN = "0".repeat(32);
const silent = { next: () => null } as unknown as MessageListener;

/** Rings of `count` processes, and the ports of their records in the order in which they are read. */
export function open(count: number, listener = silent) {
  const read: number[] = [];
  const told = { counted: () => {} };
  let tables = 0;
  const feed: RecordFeed = {
    lookAtClock: () => told.counted(),
    addTable: () => tables++,
    endTable: () => {},
    isUnknown: () => false,
    entry: () => {},
    record: (_table, words) => read.push(words[SlotWord.off]!),
  };
  const rings = new Rings(listener, TOKEN, feed);
  const writers = Array.from({ length: count }, (_, i) => new Writer(BigInt(i + 1)));
  for (const { ring } of writers) rings.adopt(ring, [process.pid]);
  return { rings, writers, read, told };
}

export const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;

/** Runs with a clock that stands still but for what the body adds, ms. */
export function withClock(body: (clock: { ms: number }) => void): void {
  // Whole: of fractions, 200 steps of 1 ms may sum up to a little less than 200 ms.
  const clock = { ms: Math.ceil(performance.now()) };
  const { now } = performance;
  performance.now = () => clock.ms;
  try {
    body(clock);
  } finally {
    performance.now = now;
  }
}
