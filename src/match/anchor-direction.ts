// What is known of one direction of a socket whose handshake was not captured: the sequence number at
// which the kernel's counter would be 0, and the counter at offset 0 (see anchor.ts).

import type { SeenBytes } from "./anchor-seen.ts";

/** See the head of anchor.ts: votes of moments, over at least this long. */
const VOTES = 10;
const VOTES_SPAN_NS = 300e6;
/** What a quiet moment weighs. */
const QUIET_VOTES = 3;
/** A program that is in a call at each of so many moments will not be met between two. */
const NEVER_IDLE = 8;
const TWO_TO_32 = 2 ** 32;

/** Of a base: it holds; it does but for calls of unmeasured processes; it must be confirmed. */
export type Trust = "certain" | "likely" | "none";

/** A moment that is judged. */
export interface Moment {
  readonly timeNs: number;
  /** Nothing had arrived shortly before. */
  readonly isQuiet: boolean;
  /** Packets that had come by then. */
  readonly packets: number;
}

/** What is known of one direction. */
export class Direction {
  /** Counter at offset 0; NaN: unknown. */
  base: number;
  /** The two have been seen together: no byte passed unrecorded. */
  confirmed: boolean;
  /** `zero` is known. */
  proven = false;
  /** Bytes before this offset, or this count, passed when nobody kept the packets. */
  floorOffset = 0;
  floorCount = -Infinity;
  /** What passed at this offset and behind it did so when somebody did, whatever `floorCount` says. */
  keptFrom = Infinity;
  /** The counter when it was last read. */
  counter = 0;
  /** Bytes passed in calls that nobody recorded, after the base was confirmed. */
  broken = false;

  /** `zero` is `reference` + [low, high], modulo 2^32. */
  #reference = -1;
  #low = -Infinity;
  #high = Infinity;
  /** An earlier moment that showed `high`: its counter, NaN if there is none, … */
  #witness = NaN;
  /** … the packets that had come by then, and whether there were none, so that none showed it. */
  #witnessPackets = 0;
  #witnessIsBlank = false;
  /** A later one agreed, and what the kernel counted in between was seen. */
  #agreed = false;
  /** Votes for `high`, the counter at the first and the last, and the time of the first. */
  #votes = 0;
  #votedFrom = -1;
  #votedAt = -1;
  #votedNs = 0;
  /** Moments that met the program in a call. */
  #inCalls = 0;
  /** What moments in a waiting read have shown, since which offset, how often, and where last. */
  #waitingBase = NaN;
  #waitingSince = 0;
  #waitingMoments = 0;
  #waitingAt = -1;
  readonly #isLikely: boolean;

  constructor(base: number, trust: Trust) {
    this.base = base;
    this.confirmed = trust === "certain";
    this.#isLikely = trust === "likely";
  }

  get anchored(): boolean {
    return this.proven && this.confirmed;
  }

