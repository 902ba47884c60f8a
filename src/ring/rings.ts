// All rings of a session and the socket tables in them: what their records speak of, which processes
// use them, and what becomes of them when those have ended.

import { KQTimeError } from "../errors.ts";
import type { MessageListener, Received } from "../ffi/libc.ts";
import { Arrivals } from "./arrivals.ts";
import type { RecordFeed } from "./feed.ts";
import { Gone } from "./gone.ts";
import { Constant, Kind, Loss, SlotFlag, SlotWord } from "./layout.ts";
import { RingOrder, STALL_MS } from "./order.ts";
import { ENTRY_WORDS, type Ring, SLOT_WORDS } from "./ring.ts";
import { Users } from "./users.ts";

/** An entry whose call never ended (its process was killed inside) is freed after this long, ms. */
const FORCE_FREE_MS = 60_000;
/** Children of a ring that wait for being looked into; more may come while the collector stands still. */
const FORKED_MOST = 4096;

interface Table {
  readonly number: number;
  /** The ring whose memory holds it. */
  readonly ring: Ring;
  /** Rings in use that refer to it, its own included. */
  rings: number;
  readonly gone: Gone;
}

export class Rings {
  readonly #feed: RecordFeed;
  readonly #arrivals: Arrivals;
  readonly #accept: () => boolean;
  readonly #order: RingOrder;
  readonly #rings: Ring[] = [];
  readonly #users = new Users(this.#rings);
  readonly #tables = new Map<number, Table>();
  readonly #byId = new Map<bigint, Table>();
  /** The table of the last record: as a rule there is one. */
  #last: Table | null = null;
  readonly #entry = new Uint32Array(new ArrayBuffer(ENTRY_WORDS * 4));
  /** Of a ring that nobody writes to any more: where its tail stands, and since when. */
  readonly #stalled = new Map<Ring, { tail: number; sinceMs: number }>();
  /** Rings that had no users at the last look, nor any that were searched. */
  readonly #unused = new WeakSet<Ring>();
  readonly #unfreed: { table: number; entry: number; generation: number; sinceMs: number }[] = [];
  #aliveAtMs = -Infinity;
  #closedLosses = new Float64Array(Loss.Count);
  #closedSkipped = 0;

  /** Rings that were attached since the start. */
  attached = 0;
  #badRecords = 0;
  /** Told of a process, one of whose records was begun and never finished. */
  onAbandoned: (pid: number) => void = () => {};
  /** Told of each ring as it appears. */
  onAttach: (ring: Ring) => void = () => {};

  constructor(listener: MessageListener, token: string, feed: RecordFeed) {
    this.#feed = feed;
    this.#arrivals = new Arrivals(listener, token, (ring, pid) => this.#attach(ring, pid));
    this.#users.onEnd = (ring, pid) => this.#tables.get(ring.table)?.gone.add(pid);
    this.#accept = () => this.#arrivals.accept();
    const abandoned = ({ pid }: Ring) => (this.#badRecords++, this.onAbandoned(pid));
    this.#order = new RingOrder(
      (ring, slot) => this.#take(ring, slot), () => feed.lookAtClock?.(), abandoned,
    );
  }

  /** Given what a process asks for: the connection and the descriptor are the receiver's. */
  set onRequest(take: (received: Received) => void) {
    this.#arrivals.onRequest = take;
  }

  /** Told why something that came through the session's socket was rejected. */
  set onReject(told: (message: string) => void) {
    this.#arrivals.onReject = told;
  }

  /** Processes that could not get memory for a ring. */
  get withoutMemory(): number {
    return this.#arrivals.withoutMemory;
  }

  /** Whether the last `drain` read all that it should. */
  get complete(): boolean {
    return this.#order.complete;
  }

  /** Whether more was sent to the session's socket than the last `drain` took. */
  get crowded(): boolean {
    return this.#arrivals.crowded;
  }

  /** Rings whose processes live, or that still hold records. */
  get open(): number {
    return this.#rings.length;
  }

  /** Pids of the target's processes that live: sharing its memory, as the kernel says. */
  processes(): number[] {
    return this.#users.pids();
  }

  /** The socket table that a process uses which asks for something; -1 if none is known. */
  tableOf(pid: number, ringId: bigint): number {
    let table = -1;
    for (const ring of this.#rings) {
      if (ring.id === ringId) return ring.table;
      if (ring.users.has(pid)) table = ring.table;
    }
    return table;
  }

  /** Whether a process that uses a socket table lives, or records of one are not read yet. */
  isUsed(table: number): boolean {
    return this.#tables.has(table);
  }

  /** Goes on with a ring of a session whose collector is gone, and with the processes that use it. */
  adopt(ring: Ring, pids: readonly number[]): void {
    const table = this.#tableFor(ring);
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
    this.#users.add(ring, pids);
  }

