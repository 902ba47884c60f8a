// Several rings read together: in the order of their records' times, and never past a slot that a
// thread has claimed and not filled yet.

import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Mapping, MessageListener, RealtimeClock } from "../../src/ffi/libc.ts";
import type { RecordFeed } from "../../src/ring/feed.ts";
import {
  Constant, DirectionWord, EntryWord, Header, HeaderWord, Kind, Loss, Message, Slot, SlotWord, State,
} from "../../src/ring/layout.ts";
import { Ring } from "../../src/ring/ring.ts";
import { Rings } from "../../src/ring/rings.ts";
import { connectTo, Seal, sealedMemory, sendDescriptors, TargetMemory } from "../fuzz/memory.ts";
import { slotWords } from "../match/words.ts";

const SLOTS = 64;
const SLOT_WORDS = Constant.slotBytes / 4;
const HEADER_WORDS = Constant.headerBytes / 4;

/** A process's memory, written as the preload library does, by hand. */
class Writer {
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

const TOKEN = "0".repeat(32);
const silent = { next: () => null } as unknown as MessageListener;

/** Rings of `count` processes, and the ports of their records in the order in which they are read. */
function open(count: number, listener = silent) {
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

const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;

test("records of several processes come in the order of their times", () => {
  const { rings, writers, read } = open(3);
  const start = nowNs() - 1_000_000_000n;
  const expected = Array.from({ length: 90 }, (_, i) => i);
  for (const i of expected) writers[(i * 7) % 3]!.write(i, start + BigInt(i) * 1000n);
  expect(rings.drain()).toBe(expected.length);
  expect(rings.complete).toBe(true);
  expect(read).toEqual(expected);
});

test("a record of the future waits, one of a clock that was set back does not", () => {
  const { rings, writers, read } = open(2);
  const start = nowNs();
  writers[0]!.write(1, start - 5_000_000n);
  writers[0]!.write(2, start + 300_000_000n);
  writers[1]!.write(3, start + 3_600_000_000_000n);
  rings.drain();
  expect(read).toEqual([1, 3]);
  expect(rings.complete).toBe(true);
});

for (const count of [1, 2]) {
  test(`nothing behind a slot that is being filled is complete (${count} rings)`, () => {
    const { rings, writers, read } = open(count);
    const start = nowNs() - 1_000_000_000n;
    const other = writers[count - 1]!;
    writers[0]!.write(1, start);
    const commit = writers[0]!.claim(2, start + 1000n);
    writers[0]!.write(3, start + 2000n);
    if (count > 1) other.write(4, start + 3000n);
    rings.drain();
    expect(rings.complete).toBe(false);
    expect(read).toEqual([1]);
    commit();
    rings.drain();
    expect(rings.complete).toBe(true);
    expect(read).toEqual(count > 1 ? [1, 2, 3, 4] : [1, 2, 3]);
  });
}

for (const count of [1, 2]) {
  test(`what is stamped after the word that all are counted is not read (${count} rings)`, () => {
    const { rings, writers, read, told } = open(count);
    const start = nowNs() - 5_000_000_000n;
    writers[0]!.write(1, start);
    writers[count - 1]!.write(2, start + 1000n);
    // The clock is set by an hour in the middle of a drain.
    for (const [n, byNs] of [3_600_000_000_000n, -3_600_000_000_000n].entries()) {
      read.length = 0;
      told.counted = () => {
        read.push(0);
        writers[0]!.write(2 * n + 3, start + 2000n + byNs);
        writers[count - 1]!.write(2 * n + 4, start + 3000n + byNs);
      };
      rings.drain();
      expect(read).toEqual([0, 2 * n + 1, 2 * n + 2]);
      expect(rings.complete).toBe(true);
    }
  });
}

test("a drain that lasts long reads all that it should", () => {
  const { rings, writers, read } = open(2);
  const { now } = RealtimeClock.prototype;
  let lateNs = 0;
  RealtimeClock.prototype.now = function () {
    return now.call(this) + (lateNs += 2e9);
  };
  try {
    for (let n = 0; n < 20; n++) writers[n % 2]!.write(n, nowNs() - 5_000_000_000n + BigInt(n));
    rings.drain();
  } finally {
    RealtimeClock.prototype.now = now;
  }
  expect(read.length).toBe(20);
  expect(rings.complete).toBe(true);
});

test("a thread that never fills its slot is not waited for for ever", async () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 1_000_000_000n;
  writers[0]!.claim(1, start);
  writers[1]!.write(2, start + 1000n);
  rings.drain();
  expect(rings.complete).toBe(false);
  while (!rings.complete) {
    await new Promise((resolve) => setImmediate(resolve));
    rings.drain();
  }
  expect(read).toEqual([2]);
  writers[1]!.write(3, start + 2000n);
  rings.drain();
  expect(rings.complete).toBe(true);
  expect(read).toEqual([2, 3]);
});

/** Runs with a clock that stands still but for what the body adds, ms. */
function withClock(body: (clock: { ms: number }) => void): void {
  const clock = { ms: performance.now() };
  const { now } = performance;
  performance.now = () => clock.ms;
  try {
    body(clock);
  } finally {
    performance.now = now;
  }
}

test("what a thread commits late is read, unless it took a second", () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 1_000_000_000n;
  withClock((clock) => {
    const commit = writers[0]!.claim(1, start);
    writers[0]!.write(2, start + 1000n);
    writers[1]!.write(3, start + 2000n);
    for (let round = 0; round < 900; round++) {
      rings.drain();
      clock.ms += 1;
    }
    // Others are not kept waiting; what is behind the slot is.
    expect([rings.complete, read]).toEqual([true, [3]]);
    commit();
    rings.drain();
    expect([rings.complete, read]).toEqual([true, [3, 1, 2]]);
    expect([rings.badRecords, rings.lostRecords()]).toEqual([0, 0]);
  });
});

