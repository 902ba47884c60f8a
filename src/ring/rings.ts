// All rings of a session: takes new ones from the session's socket, reads them in turn, and knows
// when their processes have ended.

import { closeSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { Mapping, type MessageListener, RealtimeClock, type Received } from "../ffi/libc.ts";
import { Constant, Kind, Loss, Message, MessageBytes, MessageType, SlotFlag, SlotWord } from "./layout.ts";
import { Processes } from "./processes.ts";
import { ENTRY_WORDS, Ring, SLOT_WORDS } from "./ring.ts";

/** What the rings' contents go to, in the order in which they were read. */
export interface RecordFeed {
  addTable(): number;
  endTable(table: number): void;
  isUnknown(table: number, entry: number, generation: number): boolean;
  entry(table: number, entry: number, words: Uint32Array): void;
  record(table: number, words: Uint32Array): void;
}

/** A slot that is claimed and stays uncommitted this long is looked into, ms. */
const STALL_MS = 100;
/** New rings taken in a round: more wait for the next one. */
const ACCEPTS_A_ROUND = 64;
/** An entry whose call never ended (its process was killed inside) is freed after this long, ms. */
const FORCE_FREE_MS = 60_000;
/** A record's time this far after the present is not one of a moment ago. */
const CLOCK_AHEAD_NS = 1e9;
/** How often children that outlived the maker of their ring are looked into, ms. */
const MAPS_EVERY_MS = 250;
/** How often the makers are. */
const MAKERS_EVERY_MS = 1000;

interface Table {
  readonly number: number;
  /** The ring whose memory holds it. */
  readonly ring: Ring;
  /** Rings in use that refer to it, its own included. */
  rings: number;
}

export class Rings {
  readonly #listener: MessageListener;
  readonly #token: Uint8Array;
  readonly #feed: RecordFeed;
  readonly #processes = new Processes();
  readonly #rings: Ring[] = [];
  readonly #tables = new Map<number, Table>();
  readonly #byId = new Map<bigint, Table>();
  readonly #slot = new Uint32Array(new ArrayBuffer(SLOT_WORDS * 4));
  readonly #entry = new Uint32Array(new ArrayBuffer(ENTRY_WORDS * 4));
  readonly #stalledSince = new Map<Ring, number>();
  readonly #gaps = new Map<Ring, { tail: number; sinceMs: number }>();
  readonly #clock = new RealtimeClock();
  readonly #time = new Uint32Array(new ArrayBuffer(8));
  /** Of each ring, in a drain: records left to be read, and the time of the next one. */
  readonly #lefts: number[] = [];
  readonly #times: number[] = [];
  readonly #unfreed: { table: number; entry: number; generation: number; sinceMs: number }[] = [];
  #aliveAtMs = -Infinity;
  #mapsAtMs = -Infinity;
  #makersAtMs = -Infinity;
  #closedLosses = new Float64Array(Loss.Count);
  #closedSkipped = 0;

  /** Whether the last `drain` read all that it should. */
  complete = true;
  /** Rings that were attached since the start. */
  attached = 0;
  /** Processes that could not get memory for a ring. */
  withoutMemory = 0;
  /** Messages or memory that were no ring of this session. */
  rejected = 0;
  /** Records whose index or memory made no sense. */
  badRecords = 0;
  /** Told of each ring as it appears. */
  onAttach: (ring: Ring) => void = () => {};
  /** Given what a process asks for: the connection and the descriptor are the receiver's. */
  onRequest: (received: Received) => void = (received) => {
    if (received.fd >= 0) closeSync(received.fd);
    this.#listener.hangUp(received.connection);
  };
  /** Told why something was rejected. */
  onReject: (message: string) => void = () => {};

  constructor(listener: MessageListener, token: string, feed: RecordFeed) {
    this.#listener = listener;
    this.#token = new TextEncoder().encode(token);
    this.#feed = feed;
  }

  /** Rings whose processes live, or that still hold records. */
  get open(): number {
    return this.#rings.length;
  }

  /** Pids of the target's processes that live: sharing its memory, as the kernel says. */
  processes(): number[] {
    const pids = new Set<number>();
    for (const ring of this.#rings) {
      for (const pid of ring.users) if (this.#processes.maps(pid, ring.inode)) pids.add(pid);
    }
    return [...pids];
  }

  /** Takes the rings that processes have announced. */
  accept(): void {
    for (let n = 0; n < ACCEPTS_A_ROUND; n++) {
      const received = this.#listener.next(ACCEPTS_A_ROUND);
      if (received === null) return;
      this.#attach(received);
    }
  }

  /** Goes on with a ring of a session whose collector is gone, and with the processes that use it. */
  adopt(ring: Ring, pids: readonly number[]): void {
    const table = this.#tableOf(ring);
    ring.table = table.number;
    table.rings++;
    if (!pids.includes(ring.pid) || pids.includes(ring.madeBy)) ring.pid = ring.madeBy;
    ring.users.clear();
    this.addUsers(ring, pids);
    this.#rings.push(ring);
    this.attached++;
    this.onAttach(ring);
  }

  /** More processes that have an adopted ring's memory. */
  addUsers(ring: Ring, pids: readonly number[]): void {
    for (const pid of pids) {
      this.#processes.add(pid);
      ring.users.add(pid);
    }
  }

  /** Gives the records that a ring holds now to `reader` instead of the feed. */
  skim(ring: Ring, reader: (slot: Uint32Array) => void): void {
    const slot = this.#slot;
    for (let left = Math.min(ring.backlog(), ring.slotCount); left > 0 && ring.next(slot); left--) {
      reader(slot);
    }
    ring.publish();
  }

  /** Gives the used entries of a ring's own table to `reader`, their numbers with them. */
  forEachEntry(ring: Ring, reader: (entry: number, words: Uint32Array) => void): void {
    const used = ring.entriesUsed();
    for (let i = 0; i < used; i++) {
      if (ring.entryState(i) !== 0 && ring.copyEntry(i, this.#entry)) reader(i, this.#entry);
    }
  }

  /**
   * Takes new rings, and reads every record that was committed before it was called, of all rings
   * together in the order of their times: what one process did to a socket before another used it
   * is read before that. No more than each ring holds. Returns how many there were; `complete`
   * tells whether that was all.
   */
  drain(): number {
    const now = this.#clock.now();
    const rings = this.#rings;
    const lefts = this.#lefts;
    // In this order: who wrote what one of these heads counts has announced its ring before.
    for (let i = 0; i < rings.length; i++) lefts[i] = Math.min(rings[i]!.backlog(), rings[i]!.slotCount);
    const before = rings.length;
    this.accept();
    for (let i = before; i < rings.length; i++) {
      lefts[i] = Math.min(rings[i]!.backlog(), rings[i]!.slotCount);
    }
    this.complete = true;
    if (rings.length === 1) {
      const n = this.#read(rings[0]!, lefts[0]!);
      if (n < lefts[0]!) this.#incomplete(rings[0]!);
      return n;
    }
    return this.#merge(now);
  }

  /** Reads `#lefts` records of each ring, the earliest first, none that is later than `nowNs`. */
  #merge(nowNs: number): number {
    const rings = this.#rings;
    const lefts = this.#lefts;
    const times = this.#times;
    for (let i = 0; i < rings.length; i++) times[i] = this.#timeOfNext(i, nowNs);
    let total = 0;
    for (;;) {
      let first = 0;
      let firstNs = Infinity;
      let secondNs = Infinity;
      for (let i = 0; i < rings.length; i++) {
        const ns = times[i]!;
        if (ns < firstNs) {
          secondNs = firstNs;
          firstNs = ns;
          first = i;
        } else if (ns < secondNs) {
          secondNs = ns;
        }
      }
      if (firstNs === Infinity) break;
      if (firstNs === -Infinity) {
        // Claimed and not committed: what is behind it, here or elsewhere, may be later than it.
        if (this.#incomplete(rings[first]!)) break;
        times[first] = Infinity;
        continue;
      }
      const ring = rings[first]!;
      let nextNs: number;
      do {
        ring.next(this.#slot);
        this.#take(ring, this.#slot);
        total++;
        lefts[first]!--;
        nextNs = this.#timeOfNext(first, nowNs);
      } while (nextNs <= secondNs && nextNs !== -Infinity && nextNs !== Infinity);
      times[first] = nextNs;
      this.#stalledSince.delete(ring);
    }
    for (let i = 0; i < rings.length; i++) rings[i]!.publish();
    return total;
  }

  /** Of ring `i`: Infinity if nothing is left to be read, -Infinity if it is not committed. */
  #timeOfNext(i: number, nowNs: number): number {
    if (this.#lefts[i]! <= 0) return Infinity;
    const time = this.#time;
    if (!this.#rings[i]!.peek(time)) return -Infinity;
    const ns = this.#clock.relativeNs(time[0]!, time[1]!);
    // Far ahead: the clock was set back. Such a record waits for nothing.
    return ns > nowNs && ns < nowNs + CLOCK_AHEAD_NS ? Infinity : Math.max(ns, 0);
  }

  /**
   * A slot was claimed and is not committed: its thread was interrupted for a moment, or its process
   * is gone. Returns whether it is worth waiting for.
   */
  #incomplete(ring: Ring): boolean {
    const { tail } = ring;
    const nowMs = performance.now();
    const gap = this.#gaps.get(ring);
    if (gap === undefined || gap.tail !== tail) this.#gaps.set(ring, { tail, sinceMs: nowMs });
    else if (nowMs - gap.sinceMs >= STALL_MS) return false;
    this.complete = false;
    return true;
  }

  /** How full the fullest ring is, 0 … 1. */
  pressure(): number {
    let fullest = 0;
    for (const ring of this.#rings) {
      const share = ring.backlog() / ring.slotCount;
      if (share > fullest) fullest = share;
    }
    return fullest;
  }

  /** Notices the processes that ended, and lets go of what they left when it is read. */
  reap(nowMs: number, everyMs: number): void {
    if (nowMs - this.#aliveAtMs < everyMs) return;
    this.#aliveAtMs = nowMs;
    for (const pid of this.#processes.all()) {
      if (this.#processes.isAlive(pid)) continue;
      this.#processes.remove(pid);
      for (const ring of this.#rings) ring.users.delete(pid);
    }
    this.#freeLate(nowMs);
    const lookIntoChildren = nowMs - this.#mapsAtMs >= MAPS_EVERY_MS;
    if (lookIntoChildren) this.#mapsAtMs = nowMs;
    const lookIntoMakers = nowMs - this.#makersAtMs >= MAKERS_EVERY_MS;
    if (lookIntoMakers) this.#makersAtMs = nowMs;
    for (let i = this.#rings.length - 1; i >= 0; i--) {
      const ring = this.#rings[i]!;
      ring.beat();
      if (lookIntoChildren && !ring.users.has(ring.pid)) {
        for (const child of ring.users) {
          if (!this.#processes.maps(child, ring.inode)) ring.users.delete(child);
        }
      }
      // Its maker may have executed a program that is not measured, and live on as that.
      if (lookIntoMakers && ring.users.has(ring.pid) && this.#processes.hasLeft(ring.pid, ring.inode)) {
        ring.users.delete(ring.pid);
      }
      if (ring.users.size > 0) continue;
      if (ring.backlog() === 0) this.#retire(ring, i);
      else this.#unstall(ring, nowMs, i);
    }
  }

  /** Reads the entry of a socket again, for what has changed in it. */
  refresh(table: number, entry: number): void {
    const ring = this.#tables.get(table)?.ring;
    if (ring !== undefined && ring.copyEntry(entry, this.#entry)) {
      this.#feed.entry(table, entry, this.#entry);
    }
  }

  /** Gives an entry back to the target. */
  free(table: number, entry: number, generation: number): void {
    const ring = this.#tables.get(table)?.ring;
    if (ring === undefined || ring.freeEntry(entry, generation)) return;
    this.#unfreed.push({ table, entry, generation, sinceMs: performance.now() });
  }

  losses(reason: number): number {
    let sum = this.#closedLosses[reason]!;
    for (const ring of this.#rings) sum += ring.losses(reason);
    return sum;
  }

  /** Records that never reached the collector. */
  lostRecords(): number {
    let sum = this.losses(Loss.RingFull) + this.losses(Loss.NoMemory) + this.#closedSkipped;
    for (const ring of this.#rings) sum += ring.skipped;
    return sum;
  }

  /** Reads the sockets' last states of a table whose processes have all ended. */
  close(): void {
    for (const table of [...this.#tables.values()]) this.#endTable(table);
    for (const ring of this.#rings) ring.close();
    this.#rings.length = 0;
  }

  #read(ring: Ring, most: number): number {
    const slot = this.#slot;
    let n = 0;
    while (n < most && ring.next(slot)) {
      n++;
      this.#take(ring, slot);
    }
    if (n > 0) {
      ring.publish();
      this.#stalledSince.delete(ring);
    }
    return n;
  }

  #take(ring: Ring, slot: Uint32Array): void {
    const feed = this.#feed;
    const table = this.#tables.get(ring.table)!;
    const kind = slot[SlotWord.kind]! & 0xff;
    if (kind === Kind.Fork) {
      // The pid is the target's own word: only the kernel's maps prove that it shares this ring.
      const child = slot[SlotWord.pid]! | 0;
      if (child > 0 && !this.#hasOwnRing(child, ring.table) && this.#processes.maps(child, ring.inode)) {
        this.#processes.add(child);
        ring.users.add(child);
      }
      return;
    }
    const entry = slot[SlotWord.entry]!;
    const generation = slot[SlotWord.gen]!;
    if (kind !== Kind.Listen) {
      if (entry >= table.ring.entryCount) {
        this.badRecords++;
        return;
      }
      if (kind === Kind.Unbind && ((slot[SlotWord.kind]! >>> 8) & SlotFlag.Refused) !== 0) {
        feed.record(ring.table, slot);
        table.ring.freeEntry(entry, generation);
        return;
      }
      if (feed.isUnknown(ring.table, entry, generation)) {
        if (!table.ring.copyEntry(entry, this.#entry)) table.ring.copyEntry(entry, this.#entry);
        // A later generation lives there already: the record is of a socket that is settled.
        if (this.#entry[0]! >>> Constant.stateBits === generation) {
          feed.entry(ring.table, entry, this.#entry);
        }
      }
    }
    feed.record(ring.table, slot);
  }

  #attach(received: Received): void {
    const { message, fd, pid, connection } = received;
    const ours = this.#isOurs(message);
    if (ours && typeOf(message) !== MessageType.Ring) {
      this.onRequest(received);
      return;
    }
    this.#listener.hangUp(connection);
    if (!ours) {
      if (fd >= 0) closeSync(fd);
      this.#reject("a message without the session's token");
      return;
    }
    if (fd < 0) {
      this.withoutMemory++;
      return;
    }
    let mapping: Mapping | null = null;
    let ring: Ring;
    let table: Table;
    try {
      mapping = Mapping.adopt(fd);
      ring = new Ring(mapping, pid);
      table = this.#tableOf(ring);
    } catch (error) {
      mapping?.close();
      this.#reject(error instanceof Error ? error.message : String(error));
      return;
    }
    // The same pid again: a forked child made a ring of its own and leaves the inherited one, or
    // the process executed another program.
    for (const other of this.#rings) other.users.delete(pid);
    ring.table = table.number;
    table.rings++;
    this.#processes.add(pid);
    this.#rings.push(ring);
    this.attached++;
    this.onAttach(ring);
  }

  /** The socket table that a new ring brings or refers to. @throws KQTimeError `E_RING` */
  #tableOf(ring: Ring): Table {
    const known = this.#byId.get(ring.tableId);
    if (ring.entryCount === 0) {
      if (known !== undefined) return known;
      throw new KQTimeError("E_RING", "attach", "a ring refers to an unknown socket table");
    }
    if (ring.tableId !== ring.id || known !== undefined) {
      throw new KQTimeError("E_RING", "attach", "a ring brings a socket table under a wrong name");
    }
    const table = { number: this.#feed.addTable(), ring, rings: 0 };
    this.#tables.set(table.number, table);
    this.#byId.set(ring.id, table);
    return table;
  }

  #hasOwnRing(pid: number, table: number): boolean {
    return this.#rings.some((ring) => ring.pid === pid && ring.table === table);
  }

  #isOurs(message: Uint8Array): boolean {
    if (message.length < Constant.messageHeadBytes) return false;
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    if (view.getUint32(Message.magic, true) !== Constant.magic) return false;
    if (view.getUint32(Message.version, true) !== Constant.version) return false;
    let difference = 0;
    for (let i = 0; i < MessageBytes.token; i++) {
      difference |= message[Message.token + i]! ^ this.#token[i]!;
    }
    return difference === 0;
  }

  #reject(message: string): void {
    this.rejected++;
    this.onReject(message);
  }

  /** Nobody is left who could commit the slot at the tail; those behind it may be complete. */
  #unstall(ring: Ring, nowMs: number, i: number): void {
    if (ring.backlog() > ring.slotCount) {
      // The target overwrote its own indices: nothing behind them can be told apart.
      this.badRecords++;
      this.#retire(ring, i);
      return;
    }
    const since = this.#stalledSince.get(ring);
    if (since === undefined) {
      this.#stalledSince.set(ring, nowMs);
    } else if (nowMs - since >= STALL_MS) {
      for (let left = ring.backlog(); left > 0 && left <= ring.slotCount; left = ring.backlog()) {
        ring.skip();
        this.badRecords++;
        this.#read(ring, ring.slotCount);
      }
      ring.publish();
    }
  }

  #retire(ring: Ring, i: number): void {
    this.#rings.splice(i, 1);
    this.#stalledSince.delete(ring);
    this.#gaps.delete(ring);
    for (let reason = 0; reason < Loss.Count; reason++) {
      this.#closedLosses[reason]! += ring.losses(reason);
    }
    this.#closedSkipped += ring.skipped;
    const table = this.#tables.get(ring.table)!;
    if (table.ring !== ring) ring.close();
    if (--table.rings === 0) this.#endTable(table);
  }

  #freeLate(nowMs: number): void {
    const unfreed = this.#unfreed;
    let kept = 0;
    for (const late of unfreed) {
      const ring = this.#tables.get(late.table)?.ring;
      const force = nowMs - late.sinceMs > FORCE_FREE_MS;
      if (ring !== undefined && !ring.freeEntry(late.entry, late.generation, force)) {
        unfreed[kept++] = late;
      }
    }
    unfreed.length = kept;
  }

  /** Shows every socket of the table once more, then lets its memory go. */
  #endTable(table: Table): void {
    const { ring, number } = table;
    const used = ring.entriesUsed();
    for (let i = 0; i < used; i++) {
      if (ring.entryState(i) !== 0 && ring.copyEntry(i, this.#entry)) {
        this.#feed.entry(number, i, this.#entry);
      }
    }
    this.#feed.endTable(number);
    this.#byId.delete(ring.id);
    this.#tables.delete(number);
    ring.close();
  }
}

function typeOf(message: Uint8Array): number {
  return new DataView(message.buffer, message.byteOffset).getUint32(Message.type, true);
}
