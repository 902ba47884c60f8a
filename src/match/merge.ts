// The join itself: the merge of two lists of adjoining ranges over one axis, the stream offset.
// Every overlap of a call's range with a sighting's range is a piece with one delay.

import { Reason } from "../output/reasons.ts";
import type { DirectionStats } from "../output/stats.ts";
import { Call, Calls, MATCHABLE } from "./calls.ts";
import { momentOf, type Moment } from "./intervals.ts";
import type { Naming, Recipient } from "./measurement.ts";
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
}

/** One direction of one socket: its calls, its sightings, and how far the two are merged. */
export class Side {
  // First what is looked at for each piece: it is together in the processor's cache then.
  readonly calls: Calls;
  /** The wire's view, null until the connection is found there. */
  sightings: Sightings | null = null;
  readonly direction: Direction;
  /** Everything below is merged. */
  position = 0;
  /** Why its calls cannot be joined, now or ever: they are booked as they come. */
  lostReason: number = MATCHABLE;
  /** `isAnchored`, and wrongly: a byte arrived after it was read, or left before it was written. */
  isContradicted = false;

  /** The end of the present interval. */
  readonly #interval: Moment;
  /** For which moment the oldest waiting byte is asked for; Infinity: none. */
  #probeNs = Infinity;

  // The call at `position`, as far as it is merged.
  #callStart = 0;
  #callMatched = 0;
  #firstNs = 0;
  #lastNs = 0;
  #inorderNs = 0;
  // The stretch of it that could not be matched, not yet written.
  #missBytes = 0;
  #missStart = 0;
  #missReason: number = MATCHABLE;

  /** Who is told of the calls of naming `#toldOf`: as a rule, of many calls one after the other. */
  #told: readonly Recipient[] = [];
  #toldOf = -1;

  /** What its calls are measured for, by their `Call.naming`. */
  readonly namings: readonly Naming[];
  /** Its sequence numbers are concluded, not seen in a handshake. */
  isAnchored = false;
  /** Of the bytes that waited at `#probeNs` and have been merged since, the oldest's beginning. */
  #probedNs = Infinity;
  /** The same as of the end of the interval. */
  #intervalSinceNs = Infinity;
  /** Which naming held until when, one after the other; the present one is not among them. */
  #stretches: { readonly naming: number; readonly untilNs: number }[] = [];
  /** Of the sightings' retransmitted bytes, those that stand in some books. */
  #retransmitted = 0;

  constructor(direction: Direction, namings: readonly Naming[]) {
    this.direction = direction;
    this.namings = namings;
    this.#interval = momentOf(namings[0]);
    const out = direction === Direction.Out;
    this.calls = new Calls(namings.map((naming) => (out ? naming.out : naming.in)));
  }

  /** The books of the calls that come now. */
  get stats(): DirectionStats {
    return this.calls.accountOf(this.calls.naming);
  }

  /**
   * What is called from now on, and what passes the wire after `atNs`, belongs to the naming with
   * this index.
   */
  rename(naming: number, atNs: number): void {
    this.bookRetransmitted();
    this.#stretches.push({ naming: this.calls.naming, untilNs: atNs });
    const { out, in: inbound } = this.namings[naming]!;
    this.#toldOf = -1;
    this.calls.rename(naming, this.direction === Direction.Out ? out : inbound);
  }

  /** The books of a naming are closed: what passed the wire meanwhile belongs to a later one. */
  forgetNaming(naming: number): void {
    this.#stretches = this.#stretches.filter((stretch) => stretch.naming !== naming);
  }

  /** The books of what passed the wire at this time. */
  statsAt(timeNs: number): DirectionStats {
    for (const { naming, untilNs } of this.#stretches) {
      if (timeNs <= untilNs) return this.calls.accounts[naming]!;
    }
    return this.stats;
  }

  bookRetransmitted(): void {
    const bytes = this.sightings?.retransmitted ?? 0;
    this.stats.bytesRetransmitted += bytes - this.#retransmitted;
    this.#retransmitted = bytes;
  }

  /** Its calls begin at `offset`: what was called before is of no concern. Before the first call. */
  beginAt(offset: number): void {
    this.calls.edge = offset;
    this.position = offset;
    this.#callStart = offset;
  }

  /** From now on nothing of this side can be joined; the first reason stands. */
  lose(reason: number): void {
    if (this.lostReason === MATCHABLE) this.lostReason = reason;
  }

  get lost(): boolean {
    return this.lostReason !== MATCHABLE;
  }

  /** Asks since when the oldest byte waits at a moment, no earlier than what is merged by now. */
  probe(atNs: number): void {
    this.#probeNs = atNs;
    this.#probedNs = Infinity;
  }