test("slots that are filled slowly, one after the other, keep nobody waiting for long", () => {
  const { rings, writers, read } = open(2);
  const start = nowNs() - 10_000_000_000n;
  const [slow, honest] = writers;
  withClock((clock) => {
    const commits = Array.from({ length: 40 }, (_, n) => slow!.claim(2 * n, start + BigInt(n)));
    let heldMs = 0;
    let longestMs = 0;
    let atOnceMs = 0;
    for (let ms = 0; ms < 5000; ms++, clock.ms++) {
      // Never so late that a slot is given up for itself.
      if (ms % 70 === 69) {
        commits.shift()!();
        commits.push(slow!.claim(1000 + 2 * ms, start + BigInt(ms)));
      }
      if (ms % 10 === 0) honest!.write(2 * ms + 1, start + BigInt(ms));
      rings.drain();
      atOnceMs = rings.complete ? 0 : atOnceMs + 1;
      longestMs = Math.max(longestMs, atOnceMs);
      if (!rings.complete) heldMs++;
    }
    expect(longestMs).toBeLessThanOrEqual(200);
    expect(heldMs).toBeLessThan(200 + 0.3 * 5000);
    // Of the honest one everything, and of the other what it filled.
    expect(read.filter((port) => port % 2 === 1).length).toBe(500);
    expect(read.filter((port) => port % 2 === 0).length).toBe(71);
    // Patience comes back: a slot that is being filled is waited for again.
    for (const commit of commits) commit();
    for (let ms = 0; ms < 1000; ms++, clock.ms++) rings.drain();
    slow!.claim(1, start);
    rings.drain();
    expect(rings.complete).toBe(false);
  });
});

test("an entry in which a call is under way is given back once that has ended, or after a minute", () => {
  for (const ends of [true, false]) {
    const { rings, writers } = open(1);
    const { words, ring } = writers[0]!;
    const state = HEADER_WORDS + SLOTS * SLOT_WORDS;
    const calls = state + EntryWord.out + DirectionWord.calls;
    const isFree = () => (words[state]! & ((1 << Constant.stateBits) - 1)) === State.Free;
    words[state] = (5 << Constant.stateBits) | State.Open;
    words[calls] = 1;
    withClock((clock) => {
      rings.free(ring.table, 0, 5);
      clock.ms += 59_000;
      rings.reap(clock.ms, 0);
      expect(isFree()).toBe(false);
      // Its process was killed in the call, or not.
      if (ends) words[calls] = 0;
      else clock.ms += 2000;
      rings.reap(clock.ms, 0);
      expect(isFree()).toBe(true);
      expect(words[state]! >>> Constant.stateBits).toBe(5);
    });
  }
});

