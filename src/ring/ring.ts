// One ring of one process, and the socket table that may come with it, as mapped by the collector.
//
// All of it is written by another process and trusted for nothing: sizes are checked once against
// the mapping and then kept here, records and entries are copied before anybody looks at them.

import { KQTimeError } from "../errors.ts";
import type { Mapping } from "../ffi/libc.ts";
import {
  Constant,
  DirectionWord,
  EntryWord,
  Header,
  HeaderBytes,
  HeaderWord,
  Loss,
  Slot,
  SlotWord,
  State,
  Type,
} from "./layout.ts";

export const SLOT_WORDS = Constant.slotBytes / 4;
export const ENTRY_WORDS = Constant.entryBytes / 4;
const HEADER_WORDS = Constant.headerBytes / 4;
const SLOT_HALVES = Constant.slotBytes / 2;
const HEADER_HALVES = Constant.headerBytes / 2;
const DIRECTIONS = [EntryWord.out, EntryWord.in] as const;
const PIDS_SHIFT = Constant.callsPidsShift - 32;
/** What is left of a pid in `kq_direction.calls`. */
export const PIDS_MASK = 0xffffffff >>> PIDS_SHIFT;
const STATE_MASK = (1 << Constant.stateBits) - 1;
/** So large a part of a ring may be retired: producers search for the next slot that is not. */
const RETIRED_SHIFT = 2;

/** No ring is larger. */
export const RING_BYTES_MOST = Constant.headerBytes + Constant.slotsMax * Constant.slotBytes +
  Constant.entriesMax * Constant.entryBytes;

/**
 * A slot that was claimed and is never committed is skipped when nobody is left who could commit it,
 * and retired where somebody may be: whoever is late then writes into memory that nobody uses.
 */
export class Ring {
  readonly id: bigint;
  readonly tableId: bigint;
  readonly namespaceInode: bigint;
  readonly command: string;
  /** Who made it, as it says itself: in its own pid namespace. */
  readonly madeBy: number;
  /** What its process has in its environment: see `Env`. */
  readonly sessionSocket: string;
  readonly sessionToken: string;
  readonly slotCount: number;
  readonly entryCount: number;
  /** Number of the socket table that its records refer to. */
  table = -1;
  /**
   * Processes that may write to it: its maker, and forked children that have no ring of their own
   * (yet). None: what is in it is all there will be.
   */
  readonly users = new Set<number>();
  /** Children that it says it has, and that were not looked into yet. */
  readonly forked = new Set<number>();
  /** When it is looked next whether its users still have it; Infinity: not set yet. */
  lookAtMs = Infinity;
  /** Slots whose records were given up before they were committed. */
  skipped = 0;

  readonly #mapping: Mapping;
  readonly #words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #mask: number;
  readonly #entriesAt: number;
  #tail: number;
  /** Slots that are retired. */
  #retired: number;
  #closed = false;
  /** What was lost before this collector came. */
  readonly #lostBefore = new Uint32Array(Loss.Count);

  /**
   * @param pid As the kernel vouches for it; 0 if unknown.
   * @throws KQTimeError `E_RING` with what is wrong
   */
  constructor(mapping: Mapping, public pid: number) {
    this.#mapping = mapping;
    if (mapping.bytes < Constant.headerBytes) throw bad(`${mapping.bytes} bytes`);
    const words = new Uint32Array(mapping.buffer, 0, mapping.bytes >>> 2);
    this.#words = words;
    this.#halves = new Uint16Array(mapping.buffer, 0, mapping.bytes >>> 1);
    const expect = (name: keyof typeof HeaderWord, value: number) => {
      const found = words[HeaderWord[name]]!;
      if (found !== value) throw bad(`${name} is ${found}, not ${value}`);
    };
    expect("magic", Constant.magic);
    expect("version", Constant.version);
    expect("headerBytes", Constant.headerBytes);
    expect("slotBytes", Constant.slotBytes);
    expect("entryBytes", Constant.entryBytes);
    const slots = words[HeaderWord.slotCount]!;
    const entries = words[HeaderWord.entryCount]!;
    if (slots < Constant.slotsMin || slots > Constant.slotsMax || (slots & (slots - 1)) !== 0) {
      throw bad(`slot count ${slots}`);
    }
    if (entries > Constant.entriesMax) throw bad(`entry count ${entries}`);
    const size = Constant.headerBytes + slots * Constant.slotBytes + entries * Constant.entryBytes;
    if (mapping.bytes < size) throw bad(`${mapping.bytes} bytes, ${size} needed`);
    this.slotCount = slots;
    this.entryCount = entries;
    this.#mask = slots - 1;
    this.#entriesAt = HEADER_WORDS + slots * SLOT_WORDS;
    const view = new DataView(mapping.buffer);
    this.id = view.getBigUint64(Header.ringId, true);
    this.tableId = view.getBigUint64(Header.tableId, true);
    this.namespaceInode = view.getBigUint64(Header.netnsIno, true);
    this.madeBy = words[HeaderWord.pid]!;
    this.command = text(mapping, Header.comm, HeaderBytes.comm);
    this.sessionSocket = text(mapping, Header.sessionSocket, HeaderBytes.sessionSocket);
    this.sessionToken = text(mapping, Header.sessionToken, HeaderBytes.sessionToken);
    this.#tail = Atomics.load(words, HeaderWord.tail);
    this.#retired = words[HeaderWord.retired]!;
    if (pid > 0) this.users.add(pid);
  }

