// What the sockets of living processes are told about those that have ended: only a call that can be
// theirs, and no longer than that is so.

import { expect, test } from "bun:test";
import type { Mapping } from "../../src/ffi/libc.ts";
import { Gone } from "../../src/ring/gone.ts";
import { Constant, DirectionWord, EntryWord, Header, HeaderWord, Type } from "../../src/ring/layout.ts";
import { Ring } from "../../src/ring/ring.ts";

const SLOTS = 64;
const PID = 70_001;
const TWIN = 70_002;
const OTHER = 70_003;

/** A table of two sockets; the second was never used. */
class Table {
  readonly #words: Uint32Array;
  readonly ring: Ring;

  constructor(madeBy = PID) {
    const bytes = Constant.headerBytes + SLOTS * Constant.slotBytes + 2 * Constant.entryBytes;
    const buffer = new ArrayBuffer(bytes);
    const words = new Uint32Array(buffer);
    this.#words = words;
    const header: Partial<Record<keyof typeof HeaderWord, number>> = {
      magic: Constant.magic, version: Constant.version, headerBytes: Constant.headerBytes,
      slotBytes: Constant.slotBytes, entryBytes: Constant.entryBytes,
      slotCount: SLOTS, entryCount: 2, entryHigh: 1, pid: madeBy,
    };
    for (const [name, value] of Object.entries(header)) {
      words[HeaderWord[name as keyof typeof HeaderWord]] = value;
    }
    new DataView(buffer).setBigUint64(Header.ringId, 7n, true);
    words[this.#entryAt + EntryWord.type] = Type.Tcp;
    const mapping = { buffer, bytes, inode: 0, close: () => {} };
    this.ring = new Ring(mapping as unknown as Mapping, PID);
  }

  get #entryAt(): number {
    return (Constant.headerBytes + SLOTS * Constant.slotBytes) / 4;
  }

  get #at(): number {
    return this.#entryAt + EntryWord.in;
  }

  /** The calls that are under way in the socket's inbound direction, by the pids of who makes them. */
  set calls(pids: readonly number[]) {
    const sum = pids.reduce((total, pid) => total + pid, 0);
    const at = this.#at + DirectionWord.calls;
    this.#words[at] = (0xabcde << Constant.callsStartedShift) | pids.length;
    this.#words[at + 1] = ((sum << (Constant.callsPidsShift - 32)) | 0xcdef) >>> 0;
  }

  get told(): number {
    return this.#words[this.#at + DirectionWord.gone]!;
  }

  /** What the library does then. */
  takeOut(): void {
    this.#words[this.#at + DirectionWord.gone] = 0;
  }
}

test("of a call that is the only one and theirs, until it is taken out", () => {
  const table = new Table();
  const gone = new Gone(table.ring);
  table.calls = [TWIN];
  gone.tell([]);
  expect(table.told).toBe(0);
  gone.add(OTHER);
  gone.add(TWIN);
  for (let round = 0; round < 5; round++) {
    gone.tell([]);
    expect(table.told).toBe(TWIN);
  }
  table.takeOut();
  table.calls = [PID];
  gone.tell([]);
  expect(table.told).toBe(0);
});

test("not of another's call, and no longer when it is known to be that", () => {
  const table = new Table();
  const gone = new Gone(table.ring);
  table.calls = [PID];
  gone.add(TWIN);
  gone.tell([]);
  expect(table.told).toBe(0);
  // Nothing is open any more: a later process may have the pid.
  table.calls = [TWIN];
  gone.tell([]);
  gone.tell([]);
  expect(table.told).toBe(0);
});

test("of each in turn while others' calls are under way too", () => {
  const table = new Table();
  const gone = new Gone(table.ring);
  table.calls = [TWIN, OTHER, PID];
  gone.add(TWIN);
  gone.add(OTHER);
  const told = Array.from({ length: 4 }, () => (gone.tell([]), table.told));
  expect(new Set(told)).toEqual(new Set([TWIN, OTHER]));
  table.calls = [PID];
  gone.tell([]);
  expect(table.told).toBe(0);
});

test("not for ever", () => {
  const table = new Table();
  const gone = new Gone(table.ring);
  table.calls = [PID, PID];
  gone.add(TWIN);
  for (let round = 0; round < 1000; round++) gone.tell([]);
  expect(table.told).toBe(0);
});

test("not across pid namespaces", () => {
  const table = new Table(5);
  const gone = new Gone(table.ring);
  table.calls = [TWIN];
  gone.add(TWIN);
  gone.tell([]);
  expect(table.told).toBe(0);
});

test("not of who cannot be told from somebody who lives, until that one has ended too", () => {
  const table = new Table();
  const gone = new Gone(table.ring);
  // The memory has room for 16 bits of a pid.
  table.ring.users.add(TWIN + 65_536);
  table.calls = [TWIN];
  gone.add(TWIN);
  gone.tell([table.ring]);
  expect(table.told).toBe(0);
  table.ring.users.clear();
  gone.tell([table.ring]);
  expect(table.told).toBe(TWIN);
  table.ring.users.add(TWIN + 65_536);
  gone.tell([table.ring]);
  expect(table.told).toBe(0);
});
