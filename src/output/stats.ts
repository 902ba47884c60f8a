// The books of one direction, of one label or of one socket: how many bytes were called, which of
// them have a time, and where the others went. The join writes the fields directly.

import { Histogram } from "./histogram.ts";
import { Reason, REASONS } from "./reasons.ts";

export class DirectionStats {
  /** Sockets that moved bytes in this direction. */
  sockets = 0;
  /** Calls that moved bytes. */
  calls = 0;
  /** Bytes that the kernel took from (out) or gave to (in) the application. */
  bytesCalled = 0;
  /** Of them, those whose packet was found: they have a time. */
  bytesMatched = 0;
  /** Of them, those that have none, indexed by `Reason`. */
  readonly unmatched = new Float64Array(REASONS.length);
  /** Time of each call (its last byte), weight 1. */
  readonly callNs = new Histogram();
  /** Time of each byte, weighted by bytes. */
  readonly byteNs = new Histogram();
  /** Inbound: how long arrived bytes waited for an earlier one that was missing, by bytes. */
  readonly reassemblyNs = new Histogram();
  /** Bytes that the wire carried again. */
  bytesRetransmitted = 0;
  /** Outbound: called, but not yet sent when the measurement ended. */
  bytesInFlight = 0;
  /** Of an interval: what was in flight at its beginning. It was called before. */
  bytesCarried = 0;
  /** Inbound: arrived, but never called for. */
  bytesUnread = 0;
  /** On the wire of a measured socket, but in no call (C stdio, io_uring, …). */
  bytesUnexplained = 0;
  /**
   * Since when the oldest byte waits that still did at the end: out, the entry of its call; in, its
   * arrival. Infinity: none does, or it is not known.
   */
  waitingSinceNs = Infinity;

  /** Bytes without a time, over all reasons. */
  bytesUnmatched(): number {
    let bytes = 0;
    for (let reason = 0; reason < this.unmatched.length; reason++) bytes += this.unmatched[reason]!;
    return bytes;
  }

  /**
   * Matched share of the bytes that can have been matched, 0 … 1; null where there are none. Bytes
   * that never left this host have no departure to be matched with: neither those still in flight
   * nor those that a reset threw away (`closed unsent`).
   */
  coverage(): number | null {
    const due =
      this.bytesCarried + this.bytesCalled - this.bytesInFlight - this.unmatched[Reason.closedUnsent]!;
    if (!(due > 0)) return null;
    return Math.min(1, Math.max(0, this.bytesMatched / due));
  }

  /** Bytes called that are booked nowhere yet. */
  bytesOpen(): number {
    const booked = this.bytesMatched + this.bytesInFlight + this.bytesUnmatched();
    return this.bytesCarried + this.bytesCalled - booked;
  }

  /** Every byte called is matched, in flight, or unmatched for a reason; no time was refused. */
  balances(): boolean {
    return (
      this.bytesOpen() === 0 &&
      this.callNs.refused === 0 &&
      this.byteNs.refused === 0 &&
      this.reassemblyNs.refused === 0
    );
  }

  /** Adds all of `other`. */
  merge(other: DirectionStats): void {
    this.sockets += other.sockets;
    this.#mergeCounts(other);
    this.bytesInFlight += other.bytesInFlight;
    this.bytesCarried += other.bytesCarried;
    this.bytesUnread += other.bytesUnread;
    this.bytesUnexplained += other.bytesUnexplained;
    this.waitingSinceNs = Math.min(this.waitingSinceNs, other.waitingSinceNs);
  }

  /** Moves what is counted to each of two others; what only stands for a while (unread, …) stays. */
  moveCounts(one: DirectionStats, other: DirectionStats): void {
    one.#mergeCounts(this);
    other.#mergeCounts(this);
    this.#resetCounts();
  }

  #mergeCounts(other: DirectionStats): void {
    this.calls += other.calls;
    this.bytesCalled += other.bytesCalled;
    this.bytesMatched += other.bytesMatched;
    for (let i = 0; i < this.unmatched.length; i++) this.unmatched[i]! += other.unmatched[i]!;
    this.callNs.merge(other.callNs);
    this.byteNs.merge(other.byteNs);
    this.reassemblyNs.merge(other.reassemblyNs);
    this.bytesRetransmitted += other.bytesRetransmitted;
  }

  #resetCounts(): void {
    this.calls = 0;
    this.bytesCalled = 0;
    this.bytesMatched = 0;
    this.unmatched.fill(0);
    this.callNs.reset();
    this.byteNs.reset();
    this.reassemblyNs.reset();
    this.bytesRetransmitted = 0;
  }

  /** Back to nothing; the memory is kept. */
  reset(): void {
    this.sockets = 0;
    this.#resetCounts();
    this.bytesInFlight = 0;
    this.bytesCarried = 0;
    this.bytesUnread = 0;
    this.bytesUnexplained = 0;
    this.waitingSinceNs = Infinity;
  }
}
