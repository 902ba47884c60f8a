// A target that scribbles over the memory that it shares with the collector, while that reads it:
// header, indices, slots, table. Behind the rings is the whole join, with packets.
//
// The memory is a memfd, adopted as the collector does it, and written through a mapping of the
// target's own.

import { PacketBatch } from "../../src/capture/packets.ts";
import type { MessageListener, Received } from "../../src/ffi/libc.ts";
import { Constant, HeaderWord, Kind, Loss, Message, SlotWord } from "../../src/ring/layout.ts";
import { Rings } from "../../src/ring/rings.ts";
import { Join } from "../../src/session/join.ts";
import type { Random } from "../match/random.ts";
import { checkSummary } from "./books.ts";
import { type Fuzzer, must } from "./harness.ts";
import { duplicate, Seal, sealedMemory, TargetMemory } from "./memory.ts";
import {
  BASE_SEC, ENTRIES, ENTRY_WORDS, entryOf, makeOps, type Op, OP_BYTES, readOp, rowOf, slotOf,
  SLOT_WORDS,
} from "./ops.ts";

const SLOTS = Constant.slotsMin;
const HEADER_WORDS = Constant.headerBytes / 4;
const TABLE_AT = HEADER_WORDS + SLOTS * SLOT_WORDS;
/** More than it says that it is: sizes a little larger fit, too. */
const SPARE_BYTES = 8192;
const BYTES = Constant.headerBytes + SLOTS * Constant.slotBytes + ENTRIES * Constant.entryBytes + SPARE_BYTES;
/** That fit, if the header says so. */
const ENTRIES_MOST = ENTRIES + SPARE_BYTES / Constant.entryBytes;
/** A process's own memory, and those of forked children. */
const MEMORIES = 3;
const TOKEN = "0123456789abcdef".repeat(2);
/** The kernel gives no such pid: nobody writes any more. */
const NOBODY = (1 << 22) + 1;
const HEAD_BYTES = 8;
const LOSS_COUNT = Loss.Count;