  /** Gives the records that a ring holds now to `reader` instead of the feed. */
  skim(ring: Ring, reader: (slot: Uint32Array) => void): void {
    const slot = new Uint32Array(new ArrayBuffer(SLOT_WORDS * 4));
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
   * Takes new rings, and reads every record that was committed before it was called, in the order of
   * their times. Returns how many there were; `complete` tells whether that was all.
   */
  drain(): number {
    const records = this.#order.drain(this.#rings, this.#accept);
    this.#users.lookIntoForked();
    return records;
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
    this.#users.look(nowMs);
    for (const { gone } of this.#tables.values()) gone.tell(this.#rings);
    this.#freeLate(nowMs);
    const lonely: Ring[] = [];
    for (let i = this.#rings.length - 1; i >= 0; i--) {
      const ring = this.#rings[i]!;
      ring.beat();
      if (ring.users.size > 0 || ring.forked.size > 0) {
        this.#unused.delete(ring);
        continue;
      }
      if (!this.#unused.has(ring)) lonely.push(ring);
      else if (ring.backlog() === 0) this.#retire(ring, i);
      else this.#unstall(ring, nowMs, i);
    }
    // Who has just ended has sent a ring of its own before, which may refer to this one's table: so a
    // ring without any users goes at the next look only.
    if (lonely.length > 0 && this.#users.search(lonely, nowMs)) {
      for (const ring of lonely) if (ring.users.size === 0) this.#unused.add(ring);
    }
    // An end is waited for: who asks twice need not wait twice.
    if (this.#rings.every((ring) => this.#unused.has(ring))) this.#aliveAtMs = -Infinity;
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

  /** Records whose index or memory made no sense; a whole memory that made none counts as one. */
  get badRecords(): number {
    return this.#badRecords + this.#arrivals.rejected;
  }

  /** Records that never reached the collector, or may not have. */
  lostRecords(): number {
    let sum = this.#closedSkipped;
    for (const reason of [Loss.RingFull, Loss.NoMemory, Loss.Left, Loss.NoClock]) sum += this.losses(reason);
    for (const ring of this.#rings) sum += ring.skipped;
    return sum;
  }

  /** Reads the sockets' last states of a table whose processes have all ended. */
  close(): void {
    for (const table of [...this.#tables.values()]) this.#endTable(table);
    for (const ring of this.#rings) ring.close();
    this.#rings.length = 0;
    this.#users.close();
  }

  #take(ring: Ring, slot: Uint32Array): void {
    const feed = this.#feed;
    let table = this.#last;
    if (table === null || table.number !== ring.table) {
      table = this.#tables.get(ring.table)!;
      this.#last = table;
    }
    const kind = slot[SlotWord.kind]! & 0xff;
    if (kind === Kind.Fork) {
      // Looked into when the records are read: that takes longer than to write many of these.
      const child = slot[SlotWord.pid]! | 0;
      if (child <= 0) this.#badRecords++;
      // Those beyond are found when the ring seems to have no users: they are searched for.
      else if (ring.forked.size < FORKED_MOST) ring.forked.add(child);
      return;
    }
    const entry = slot[SlotWord.entry]!;
    const generation = slot[SlotWord.gen]!;
    if (kind !== Kind.Listen && kind !== Kind.Other) {
      if (entry >= table.ring.entryCount) {
        this.#badRecords++;
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

  /** @throws KQTimeError `E_RING` */
  #attach(ring: Ring, pid: number): void {
    const table = this.#tableFor(ring);
    this.#users.made(ring, pid);
    ring.table = table.number;
    table.rings++;
    this.#rings.push(ring);
    this.attached++;
    this.onAttach(ring);
  }

  /** The socket table that a new ring brings or refers to. @throws KQTimeError `E_RING` */
  #tableFor(ring: Ring): Table {
    const known = this.#byId.get(ring.tableId);
    if (ring.entryCount === 0) {
      if (known !== undefined) return known;
      throw new KQTimeError("E_RING", "attach", "a ring refers to an unknown socket table");
    }
    if (ring.tableId !== ring.id || known !== undefined) {
      throw new KQTimeError("E_RING", "attach", "a ring brings a socket table under a wrong name");
    }
    const table = { number: this.#feed.addTable(), ring, rings: 0, gone: new Gone(ring) };
    this.#tables.set(table.number, table);
    this.#byId.set(ring.id, table);
    return table;
  }

  /** Nobody is left who could commit the slot at the tail; those behind it may be complete. */
  #unstall(ring: Ring, nowMs: number, i: number): void {
    if (ring.backlog() > ring.slotCount) {
      // The target overwrote its own indices: nothing behind them can be told apart.
      this.#badRecords++;
      this.#retire(ring, i);
      return;
    }
    const since = this.#stalled.get(ring);
    if (since === undefined || since.tail !== ring.tail) {
      this.#stalled.set(ring, { tail: ring.tail, sinceMs: nowMs });
    } else if (nowMs - since.sinceMs >= STALL_MS) {
      for (let left = ring.backlog(); left > 0 && left <= ring.slotCount; left = ring.backlog()) {
        ring.skip();
        this.#badRecords++;
        this.#order.read(ring);
      }
      ring.publish();
    }
  }

  #retire(ring: Ring, i: number): void {
    this.#rings.splice(i, 1);
    this.#stalled.delete(ring);
    this.#order.forget(ring);
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
    this.#last = null;
    ring.close();
  }
}
