// What the wire showed of one direction of one connection: for each byte of the stream, when it
// was first sighted, and when everything before it had been sighted too.
//
// Sequence numbers (RFC 9293 §3.4) become stream offsets by the initial sequence number: offset 0
// is the byte after the SYN. In-order segments go straight to the queue; segments beyond a hole
// wait in `ahead` until the hole is filled or proven never to be.
//
// A hole that is filled later is either the first transmission after a drop in front of the tap
// (this host's own qdisc, or the path to this host), or a retransmission of what the capture
// itself dropped. The capture's drop counter decides, and so does an acknowledgment of bytes
// that were never sighted: those had been transmitted, for certain.

import { Reason } from "../output/reasons.ts";
import { MATCHABLE } from "./calls.ts";
import { RangeQueue } from "./ranges.ts";

/** Numbers of a range of sightings: see `Sightings.queue`. */
export const Seen = { end: 0, timeNs: 1, inorderNs: 2, reason: 3, stride: 4 } as const;

/** No window is larger (RFC 7323 §2.3: 2^30): farther offsets are not of this connection. */
const MAX_WINDOW_BYTES = 2 ** 30;

/** What may be on its way, unseen: no socket buffer is larger unless somebody made it so. */
const MAX_UNSEEN_BYTES = 2 ** 26;

/** Ranges kept for one direction of one connection (32 bytes each) before times are given up. */
export const MAX_RANGES = 1 << 18;

/** What arrived behind a missed segment was in order when it arrived, for all that is known. */
const UNTOLD = -Infinity;

/** Ranges that wait behind holes at the most; then the first hole is given up. */
const MAX_AHEAD = 4096;

interface Ahead {
  start: number;
  end: number;
  timeNs: number;
  reason: number;
  /** Capture drops known before the hole in front of this range opened. */
  dropsBeforeHole: number;
}

/** Counters of the capture that decide what a hole means; kept by the engine for all flows. */
export interface CaptureDrops {
  /** Packets that the capture dropped, as read after the last packet in hand. */
  now: number;
  /** The same counter when the capture's buffer was last seen empty. */
  drained: number;
}

export class Sightings {
  readonly queue = new RangeQueue(Seen.stride);
  /** End of what has been sighted (or booked) without a gap. */
  edge = 0;
  /** End of the farthest byte sighted. */
  high = 0;
  /** Offset after the last byte before FIN; -1 before a FIN was sighted. */
  finAt = -1;
  /** Everything below was acknowledged by the receiver. */
  acknowledged = 0;
  /** First offset that is known of the wire. */
  startsAt = 0;
  /** Time of the last segment with payload, ns. */
  lastDataNs = -Infinity;

  #sequenceOfHigh: number;
  /** Something waits behind a hole: one field to look at, for each segment. */
  #hasHoles = false;
  #device = -1;
  #dropsAtLast: number;
  #ahead: Ahead[] = [];
  /** Payload bytes sighted again on the same device. */
  retransmitted = 0;

  /** @param firstSequence Sequence number of offset 0. @param drops Drops counted before it. */
  constructor(firstSequence: number, drops: number) {
    this.#sequenceOfHigh = firstSequence >>> 0;
    this.#dropsAtLast = drops;
  }

  /**
   * The stream is known from `offset` on, whose sequence number this is; what the calls have in
   * front of it, from `position` on, has no anchor.
   */
  startAt(offset: number, sequence: number, position: number): void {
    this.startsAt = offset;
    this.edge = offset;
    this.high = offset;
    this.acknowledged = offset;
    this.#sequenceOfHigh = sequence >>> 0;
    if (offset > position) this.#append(offset, 0, 0, Reason.noAnchor);
  }

  /** Whether the capture may have missed what followed the last segment in hand. */
  mayHaveMissed(drops: CaptureDrops): boolean {
    return drops.now > this.#dropsAtLast;
  }

  get holes(): number {
    return this.#ahead.length;
  }

