// Several rings read together: in the order of their records' times, and never past a slot that a
// thread has claimed and not filled yet.

import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageListener, RealtimeClock } from "../../src/ffi/libc.ts";
import {
  Constant, DirectionWord, EntryWord, Header, HeaderWord, Loss, Message, State,
} from "../../src/ring/layout.ts";
import { connectTo, Seal, sealedMemory, sendDescriptors, TargetMemory } from "../fuzz/memory.ts";
import { HEADER_WORDS, nowNs, open, SLOT_WORDS, SLOTS, TOKEN, withClock, Writer } from "./writer.ts";

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

test("calls that were left by a jump may have no record", () => {
  const { rings, writers } = open(1);
  writers[0]!.words[HeaderWord.losses + Loss.Left] = 3;
  expect(rings.lostRecords()).toBe(3);
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