test("a process that forks often while the collector stands still is not taken for a hostile one", () => {
  const { rings, writers } = open(1);
  const start = nowNs() - 1_000_000_000n;
  // Of a ring larger than this one: what was forked meanwhile is read at once.
  let children = 0;
  while (children < 3 * 4096) {
    for (let n = 0; n < SLOTS; n++) writers[0]!.fork((1 << 22) + ++children, start);
    rings.drain();
  }
  expect([rings.badRecords, rings.lostRecords()]).toEqual([0, 0]);
  // No child has no pid.
  writers[0]!.fork(0, start);
  rings.drain();
  expect(rings.badRecords).toBe(1);
});

/** Drains as a collector does that looks each 10 ms, by a clock of the test's own, until it is told. */
function drainUntil(rings: Rings, isOver: () => boolean): number {
  const { now } = performance;
  let sinceMs = 0;
  performance.now = () => sinceMs;
  try {
    for (; !isOver() && sinceMs < 60_000; sinceMs += 10) rings.drain();
  } finally {
    performance.now = now;
  }
  return sinceMs;
}

for (const count of [1, 2]) {
  test(`a record that is never finished is given up, its slot used no more (${count} rings)`, () => {
    const { rings, writers, read } = open(count);
    const [writer] = writers;
    const abandoned: number[] = [];
    rings.onAbandoned = (pid) => abandoned.push(pid);
    const start = nowNs() - 5_000_000_000n;
    writer!.write(1, start);
    const late = writer!.claim(2, start + 1000n);
    writer!.write(3, start + 2000n);
    const waitedMs = drainUntil(rings, () => read.length === 2);
    expect(read).toEqual([1, 3]);
    expect(waitedMs).toBeWithin(1000, 2000);
    expect([abandoned, rings.lostRecords(), rings.badRecords]).toEqual([[process.pid], 1, 1]);
    // Three laps, and the thread finishes its record all the same: once, in the middle of them.
    for (let port = 4; port < 4 + 3 * SLOTS; port++) {
      if (port === 4 + SLOTS * 1.5) late();
      writer!.write(port, start + BigInt(port) * 1000n);
      if (port % 5 === 0) rings.drain();
    }
    rings.drain();
    expect(rings.complete).toBe(true);
    expect(read).toEqual([1, ...Array.from({ length: 1 + 3 * SLOTS }, (_, i) => 3 + i)]);
    expect([rings.lostRecords(), rings.badRecords, rings.pressure()]).toEqual([1, 1, 0]);
    // Another collector that goes on with this ring passes over the slot too.
    const heir = new Ring(writer!.mapping, process.pid);
    const slot = new Uint32Array(SLOT_WORDS);
    for (let port = 0; port < SLOTS; port++) {
      writer!.write(port, start);
      expect(heir.backlog()).toBeGreaterThan(0);
      expect([heir.next(slot), slot[SlotWord.off]]).toEqual([true, port]);
      heir.publish();
    }
    expect(heir.backlog()).toBe(0);
  });
}

test("while a ring fills up, a record that is not finished is given up sooner", () => {
  const { rings, writers, read } = open(1);
  const start = nowNs() - 5_000_000_000n;
  writers[0]!.claim(1, start);
  for (let port = 2; port < SLOTS; port++) writers[0]!.write(port, start + BigInt(port));
  expect(drainUntil(rings, () => read.length > 0)).toBeWithin(100, 200);
});