  /** Bytes sighted beyond a hole, and when. */
  forEachAhead(visit: (bytes: number, timeNs: number) => void): void {
    for (const { start, end, timeNs } of this.#ahead) visit(end - start, timeNs);
  }

  offsetOf(sequence: number): number {
    return this.high + ((sequence - this.#sequenceOfHigh) | 0);
  }

  /** Whether a reset with this number is none that was guessed or late (RFC 5961 §3). */
  isNext(sequence: number): boolean {
    const offset = this.offsetOf(sequence);
    return offset >= this.acknowledged && offset <= this.high + MAX_UNSEEN_BYTES;
  }

  /** Whether a segment repeats what was sighted, or comes right behind it. */
  continues(sequence: number, bytes: number): boolean {
    const start = this.offsetOf(sequence);
    return start === this.high || start + bytes <= this.high;
  }

  /**
   * Takes a segment with payload. Returns false if its sequence number cannot be of this
   * connection.
   */
  segment(
    sequence: number,
    bytes: number,
    timeNs: number,
    device: number,
    drops: CaptureDrops,
  ): boolean {
    const edge = this.edge;
    let start = this.high + ((sequence - this.#sequenceOfHigh) | 0);
    const end = start + bytes;
    if (start > this.high + MAX_WINDOW_BYTES || end < edge - MAX_WINDOW_BYTES) return false;
    if (timeNs > this.lastDataNs) this.lastDataNs = timeNs;
    if (this.#device < 0) this.#device = device;
    // Keep-alive probes repeat the byte before the window, which may be the SYN itself. Below the
    // first offset that is known, nobody can tell a first transmission from another.
    if (start < this.startsAt) start = this.startsAt;
    if (end <= start) return true;
    // What was acknowledged before it was sighted had passed before: this is a repetition.
    if (this.acknowledged > edge) this.bookMissed(Math.min(this.acknowledged, end), drops);
    this.#take(start, end, timeNs, device, drops);
    if (end > this.high) this.#raiseHigh(end);
    this.#dropsAtLast = drops.drained;
    return true;
  }

  #take(start: number, end: number, timeNs: number, device: number, drops: CaptureDrops): void {
    const edge = this.edge;
    if (start <= edge && !this.#hasHoles) {
      if (end <= edge) {
        if (device === this.#device) this.retransmitted += end - start;
      } else {
        if (start < edge && device === this.#device) this.retransmitted += edge - start;
        this.#append(end, timeNs, timeNs, MATCHABLE);
      }
    } else {
      this.#outOfOrder(start, end, timeNs, device, drops);
    }
  }

  /**
   * Takes note of a segment that is not kept, because no socket of the target is known for it:
   * should one be born later, everything up to here is booked by `bookUnborn`.
   */
  pass(sequence: number, bytes: number): void {
    const start = this.offsetOf(sequence);
    const end = start + bytes;
    if (end > this.high && start <= this.high + MAX_WINDOW_BYTES) this.#raiseHigh(end);
  }

  /** Forgets the times of everything sighted so far. */
  forget(): void {
    this.queue.clear();
    this.#ahead.length = 0;
    this.#hasHoles = false;
    this.edge = 0;
  }

  /** Books what was passed or forgotten, before the first merge. */
  bookUnborn(reason: number): void {
    if (this.queue.length === 0 && this.high > 0) this.bookTo(this.high, reason);
  }

  /** The other side acknowledged `sequence`: closes holes that the capture missed. */
  acknowledge(sequence: number, drops: CaptureDrops): void {
    const offset = this.offsetOf(sequence);
    if (offset <= this.acknowledged || offset > this.high + MAX_WINDOW_BYTES) return;
    this.acknowledged = offset;
    if (this.#hasHoles) this.#closeMissed(drops);
  }

  fin(sequence: number): void {
    this.finAt = this.offsetOf(sequence);
  }

  /** Books [edge, end) as transmitted or received without a sighting. */
  bookTo(end: number, reason: number): void {
    const ahead = this.#ahead;
    while (ahead.length > 0 && this.edge < end) {
      const first = ahead[0]!;
      if (first.start > this.edge) this.#append(Math.min(first.start, end), 0, 0, reason);
      if (this.edge < first.start) return;
      this.#catchUp(UNTOLD);
    }
    if (this.edge < end) this.#append(end, 0, 0, reason);
    if (end > this.high) this.#raiseHigh(end);
  }

  /** Books what below `end` was not sighted as missed by the capture, each hole for its reason. */
  bookMissed(end: number, drops: CaptureDrops): void {
    const ahead = this.#ahead;
    while (this.edge < end) {
      const first = ahead.length > 0 ? ahead[0]! : null;
      const dropsBefore = first === null ? this.#dropsAtLast : first.dropsBeforeHole;
      const reason = drops.now > dropsBefore ? Reason.captureDrop : Reason.unseen;
      this.bookTo(first === null ? end : Math.min(first.start, end), reason);
    }
  }

  #outOfOrder(
    from: number,
    end: number,
    timeNs: number,
    device: number,
    drops: CaptureDrops,
  ): void {
    const ahead = this.#ahead;
    // A peer that leaves thousands of holes open is not served by exactness.
    if (ahead.length >= MAX_AHEAD) this.bookTo(ahead[0]!.start, Reason.overflow);
    let start = from;
    if (start < this.edge) {
      const again = Math.min(end, this.edge) - start;
      if (device === this.#device) this.retransmitted += again;
      start += again;
    }
    let i = firstBehind(ahead, start);
    while (start < end) {
      const next = i < ahead.length ? ahead[i]! : null;
      const until = next === null ? end : Math.min(end, next.start);
      if (start < until) {
        // Bytes below a range already sighted fill its hole, bytes beyond the last open one.
        const dropsBeforeHole = next === null ? this.#dropsAtLast : next.dropsBeforeHole;
        const missed = next !== null && drops.now > dropsBeforeHole;
        ahead.splice(i, 0, {
          start,
          end: until,
          timeNs,
          reason: missed ? Reason.captureDrop : MATCHABLE,
          dropsBeforeHole,
        });
        i++;
        start = until;
      }
      if (next !== null && start < end) {
        const again = Math.min(end, next.end) - start;
        if (again > 0) {
          if (device === this.#device) this.retransmitted += again;
          start += again;
        }
        i++;
      }
    }
    this.#catchUp(timeNs);
    if (ahead.length > 0) this.#closeMissed(drops);
  }

  /** Gives up the times of the older half, which no call came to fetch: one booked range is left. */
  #shed(): void {
    const queue = this.queue;
    for (let n = queue.length >> 1; n > 0; n--) queue.shift();
    queue.values[queue.first() + Seen.reason] = Reason.overflow;
  }

  #closeMissed(drops: CaptureDrops): void {
    const ahead = this.#ahead;
    while (ahead.length > 0 && this.acknowledged >= ahead[0]!.start) {
      const first = ahead[0]!;
      const reason = drops.now > first.dropsBeforeHole ? Reason.captureDrop : Reason.unseen;
      this.#append(first.start, 0, 0, reason);
      this.#catchUp(UNTOLD);
    }
  }

  /** @param timeNs When the hole in front was filled; `UNTOLD` if the capture missed that. */
  #catchUp(timeNs: number): void {
    const ahead = this.#ahead;
    let taken = 0;
    while (taken < ahead.length && ahead[taken]!.start <= this.edge) {
      const range = ahead[taken++]!;
      this.#append(range.end, range.timeNs, Math.max(range.timeNs, timeNs), range.reason);
    }
    if (taken > 0) ahead.splice(0, taken);
    this.#hasHoles = ahead.length > 0;
  }

  #raiseHigh(end: number): void {
    this.#sequenceOfHigh = (this.#sequenceOfHigh + (end - this.high)) >>> 0;
    this.high = end;
  }

  #append(end: number, timeNs: number, inorderNs: number, reason: number): void {
    const queue = this.queue;
    this.edge = end;
    if (queue.length >= MAX_RANGES) this.#shed();
    const i = queue.push();
    const values = queue.values;
    values[i + Seen.end] = end;
    values[i + Seen.timeNs] = timeNs;
    values[i + Seen.inorderNs] = inorderNs;
    values[i + Seen.reason] = reason;
  }
}

/** Index of the first range that ends behind `offset`. */
function firstBehind(ahead: readonly Ahead[], offset: number): number {
  let low = 0;
  let high = ahead.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ahead[middle]!.end <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