  /** The sequence number of an offset, once `anchored`. */
  sequenceOf(offset: number): number {
    return (this.#zero + ((offset + this.base) % TWO_TO_32)) >>> 0;
  }

  /** The offset of a sequence number that is within half the number space of the counter. */
  offsetOf(sequence: number): number {
    const count = (sequence - this.#zero) >>> 0;
    return this.counter + ((count - (this.counter % TWO_TO_32)) | 0) - this.base;
  }

  /** First offset that is not below the floor. */
  get floor(): number {
    return Math.max(0, this.floorOffset, Math.min(this.keptFrom, this.floorCount - this.base));
  }

  /** Forgets what packets have shown. */
  reset(): void {
    this.#reference = -1;
    this.#low = -Infinity;
    this.#high = Infinity;
    this.#votes = 0;
    this.#witness = NaN;
    this.#witnessIsBlank = false;
    this.#agreed = false;
    this.proven = false;
  }

  /** A moment before which no packet was captured. */
  blank(counter: number): void {
    this.#witness = counter;
    this.#witnessPackets = 0;
    this.#witnessIsBlank = true;
  }

  /** Of a moment at which `counter` was counted, `sequence` was the most that had arrived. */
  atMost(sequence: number, counter: number, moment: Moment, shownAt: number, seen: SeenBytes): void {
    const value = this.#relative(sequence, counter);
    if (value < this.#high) {
      this.#high = value;
      this.#votes = 0;
      this.#agreed = false;
      this.proven = false;
      if (!this.#witnessIsBlank) this.#witness = NaN;
    }
    if (value !== this.#high) return;
    if (!this.#agreed) this.#agree(counter, moment, shownAt, seen);
    this.#vote(counter, moment, seen);
  }

  atLeast(sequence: number, counter: number): void {
    const value = this.#relative(sequence, counter);
    if (value > this.#low) this.#low = value;
  }

  /** Whether the bounds meet; false if they contradict each other. */
  conclude(): boolean {
    if (this.#low > this.#high) return false;
    if (this.#low === this.#high && this.#agreed) this.proven = true;
    return true;
  }

  #agree(counter: number, moment: Moment, shownAt: number, seen: SeenBytes): void {
    this.#agreed = counter === this.#witness
      ? shownAt >= this.#witnessPackets
      : this.#isSeen(this.#witness, counter, seen);
    if (this.#agreed) return;
    this.#witness = counter;
    this.#witnessPackets = moment.packets;
    this.#witnessIsBlank = false;
  }

  #vote(counter: number, { isQuiet, timeNs }: Moment, seen: SeenBytes): void {
    if (counter === this.#votedAt) return;
    if (this.#votes === 0) {
      this.#votedNs = timeNs;
      this.#votedFrom = counter;
    }
    this.#votes += isQuiet ? QUIET_VOTES : 1;
    this.#votedAt = counter;
    if (this.#votes < VOTES || timeNs - this.#votedNs < VOTES_SPAN_NS) return;
    if (this.#isSeen(this.#votedFrom, counter, seen)) this.proven = true;
    else this.#votes = 0;
  }

  /** Whether what was counted between two counters was seen, if `high` is true. */
  #isSeen(from: number, to: number, seen: SeenBytes): boolean {
    return to > from && seen.covers((this.#zero + (from % TWO_TO_32)) >>> 0, to - from);
  }

  /** The kernel's count of what the program has moved, and the table's offset, of one moment. */
  align(count: number, off: number, idle: boolean): void {
    if (off < 0) return;
    const base = count - off;
    if (base === this.base) {
      this.confirmed = true;
    } else if (idle && this.confirmed) {
      this.broken = true;
    } else if (idle) {
      // Bytes passed in calls that nobody recorded: what was recorded before may have been shifted.
      this.base = base;
      this.confirmed = true;
      this.floorOffset = Math.max(this.floorOffset, off);
    } else if (this.#isLikely && base > this.base && ++this.#inCalls >= NEVER_IDLE) {
      // Within a call the kernel is ahead of the table, which tells nothing against the base.
      this.confirmed = true;
    }
  }

  /**
   * As `align`, of a read that waits for bytes and has taken none: nothing is left to take. Such a
   * moment may still be met between the kernel's return and the record; not at each of several, and
   * with the same number of bytes.
   */
  alignWaiting(count: number, off: number): void {
    const base = count - off;
    if (this.confirmed || off < 0 || base === this.base || base < this.base) return;
    if (base !== this.#waitingBase) {
      this.#waitingBase = base;
      this.#waitingSince = off;
      this.#waitingMoments = 0;
    }
    if (off === this.#waitingAt) return;
    this.#waitingAt = off;
    if (++this.#waitingMoments < NEVER_IDLE) return;
    this.base = base;
    this.confirmed = true;
    this.floorOffset = Math.max(this.floorOffset, this.#waitingSince);
  }

  get #zero(): number {
    return (this.#reference + this.#high) >>> 0;
  }

  #relative(sequence: number, counter: number): number {
    const value = (sequence - (counter % TWO_TO_32)) >>> 0;
    if (this.#reference < 0) this.#reference = value;
    return (value - this.#reference) | 0;
  }
}
