// The calls of one direction of one socket, put into the order of the stream.
//
// Records of different threads and processes arrive in any order; the offset that each claimed
// says where it belongs. A record whose predecessor is missing waits in `ahead`. Calls that
// overlapped have no provable order among themselves: they are held until their group is
// complete, and booked as `concurrent` if more than one of them moved bytes.

import { Reason } from "../output/reasons.ts";
import { DirectionStats } from "../output/stats.ts";
import { RangeQueue } from "./ranges.ts";

/** Numbers of a range of calls: see `Calls.queue`. */
export const Call = { end: 0, timeNs: 1, fd: 2, pid: 3, reason: 4, naming: 5, stride: 6 } as const;

/** `Call.reason` and `Seen.reason` of what can be matched. */
export const MATCHABLE = -1;

/**
 * Records of one direction that wait for one before them, which is lost if it does not come soon: a
 * process was killed while it wrote it.
 */
const AHEAD_MOST = 4096;

interface Waiting {
  off: number;
  bytes: number;
  timeNs: number;
  fd: number;
  pid: number;
  overlap: boolean;
  group: number;
  naming: number;
}

export class Calls {
  /** Calls in stream order, each range one call (or one booked stretch), up to `edge`. */
  readonly queue = new RangeQueue(Call.stride);
  /** End of the last call in the queue. */
  edge = 0;
  /** Calls and bytes that reached the queue, whatever becomes of them. */
  count = 0;
  bytes = 0;
  /** Time of the last call that was added, ns. */
  lastNs = 0;
  /** Which of `accounts` the calls that come now belong to. */
  naming = 0;

  /** The books of each naming (see measurement.ts), and of the present one. */
  readonly accounts: DirectionStats[];
  #account: DirectionStats;
  /** Nothing is held or waits, and offsets tell the order: as a rule. One field to look at. */
  #isPlain = true;
  /** The latest group, once two of its calls have moved bytes; -1: not so. */
  #concurrentGroup = -1;
  /** The record in front of what comes next is lost: it may have overlapped that. */
  #afterGap = false;
  #ahead: Waiting[] = [];
  /** The one call of the latest group that moved bytes so far. */
  #held: Waiting[] = [];
  #unordered = false;
  /** A record of the held calls' group may be lost. */
  #heldDoubtful = false;

  constructor(accounts: DirectionStats[] = [new DirectionStats()]) {
    this.accounts = accounts;
    this.#account = accounts[0]!;
  }

  /** The calls that come now belong to this naming. */
  rename(naming: number, account: DirectionStats): void {
    this.accounts[naming] = account;
    this.naming = naming;
    this.#account = account;
  }

  /** The books of a naming; those of the present one are at hand. */
  accountOf(naming: number): DirectionStats {
    return naming === this.naming ? this.#account : this.accounts[naming]!;
  }

  /** Offset up to which records are known, held ones included. */
  get known(): number {
    const held = this.#held;
    return held.length === 0 ? this.edge : held[held.length - 1]!.off + held[held.length - 1]!.bytes;
  }

  get waiting(): number {
    return this.#ahead.length;
  }

  get held(): number {
    return this.#held.length;
  }