  /**
   * The answer, once everything up to the moment is merged: out, the entry of the byte's call; in,
   * its arrival. Infinity: none waited.
   */
  probed(): number {
    const sinceNs = Math.min(this.#probedNs, this.waitingSinceNs());
    const atNs = this.#probeNs;
    this.#probeNs = Infinity;
    return sinceNs <= atNs ? sinceNs : Infinity;
  }

  /** As `probed`, of the end of the interval, which every `Side` waits for without being asked. */
  waitedAtIntervalEnd(): number {
    const sinceNs = Math.min(this.#intervalSinceNs, this.waitingSinceNs());
    this.#intervalSinceNs = Infinity;
    return sinceNs <= this.#interval.ns ? sinceNs : Infinity;
  }

  /** Since when the first byte waits that is not merged; Infinity if there is none. */
  waitingSinceNs(): number {
    if (this.lost || this.sightings === null) return Infinity;
    const calls = this.calls.queue;
    const seen = this.sightings.queue;
    if (this.direction === Direction.Out) {
      return calls.length > 0 ? calls.values[calls.first() + Call.timeNs]! : Infinity;
    }
    return seen.length > 0 ? seen.values[seen.first() + Seen.timeNs]! : Infinity;
  }

  /** As `waitingSinceNs`, if that byte is of a call that this naming measures. */
  callWaitingSinceNs(naming: number): number {
    const { queue } = this.calls;
    if (queue.length === 0 || queue.values[queue.first() + Call.naming] !== naming) return Infinity;
    return this.waitingSinceNs();
  }

  /** Merges what both lists hold. */
  merge(identity: SocketIdentity): void {
    const sightings = this.sightings;
    if (!this.lost && sightings !== null) this.#join(sightings, identity);
    if (!this.lost) return;
    this.book(this.calls.edge, this.lostReason, identity);
    // Nobody will ask for these times.
    sightings?.queue.clear();
  }

  #join(sightings: Sightings, identity: SocketIdentity): void {
    const calls = this.calls.queue;
    const seen = sightings.queue;
    while (calls.length > 0 && seen.length > 0 && !this.lost) {
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
        calls.values[c + Call.naming]!,
        identity,
      );
      if (end === seenEnd) seen.shift();
      if (end === callEnd) {
        this.#finish(c, identity);
        calls.shift();
      }
    }
  }

  /** Books the calls' bytes in [position, end) under `reason`, without sightings. */
  book(end: number, reason: number, identity: SocketIdentity): void {
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
        calls.values[c + Call.naming]!,
        identity,
      );
      if (this.position === callEnd) {
        this.#finish(c, identity);
        calls.shift();
      }
    }
  }

  /** Leaves the calls' bytes from `position` on in flight: they are neither matched nor missed. */
  leaveInFlight(identity: SocketIdentity): void {
    const calls = this.calls.queue;
    if (calls.length > 0) this.#finish(calls.first(), identity);
    while (calls.length > 0) {
      const c = calls.first();
      const end = calls.values[c + Call.end]!;
      const account = this.calls.accountOf(calls.values[c + Call.naming]!);
      account.bytesInFlight += end - this.position;
      account.waitingSinceNs = Math.min(account.waitingSinceNs, calls.values[c + Call.timeNs]!);
      this.position = end;
      calls.shift();
    }
  }

  #piece(
    end: number,
    callNs: number,
    seenNs: number,
    inorderNs: number,
    reason: number,
    naming: number,
    identity: SocketIdentity,
  ): void {
    const stats = this.calls.accountOf(naming);
    const start = this.position;
    const bytes = end - start;
    this.position = end;
    if (reason === MATCHABLE) {
      const out = this.direction === Direction.Out;
      const sinceNs = out ? callNs : seenNs;
      const untilNs = out ? seenNs : callNs;
      const delayNs = untilNs - sinceNs;
      if (delayNs >= 0) {
        const isAsked = untilNs > this.#probeNs && sinceNs <= this.#probeNs;
        if (isAsked && sinceNs < this.#probedNs) this.#probedNs = sinceNs;
        const endNs = this.#interval.ns;
        if (untilNs > endNs && sinceNs <= endNs && sinceNs < this.#intervalSinceNs) {
          this.#intervalSinceNs = sinceNs;
        }
        if (this.#missBytes > 0) this.#writeMiss(identity);
        stats.bytesMatched += bytes;
        stats.byteNs.record(delayNs, bytes);
        if (!out) {
          stats.reassemblyNs.record(inorderNs > seenNs ? inorderNs - seenNs : 0, bytes);
        }
        if (this.#callMatched === 0) this.#firstNs = seenNs;
        this.#callMatched += bytes;
        this.#lastNs = seenNs;
        this.#inorderNs = inorderNs;
        return;
      }
      if (this.isAnchored) {
        this.isContradicted = true;
        this.lose(Reason.noAnchor);
      }
      reason = this.isAnchored ? Reason.noAnchor : Reason.clock;
    }
    stats.unmatched[reason]! += bytes;
    if (this.#missBytes > 0 && this.#missReason !== reason) this.#writeMiss(identity);
    if (this.#missBytes === 0) {
      this.#missStart = start;
      this.#missReason = reason;
    }
    this.#missBytes += bytes;
  }

  #finish(c: number, identity: SocketIdentity): void {
    if (this.#missBytes > 0) this.#writeMiss(identity);
    const matched = this.#callMatched;
    if (matched > 0) {
      const values = this.calls.queue.values;
      const timeNs = values[c + Call.timeNs]!;
      const out = this.direction === Direction.Out;
      const startNs = out ? timeNs : this.#lastNs;
      const endNs = out ? this.#lastNs : timeNs;
      const naming = values[c + Call.naming]!;
      this.calls.accountOf(naming).callNs.record(endNs - startNs, 1);
      const told = this.#toldOfCalls(naming);
      for (let r = 0; r < told.length; r++) {
        const { measurement, label } = told[r]!;
        measurement.sink?.call(
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
          label.encoded,
        );
      }
    }
    this.#callStart = this.position;
    this.#callMatched = 0;
  }

  #toldOfCalls(naming: number): readonly Recipient[] {
    if (naming !== this.#toldOf) {
      this.#toldOf = naming;
      this.#told = this.namings[naming]!.told;
    }
    return this.#told;
  }

  #writeMiss(identity: SocketIdentity): void {
    const calls = this.calls.queue;
    const c = calls.first();
    const timeNs = calls.values[c + Call.timeNs]!;
    const told = this.#toldOfCalls(calls.values[c + Call.naming]!);
    for (let r = 0; r < told.length; r++) {
      const { measurement, label } = told[r]!;
      measurement.sink?.miss(
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
        label.encoded,
      );
    }
    this.#missBytes = 0;
  }
}