  /** Copies the next record into `out` (16 words); false if there is none (yet). */
  next(out: Uint32Array): boolean {
    const words = this.#words;
    const tail = this.#tail;
    const at = HEADER_WORDS + (tail & this.#mask) * SLOT_WORDS;
    // Acquire: pairs with the producer's release store of the commit word.
    if (Atomics.load(words, at) !== (tail + 1) >>> 0) return false;
    for (let w = 0; w < SLOT_WORDS; w++) out[w] = words[at + w]!;
    this.#tail = (tail + 1) >>> 0;
    if (this.#retired > 0) this.#passRetired();
    return true;
  }

  /**
   * The time of the next record as two halves of its nanoseconds since the epoch, in `out`; false if
   * there is none (yet).
   */
  peek(out: Uint32Array): boolean {
    const words = this.#words;
    const tail = this.#tail;
    const at = HEADER_WORDS + (tail & this.#mask) * SLOT_WORDS;
    if (Atomics.load(words, at) !== (tail + 1) >>> 0) return false;
    out[0] = words[at + SlotWord.timeNs]!;
    out[1] = words[at + SlotWord.timeNs + 1]!;
    return true;
  }

  /** Where the next record is read. */
  get tail(): number {
    return this.#tail;
  }

  /** Gives the slots read so far back to the producers. */
  publish(): void {
    // Release: pairs with the producers' acquire load before a claim.
    Atomics.store(this.#words, HeaderWord.tail, this.#tail);
  }

  beat(): void {
    Atomics.add(this.#words, HeaderWord.heartbeat, 1);
  }

  /**
   * Records that are claimed and not read, committed or not. More than the ring holds means that
   * the index was overwritten: nothing in it can be believed.
   */
  backlog(): number {
    if (this.#retired > 0) this.#passRetired();
    return (Atomics.load(this.#words, HeaderWord.head) - this.#tail) >>> 0;
  }

  /** Skips a slot that its dead producer claimed and never committed. */
  skip(): void {
    this.#tail = (this.#tail + 1) >>> 0;
    this.skipped++;
  }

  /**
   * Gives up the record that the slot at the tail is claimed for, and the slot with it. False if too
   * many are retired already.
   */
  retire(): boolean {
    const words = this.#words;
    if (this.#retired >= this.slotCount >>> RETIRED_SHIFT) return false;
    const slot = this.#tail & this.#mask;
    Atomics.store(this.#halves, HEADER_HALVES + slot * SLOT_HALVES + Slot.retired / 2, 1);
    // Before the tail is published, as the mark: who claims the slot anew has seen both.
    Atomics.store(words, HeaderWord.retired, ++this.#retired);
    this.skip();
    this.publish();
    return true;
  }

  /** Moves the tail over retired slots that were claimed again. */
  #passRetired(): void {
    const claimed = (Atomics.load(this.#words, HeaderWord.head) - this.#tail) >>> 0;
    for (let left = Math.min(claimed, this.slotCount); left > 0; left--) {
      const slot = this.#tail & this.#mask;
      const mark = HEADER_HALVES + slot * SLOT_HALVES + Slot.retired / 2;
      if (Atomics.load(this.#halves, mark) === 0) return;
      this.#tail = (this.#tail + 1) >>> 0;
    }
  }

  /** A counter of what the target's side lost; see `Loss`. */
  losses(reason: number): number {
    return reason >= 0 && reason < Loss.Count
      ? (Atomics.load(this.#words, HeaderWord.losses + reason) - this.#lostBefore[reason]!) >>> 0
      : 0;
  }

  /** What was lost so far is another session's. */
  forgetLosses(): void {
    for (let reason = 0; reason < Loss.Count; reason++) {
      this.#lostBefore[reason] = Atomics.load(this.#words, HeaderWord.losses + reason);
    }
  }

  /** Copies entry `index` of its table into `out` (64 words); false if it changed meanwhile. */
  copyEntry(index: number, out: Uint32Array): boolean {
    if (index >= this.entryCount) return false;
    const words = this.#words;
    const at = this.#entriesAt + index * ENTRY_WORDS;
    const before = Atomics.load(words, at);
    for (let w = 0; w < ENTRY_WORDS; w++) out[w] = Atomics.load(words, at + w);
    return Atomics.load(words, at) === before;
  }

  /** Entries from here on were never used. (Reading them would make memory of them.) */
  entriesUsed(): number {
    return Math.min(Atomics.load(this.#words, HeaderWord.entryHigh), this.entryCount);
  }

  /** State word of an entry. */
  entryState(index: number): number {
    return Atomics.load(this.#words, this.#entriesAt + index * ENTRY_WORDS);
  }

  /**
   * Lets the target use an entry again, if it still is of `generation`. Returns false if a call is
   * in progress there, unless `force` is set.
   */
  freeEntry(index: number, generation: number, force = false): boolean {
    if (index >= this.entryCount) return true;
    const at = this.#entriesAt + index * ENTRY_WORDS;
    const state = Atomics.load(this.#words, at);
    if (state >>> Constant.stateBits !== generation) return true;
    if ((state & STATE_MASK) === State.Filling || (state & STATE_MASK) === State.Free) return true;
    // A twin that is still inside a call would count it to the next socket that lives here.
    const active =
      Atomics.load(this.#words, at + EntryWord.out + DirectionWord.calls) |
      Atomics.load(this.#words, at + EntryWord.in + DirectionWord.calls);
    if ((active & Constant.callsActiveMask) !== 0 && !force) return false;
    Atomics.compareExchange(this.#words, at, state, ((generation << Constant.stateBits) | State.Free) >>> 0);
    return true;
  }

  /**
   * Tells the directions of all sockets in which calls are under way that processes are gone, maybe in
   * the middle of one. Of one at a time: while it is open whose calls they are, `turn` chooses, and
   * this returns true.
   * @param living What `PIDS_MASK` leaves of the pids of those who are not gone: nobody is told of
   *   whom only the rest would tell from them.
   */
  tellGone(pids: readonly number[], turn: number, living: ReadonlySet<number>): boolean {
    const words = this.#words;
    let open = false;
    for (let entry = 0, used = this.entriesUsed(); entry < used; entry++) {
      // Of others nobody takes calls out.
      const isTcp = (words[this.#entriesAt + entry * ENTRY_WORDS + EntryWord.type]! & 0xff) === Type.Tcp;
      for (const direction of DIRECTIONS) {
        const at = this.#entriesAt + entry * ENTRY_WORDS + direction;
        const active = Atomics.load(words, at + DirectionWord.calls) & Constant.callsActiveMask;
        const told = words[at + DirectionWord.gone]!;
        let gone = 0;
        if (active > 1) {
          open ||= pids.length > 0 && isTcp;
          gone = pids[turn % pids.length] ?? 0;
          if (living.has(gone & PIDS_MASK)) gone = 0;
        } else if (active === 1) {
          const sum = Atomics.load(words, at + DirectionWord.calls + 1) >>> PIDS_SHIFT;
          const isMeant = (pid: number) => sum !== 0 && (pid & PIDS_MASK) === sum;
          const meant = isMeant(told) ? told : pids.find(isMeant) ?? 0;
          if (!living.has(sum)) gone = meant;
          else open ||= meant !== 0 && isTcp;
        }
        if (told !== gone) Atomics.store(words, at + DirectionWord.gone, gone);
      }
    }
    return open;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#mapping.close();
  }

  /** Inode of its memory. */
  get inode(): number {
    return this.#mapping.inode;
  }

  get closed(): boolean {
    return this.#closed;
  }
}

function bad(what: string): KQTimeError {
  return new KQTimeError("E_RING", "attach", `a process sent shared memory that is no ring: ${what}`);
}


/** A text of a header, which ends at its first zero. */
function text(mapping: Mapping, at: number, bytes: number): string {
  const name = new Uint8Array(mapping.buffer, at, bytes).slice();
  const end = name.indexOf(0);
  return new TextDecoder()
    .decode(end < 0 ? name : name.subarray(0, end))
    .replace(/[^\x20-\x7e]/g, "?");
}