const Do = {
  Record: 0, Entry: 1, Poke: 2, Head: 3, Tail: 4, Drain: 5, Reap: 6, Packet: 7, Tick: 8, Child: 9,
  Scramble: 10, Refresh: 11, Uncommitted: 12, Losses: 13, Flush: 14, Switch: 15,
} as const;
const WEIGHTED = [
  ...Array<number>(10).fill(Do.Record), ...Array<number>(6).fill(Do.Entry), ...Array<number>(8).fill(Do.Packet),
  ...Array<number>(4).fill(Do.Drain), Do.Poke, Do.Poke, Do.Head, Do.Tail, Do.Reap, Do.Reap, Do.Tick,
  Do.Tick, Do.Child, Do.Scramble, Do.Refresh, Do.Uncommitted, Do.Losses, Do.Flush,
  Do.Child, Do.Switch,
];
/** Header fields that an input may change before the collector sees them, and how many of them. */
const HEADER_FIELDS = [
  HeaderWord.magic, HeaderWord.version, HeaderWord.headerBytes, HeaderWord.slotBytes, HeaderWord.slotCount,
  HeaderWord.entryBytes, HeaderWord.entryCount, HeaderWord.pid, HeaderWord.ringId, HeaderWord.tableId,
  HeaderWord.head, HeaderWord.tail, HeaderWord.entryHigh, HeaderWord.comm, HeaderWord.sessionSocket,
] as const;
const HEADER_VALUES = [
  0, 1, 32, 64, 65, 96, 128, 255, 4096, 1 << 18, 1 << 24, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

/** What one process shares. */
class Shared {
  readonly words: Uint32Array;
  head = 0;

  constructor(readonly memory: TargetMemory) {
    this.words = new Uint32Array(memory.buffer);
  }

  /** As the preload library fills it in. */
  begin(id: number, tableId: number, entries: number): void {
    const { words } = this;
    words.fill(0);
    const fields: [keyof typeof HeaderWord, number][] = [
      ["magic", Constant.magic], ["version", Constant.version], ["headerBytes", Constant.headerBytes],
      ["slotBytes", Constant.slotBytes], ["entryBytes", Constant.entryBytes], ["slotCount", SLOTS],
      ["entryCount", entries], ["pid", NOBODY], ["entryHigh", entries], ["ringId", id], ["tableId", tableId],
    ];
    for (const [name, value] of fields) words[HeaderWord[name]] = value;
    this.head = 0;
  }
}

/** A session's rings and join, and memories that a target writes to. */
export class HostileSession {
  readonly join: Join;
  readonly rings: Rings;
  /** Records of calls that moved bytes, those that were refused and counted left out. */
  calls = 0;
  nowMs = 0;
  /** The one that is written to. */
  current = 0;
  readonly shared: readonly Shared[];
  readonly #batch = new PacketBatch(1);
  readonly #waiting: Received[] = [];

  readonly #everything: boolean;

  constructor(memories: readonly TargetMemory[], everything = true) {
    this.#everything = everything;
    this.shared = memories.map((memory) => new Shared(memory));
    this.join = new Join(
      {
        baseSec: BASE_SEC, startNs: 0, direction: "both", label: "port", command: ["fuzz"], version: "0",
        everything, queues: false, isPartial: false,
      },
      null,
    );
    const { engine } = this.join;
    for (const handle of [1, 2]) {
      this.join.open({ handle, in: true, out: true, queues: false, startNs: 0 }, null);
    }
    const listener = {
      next: () => this.#waiting.shift() ?? null,
      hangUp: () => {},
    } as unknown as MessageListener;
    this.rings = new Rings(listener, TOKEN, {
      addTable: () => engine.addTable(),
      endTable: (table) => engine.endTable(table),
      isUnknown: (table, entry, generation) => engine.isUnknown(table, entry, generation),
      entry: (table, entry, words) => {
        must(entry < ENTRIES_MOST && words.length === ENTRY_WORDS, "an entry outside of the table");
        engine.entry(table, entry, words);
      },
      record: (table, words) => {
        const kind = words[SlotWord.kind]! & 0xff;
        const refused = engine.badRecords;
        engine.record(table, words);
        if (kind !== Kind.Out && kind !== Kind.In || words[SlotWord.bytes] === 0) return;
        if (engine.badRecords === refused) this.calls++;
      },
    });
    this.rings.onReject = (why) => must(!/undefined|null is|\n/.test(why), `rejected for ${why}`);
    engine.onFree = (table, entry, generation) => this.rings.free(table, entry, generation);
  }

  /** Hands the memory over; whether the collector took it. */
  announce(pid = NOBODY): boolean {
    const fd = duplicate(this.shared[this.current]!.memory.fd);
    const message = new Uint8Array(Constant.messageHeadBytes);
    const view = new DataView(message.buffer);
    view.setUint32(Message.magic, Constant.magic, true);
    view.setUint32(Message.version, Constant.version, true);
    message.set(new TextEncoder().encode(TOKEN), Message.token);
    const before = this.rings.attached;
    this.#waiting.push({ message, fd, pid, uid: 0, connection: -1 });
    this.rings.drain();
    return this.rings.attached > before;
  }

  perform(op: Op): void {
    const { rings } = this;
    const shared = this.shared[this.current]!;
    const { words } = shared;
    const { engine } = this.join;
    switch (op.kind) {
      case Do.Record:
      case Do.Uncommitted: {
        const at = HEADER_WORDS + (shared.head & (SLOTS - 1)) * SLOT_WORDS;
        words.set(slotOf(op).subarray(1), at + 1);
        shared.head = (shared.head + 1) >>> 0;
        Atomics.store(words, HeaderWord.head, shared.head);
        if (op.kind === Do.Record) Atomics.store(words, at, shared.head);
        return;
      }
      case Do.Entry: {
        const { entry, words: content } = entryOf(op);
        words.set(content, TABLE_AT + entry * ENTRY_WORDS);
        return;
      }
      case Do.Poke:
        words[op.y % words.length] = op.z;
        return;
      case Do.Head:
        shared.head = (op.c & 1) === 0 ? (shared.head + op.y) >>> 0 : op.y;
        words[HeaderWord.head] = shared.head;
        return;
      case Do.Tail:
        words[HeaderWord.tail] = op.y;
        return;
      case Do.Drain:
        rings.drain();
        return;
      case Do.Reap:
        this.nowMs += op.a;
        rings.reap(this.nowMs, 0);
        return;
      case Do.Packet:
        this.#batch.count = 0;
        rowOf(op, this.#batch);
        engine.packets(this.#batch);
        return;
      case Do.Tick:
        engine.flush();
        engine.tick(op.z);
        return;
      case Do.Child:
        // A ring without a table that refers to the first one's, or to none; or one with a table.
        this.current = 1 + (op.a % (MEMORIES - 1));
        this.shared[this.current]!.begin(1 + (op.b & 3), 1 + (op.x & 1), (op.y & 7) === 0 ? ENTRIES : 0);
        this.announce();
        return;
      case Do.Switch:
        this.current = op.a % MEMORIES;
        return;
      case Do.Scramble: {
        const from = op.y % words.length;
        const to = Math.min(words.length, from + (op.a & 127));
        for (let i = from, value = op.z; i < to; i++) words[i] = value = Math.imul(value, 0x01000193) ^ i;
        return;
      }
      case Do.Refresh:
        rings.refresh(op.a & 3, (op.c & 1) === 0 ? op.b : op.y);
        return;
      case Do.Losses:
        words[HeaderWord.losses + (op.a % LOSS_COUNT)] = op.y;
        return;
      case Do.Flush:
        engine.flush();
        return;
    }
  }

  /** Reads what is there, and lets go of all rings as those of dead processes, but for `living`. */
  end(whole: boolean, living = 0): void {
    const { rings } = this;
    const { engine } = this.join;
    rings.drain();
    for (let left = 20; rings.open > 0 && living === 0; left--) {
      must(left > 0, "a ring of nobody is never let go of");
      this.nowMs += 1000;
      rings.reap(this.nowMs, 0);
    }
    engine.flush();
    engine.tick(1e12);
    rings.close();
    const losses = {
      ringRecords: rings.losses(Loss.RingFull), capturePackets: 0, interfacePackets: 0, badPackets: 0,
      memoryRecords: rings.losses(Loss.NoMemory), tableSockets: rings.losses(Loss.TableFull),
      descriptorSockets: rings.losses(Loss.FdRange), addressSockets: rings.losses(Loss.NoAddress),
      staleCalls: rings.losses(Loss.Stale), inheritedRings: rings.losses(Loss.NoRing), unheardProcesses: 0, fragments: 0,
    };
    const summary = this.join.finish({
      endNs: 1e12, exitCode: null, signal: null, pids: [], losses, badRecords: rings.badRecords,
      isDetached: false, warnings: [],
    });
    checkSummary(summary, whole);
    must(engine.live.size === 0, "sockets without an end");
    if (!this.#everything) return;
    const { out, in: inbound } = summary.directions;
    const counted = out!.calls + inbound!.calls + summary.datagram.calls;
    must(counted >= this.calls, `${this.calls} calls were recorded, ${counted} counted`);
  }
}

/** As targets have them: sealed against both. */
export function makeMemories(count: number): TargetMemory[] {
  return Array.from({ length: count }, () => {
    return new TargetMemory(sealedMemory(BYTES, Seal.Shrink | Seal.Grow), BYTES);
  });
}

export class RingFuzzer implements Fuzzer {
  readonly name = "rings";
  readonly past = "the collector took the ring";
  readonly headBytes = HEAD_BYTES;
  readonly unitBytes = OP_BYTES;
  #memories: TargetMemory[] = [];
  #runs = 0;

  make(random: Random): Uint8Array {
    const input = makeOps(random, HEAD_BYTES, WEIGHTED, 40);
    // Which field of the header is wrong, and what it says; 255: none.
    input[0] = random.chance(0.15) ? random.below(HEADER_FIELDS.length) : 255;
    new DataView(input.buffer).setUint32(4, random.pick(HEADER_VALUES), true);
    input[1] = random.below(256);
    return input;
  }

  run(input: Uint8Array): boolean {
    if (input.length < HEAD_BYTES) return false;
    if (this.#memories.length === 0) this.#memories = makeMemories(MEMORIES);
    const session = new HostileSession(this.#memories, (input[1]! & 7) !== 0);
    const first = session.shared[0]!;
    first.begin(1, 1, ENTRIES);
    const field = HEADER_FIELDS[input[0]!];
    const value = new DataView(input.buffer, input.byteOffset).getUint32(4, true);
    if (field !== undefined) first.words[field] = value;
    const taken = session.announce();
    if (taken && field === HeaderWord.slotCount) {
      must(value >= SLOTS && Number.isInteger(Math.log2(value)), `a ring of ${value} slots`);
    }
    for (let at = HEAD_BYTES; at + OP_BYTES <= input.length; at += OP_BYTES) {
      session.perform(readOp(input, at));
    }
    session.end(this.#runs++ % 16 === 0);
    return taken;
  }

  close(): void {
    for (const memory of this.#memories) memory.close();
    this.#memories = [];
  }
}


export { BYTES as RING_BYTES };