  /** Adds the namings that calls which wait here belong to, and that of those to come. */
  collectNamings(into: Set<number>): void {
    into.add(this.naming);
    const { queue } = this;
    for (let p = 0; p < queue.length; p++) into.add(queue.values[queue.at(p) + Call.naming]!);
    for (const { naming } of this.#ahead) into.add(naming);
    for (const { naming } of this.#held) into.add(naming);
  }

  /** Whether a call that is in progress now may overlap with those that are known. */
  get open(): boolean {
    return this.#held.length > 0 || this.#concurrentGroup >= 0 || this.#afterGap;
  }

  /** Time of the oldest record that waits for its predecessor, ns; Infinity if there is none. */
  get waitingSinceNs(): number {
    let since = Infinity;
    for (const waiting of this.#ahead) if (waiting.timeNs < since) since = waiting.timeNs;
    return since;
  }

  /**
   * Adds a call that moved `bytes` > 0 bytes at offset `off`.
   * Returns false if its offset was booked already: the record is not consistent with the others.
   */
  add(
    off: number,
    bytes: number,
    timeNs: number,
    fd: number,
    pid: number,
    overlap: boolean,
    group: number,
  ): boolean {
    if (this.#isPlain && !overlap && off === this.edge) {
      this.#afterGap = false;
      this.#concurrentGroup = -1;
      this.#append(bytes, timeNs, fd, pid, MATCHABLE, this.naming, 1);
      return true;
    }
    const added = this.#addToOthers(off, bytes, timeNs, fd, pid, overlap, group);
    this.#lookIfPlain();
    return added;
  }

  #lookIfPlain(): void {
    this.#isPlain = !this.#unordered && this.#held.length === 0 && this.#ahead.length === 0;
  }

  #addToOthers(
    off: number,
    bytes: number,
    timeNs: number,
    fd: number,
    pid: number,
    overlap: boolean,
    group: number,
  ): boolean {
    if (this.#unordered) {
      this.#append(bytes, timeNs, fd, pid, Reason.concurrent, this.naming, 1);
      return true;
    }
    if (off < this.known) return false;
    const waiting = { off, bytes, timeNs, fd, pid, overlap, group, naming: this.naming };
    if (off > this.known) {
      const ahead = this.#ahead;
      let i = ahead.length;
      while (i > 0 && ahead[i - 1]!.off > off) i--;
      if (i > 0 && ahead[i - 1]!.off + ahead[i - 1]!.bytes > off) return false;
      if (i < ahead.length && off + bytes > ahead[i]!.off) return false;
      ahead.splice(i, 0, waiting);
      if (ahead.length > AHEAD_MOST) this.skipGap(Reason.ringDrop);
      return true;
    }
    // Reaching into a record that waits, it would leave that one waiting for ever.
    const { length } = this.#ahead;
    if (length > 0 && off + bytes > this.#ahead[0]!.off) return false;
    this.#place(waiting);
    this.#catchUp();
    return true;
  }

  /** Offsets prove nothing any more: calls are taken as they come, and booked as concurrent. */
  forgetOrder(): void {
    if (this.#unordered) return;
    this.#unordered = true;
    this.doubt();
    this.release();
    for (const call of this.#ahead) this.#appendCall(call, Reason.concurrent);
    this.#ahead.length = 0;
    this.#lookIfPlain();
  }

  /** Books [known, end) under `reason`: its records are lost. */
  skipTo(end: number, reason: number): void {
    if (this.#unordered) return;
    if (end <= this.known) {
      this.release();
    } else {
      // A lost record may have been of the group in front of it, or of the one behind.
      this.#heldDoubtful = true;
      this.release();
      this.#append(end - this.edge, this.lastNs, -1, 0, reason, this.naming, 0);
      this.#afterGap = true;
    }
    this.#catchUp();
    this.#lookIfPlain();
  }

  /** Books the gap before the first waiting record, if there is one. */
  skipGap(reason: number): void {
    const ahead = this.#ahead;
    if (ahead.length > 0) this.skipTo(ahead[0]!.off, reason);
  }

  /** A call of the held calls' group, if there is one, never came to its record. */
  doubt(): void {
    this.#heldDoubtful = this.#held.length > 0;
  }

  /** The group of the held calls is complete: no call is in progress. */
  release(): void {
    const held = this.#held;
    const doubtful = this.#heldDoubtful;
    this.#heldDoubtful = false;
    if (held.length === 0) return;
    if (held.length === 1 && !doubtful) {
      this.#appendCall(held[0]!, MATCHABLE);
    } else {
      for (const call of held) this.#appendCall(call, Reason.concurrent);
    }
    held.length = 0;
    this.#lookIfPlain();
  }

  #place(call: Waiting): void {
    const held = this.#held;
    if (held.length > 0 && (!call.overlap || held[0]!.group !== call.group)) this.release();
    if (!call.overlap) {
      this.#concurrentGroup = -1;
      this.#appendCall(call, MATCHABLE);
    } else if (call.group === this.#concurrentGroup) {
      this.#appendCall(call, Reason.concurrent);
    } else {
      if (this.#afterGap) this.#heldDoubtful = true;
      this.#concurrentGroup = -1;
      held.push(call);
      // Threads may keep a group open for ever: its second call decides, the rest need not wait.
      if (held.length > 1) {
        this.release();
        this.#concurrentGroup = call.group;
      }
    }
    this.#afterGap = false;
  }

  #catchUp(): void {
    const ahead = this.#ahead;
    let taken = 0;
    while (taken < ahead.length && ahead[taken]!.off === this.known) this.#place(ahead[taken++]!);
    if (taken > 0) ahead.splice(0, taken);
  }

  #appendCall(call: Waiting, reason: number): void {
    this.#append(call.bytes, call.timeNs, call.fd, call.pid, reason, call.naming, 1);
  }

  #append(
    bytes: number,
    timeNs: number,
    fd: number,
    pid: number,
    reason: number,
    naming: number,
    count: number,
  ): void {
    const queue = this.queue;
    const i = queue.push();
    const values = queue.values;
    this.edge += bytes;
    this.bytes += bytes;
    this.count += count;
    if (timeNs > this.lastNs) this.lastNs = timeNs;
    const account = this.accountOf(naming);
    account.calls += count;
    account.bytesCalled += bytes;
    values[i + Call.end] = this.edge;
    values[i + Call.timeNs] = timeNs;
    values[i + Call.fd] = fd;
    values[i + Call.pid] = pid;
    values[i + Call.reason] = reason;
    values[i + Call.naming] = naming;
  }
}