test("a collector that has not looked for a while gives nothing up for that", () => {
  const { rings, writers, read } = open(1);
  const { now } = performance;
  const commit = writers[0]!.claim(1, nowNs() - 5_000_000_000n);
  performance.now = () => 0;
  try {
    rings.drain();
    performance.now = () => 3_600_000;
    for (let look = 0; look < 3; look++) rings.drain();
  } finally {
    performance.now = now;
  }
  commit();
  rings.drain();
  expect([read, rings.lostRecords()]).toEqual([[1], 0]);
});

test("calls that were left by a jump may have no record", () => {
  const { rings, writers } = open(1);
  writers[0]!.words[HeaderWord.losses + Loss.Left] = 3;
  expect(rings.lostRecords()).toBe(3);
});

test("so many slots are given up, and no more", () => {
  const { rings, writers } = open(1);
  const start = nowNs() - 5_000_000_000n;
  for (let n = 0; n < SLOTS; n++) writers[0]!.claim(n, start);
  drainUntil(rings, () => false);
  expect(rings.lostRecords()).toBe(SLOTS / 4);
});

test("a socket table is used as long as a process with one of its rings lives", async () => {
  const { rings } = open(0);
  // Whether a process still has its ring mapped is looked into now and then only: not below.
  const nowMs = performance.now();
  rings.reap(nowMs, 0);
  const child = Bun.spawn(["sleep", "60"]);
  const { ring } = new Writer(9n);
  rings.adopt(ring, [child.pid]);
  const { table } = ring;
  // Who asks is known by the ring that it names, or as a user of one.
  expect([rings.tableOf(1, 9n), rings.tableOf(child.pid, 0n), rings.tableOf(1, 0n)]).toEqual([
    table, table, -1,
  ]);
  rings.reap(nowMs, 0);
  expect(rings.isUsed(table)).toBe(true);
  child.kill();
  await child.exited;
  rings.reap(nowMs, 0);
  rings.reap(nowMs, 0);
  expect(rings.isUsed(table)).toBe(false);
  expect(rings.tableOf(child.pid, 9n)).toBe(-1);
});

/** Sends a ring as this process's own, which refers to the table of another one. */
function sendRing(path: string, id: bigint, tableId: bigint): void {
  const writer = new Writer(id);
  const bytes = writer.buffer.byteLength;
  const memory = new TargetMemory(sealedMemory(bytes, Seal.Shrink | Seal.Grow), bytes);
  writer.words[HeaderWord.entryCount] = 0;
  new DataView(writer.buffer).setBigUint64(Header.tableId, tableId, true);
  new Uint8Array(memory.buffer).set(new Uint8Array(writer.buffer));
  const head = new Uint8Array(Constant.messageHeadBytes);
  const view = new DataView(head.buffer);
  view.setUint32(Message.magic, Constant.magic, true);
  view.setUint32(Message.version, Constant.version, true);
  head.set(new TextEncoder().encode(TOKEN), Message.token);
  const connection = connectTo(path);
  sendDescriptors(connection, head, [memory.fd]);
  closeSync(connection);
  memory.close();
}

test("a child's ring that comes as its parent is seen to have ended finds the parent's table", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-rings-"));
  const listener = new MessageListener(join(folder, "socket"));
  const { rings } = open(0, listener);
  const rejected: string[] = [];
  rings.onReject = (why) => rejected.push(why);
  const parent = Bun.spawn(["true"]);
  const { ring } = new Writer(9n);
  rings.adopt(ring, [parent.pid]);
  await parent.exited;
  rings.drain();
  sendRing(listener.path, 10n, 9n);
  rings.reap(performance.now(), 0);
  rings.drain();
  rings.reap(performance.now(), 0);
  expect([rings.attached, rings.open, rings.badRecords]).toEqual([2, 1, 0]);
  expect(rings.isUsed(ring.table)).toBe(true);
  expect(rejected).toEqual([]);
  // One of a table that nobody knows is shown as a loss.
  sendRing(listener.path, 11n, 12n);
  rings.drain();
  expect([rings.attached, rings.badRecords, rejected.length]).toEqual([2, 1, 1]);
  rings.close();
  listener.close();
  rmSync(folder, { recursive: true });
});
