// The join itself: the merge of two lists of adjoining ranges over one axis, the stream offset.
// Every overlap of a call's range with a sighting's range is a piece with one delay.

import { Reason } from "../output/reasons.ts";
import type { DirectionStats } from "../output/stats.ts";
import { Call, Calls, MATCHABLE } from "./calls.ts";
import { Seen, type Sightings } from "./sightings.ts";

export const Direction = { Out: 0, In: 1 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** Where finished calls go: the log, or nothing. */
export interface CallSink {
  call(
    direction: Direction,
    startNs: number,
    endNs: number,
    firstNs: number,
    inorderNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    sock: number,
    lport: number,
    rport: number,
    name: Uint8Array,
  ): void;
  miss(
    direction: Direction,
    startNs: number,
    endNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    sock: number,
    lport: number,
    rport: number,
    reason: number,
    name: Uint8Array,
  ): void;
}

/** What a line of the log says about the socket. */
export interface SocketIdentity {
  readonly sock: number;
  readonly lport: number;
  readonly rport: number;
  readonly name: Uint8Array;
}

/** One direction of one socket: its calls, its sightings, and how far the two are merged. */
export class Side {
  readonly direction: Direction;
  readonly calls = new Calls();
  readonly stats: DirectionStats;
  /** The wire's view, null until the connection is found there. */
  sightings: Sightings | null = null;
  /** Everything below is merged. */
  position = 0;
  /** Why its calls cannot be joined, now or ever: they are booked as they come. */
  lostReason: number = MATCHABLE;

  // The call at `position`, as far as it is merged.
  #callStart = 0;
  #callMatched = 0;
  #firstNs = 0;
  #lastNs = 0;
  #inorderNs = 0;
  // The stretch of it that could not be matched, not yet written.
  #missStart = 0;
  #missBytes = 0;
  #missReason: number = MATCHABLE;

  constructor(direction: Direction, stats: DirectionStats) {
    this.direction = direction;
    this.stats = stats;
  }

  /** From now on nothing of this side can be joined; the first reason stands. */
  lose(reason: number): void {
    if (this.lostReason === MATCHABLE) this.lostReason = reason;
  }

  get lost(): boolean {
    return this.lostReason !== MATCHABLE;
  }

  /** Merges what both lists hold. */
  merge(identity: SocketIdentity, sink: CallSink | null): void {
    const sightings = this.sightings;
    if (this.lostReason !== MATCHABLE) {
      this.book(this.calls.edge, this.lostReason, identity, sink);
      // Nobody will ask for these times.
      sightings?.queue.clear();
      return;
    }
    if (sightings === null) return;
    const calls = this.calls.queue;
    const seen = sightings.queue;
    while (calls.length > 0 && seen.length > 0) {
      const c = calls.first();
      const s = seen.first();
      const callEnd = calls.values[c + Call.end]!;
      const seenEnd = seen.values[s + Seen.end]!;
      const end = callEnd < seenEnd ? callEnd : seenEnd;
      const callReason = calls.values[c + Call.reason]!;
      const reason = callReason === MATCHABLE ? seen.values[s + Seen.reason]! : callReason;
      this.#piece(
        end,
        calls.values[c + Call.timeNs]!,
        seen.values[s + Seen.timeNs]!,
        seen.values[s + Seen.inorderNs]!,
        reason,
        identity,
        sink,
      );
      if (end === seenEnd) seen.shift();
      if (end === callEnd) {
        this.#finish(c, identity, sink);
        calls.shift();
      }
    }
  }

  /** Books the calls' bytes in [position, end) under `reason`, without sightings. */
  book(end: number, reason: number, identity: SocketIdentity, sink: CallSink | null): void {
    const calls = this.calls.queue;
    while (calls.length > 0 && this.position < end) {
      const c = calls.first();
      const callEnd = calls.values[c + Call.end]!;
      const callReason = calls.values[c + Call.reason]!;
      this.#piece(
        callEnd < end ? callEnd : end,
        0,
        0,
        0,
        callReason === MATCHABLE ? reason : callReason,
        identity,
        sink,
      );
      if (this.position === callEnd) {
        this.#finish(c, identity, sink);
        calls.shift();
      }
    }
  }

  /** Leaves the calls' bytes from `position` on in flight: they are neither matched nor missed. */
  leaveInFlight(identity: SocketIdentity, sink: CallSink | null): number {
    const calls = this.calls.queue;
    const bytes = this.calls.edge - this.position;
    if (bytes > 0) this.#finish(calls.first(), identity, sink);
    calls.clear();
    this.position = this.calls.edge;
    this.stats.bytesInFlight += bytes;
    return bytes;
  }

  #piece(
    end: number,
    callNs: number,
    seenNs: number,
    inorderNs: number,
    reason: number,
    identity: SocketIdentity,
    sink: CallSink | null,
  ): void {
    const stats = this.stats;
    const start = this.position;
    const bytes = end - start;
    this.position = end;
    if (reason === MATCHABLE) {
      const delayNs = this.direction === Direction.Out ? seenNs - callNs : callNs - seenNs;
      if (delayNs >= 0) {
        if (this.#missBytes > 0) this.#writeMiss(identity, sink);
        stats.bytesMatched += bytes;
        stats.byteNs.record(delayNs, bytes);
        if (this.direction === Direction.In) {
          stats.reassemblyNs.record(inorderNs > seenNs ? inorderNs - seenNs : 0, bytes);
        }
        if (this.#callMatched === 0) this.#firstNs = seenNs;
        this.#callMatched += bytes;
        this.#lastNs = seenNs;
        this.#inorderNs = inorderNs;
        return;
      }
      reason = Reason.clock;
    }
    stats.unmatched[reason]! += bytes;
    if (this.#missBytes > 0 && this.#missReason !== reason) this.#writeMiss(identity, sink);
    if (this.#missBytes === 0) {
      this.#missStart = start;
      this.#missReason = reason;
    }
    this.#missBytes += bytes;
  }

  #finish(c: number, identity: SocketIdentity, sink: CallSink | null): void {
    if (this.#missBytes > 0) this.#writeMiss(identity, sink);
    const matched = this.#callMatched;
    if (matched > 0) {
      const values = this.calls.queue.values;
      const timeNs = values[c + Call.timeNs]!;
      const out = this.direction === Direction.Out;
      const startNs = out ? timeNs : this.#lastNs;
      const endNs = out ? this.#lastNs : timeNs;
      this.stats.callNs.record(endNs - startNs, 1);
      if (sink !== null) {
        sink.call(
          this.direction,
          startNs,
          endNs,
          this.#firstNs,
          this.#inorderNs,
          matched,
          this.#callStart,
          values[c + Call.pid]!,
          values[c + Call.fd]!,
          identity.sock,
          identity.lport,
          identity.rport,
          identity.name,
        );
      }
    }
    this.#callStart = this.position;
    this.#callMatched = 0;
  }

  #writeMiss(identity: SocketIdentity, sink: CallSink | null): void {
    const calls = this.calls.queue;
    if (sink !== null) {
      const c = calls.first();
      const timeNs = calls.values[c + Call.timeNs]!;
      sink.miss(
        this.direction,
        timeNs,
        timeNs,
        this.#missBytes,
        this.#missStart,
        calls.values[c + Call.pid]!,
        calls.values[c + Call.fd]!,
        identity.sock,
        identity.lport,
        identity.rport,
        this.#missReason,
        identity.name,
      );
    }
    this.#missBytes = 0;
  }
}
