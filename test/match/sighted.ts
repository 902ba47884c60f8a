// What the capture showed of one direction of a connection, as its definition says it: one cell an
// atom, every question answered by looking at all of them. Slow and obvious.

import { Reason } from "../../src/output/reasons.ts";
import type { Stream } from "./history-types.ts";

/** No window is larger: what lies farther back is not of this connection. */
const WINDOW = 2 ** 30;
/** Stands where a reason would, if there is a time. */
export const TIMED = -1;

export interface Cell {
  /** When it was first sighted, NaN if never. */
  seenNs: number;
  inorderNs: number;
  /** TIMED, a reason, or null while it is open. */
  reason: number | null;
  /** Which packet showed it first, and the drops that were known before that packet. */
  packet: number;
  dropsBefore: number;
}

/** What the capture showed of one direction, atom by atom. */
export class Sighted {
  readonly cells: Cell[];
  readonly stream: Stream;
  retransmitted = 0;
  acknowledged = 0;
  finAt = -1;
  #device = -1;
  #dropsAtLast: number;
  #packets = 0;

  constructor(stream: Stream, drained: number) {
    this.stream = stream;
    this.#dropsAtLast = drained;
    this.cells = stream.sizes.map(() => (
      { seenNs: NaN, inorderNs: NaN, reason: null, packet: Infinity, dropsBefore: 0 }
    ));
  }

  /** Drops that were known before the last packet in hand. */
  get dropsAtLast(): number {
    return this.#dropsAtLast;
  }

  /** Atoms below are all decided. */
  get edge(): number {
    let edge = 0;
    while (edge < this.cells.length && this.cells[edge]!.reason !== null) edge++;
    return edge;
  }

  /** One past the last atom that was sighted or decided. */
  get high(): number {
    let high = this.cells.length;
    while (high > 0 && this.cells[high - 1]!.reason === null) high--;
    return high;
  }

  /** A packet with payload came from there. */
  device(device: number): void {
    if (this.#device < 0) this.#device = device;
  }

  /** A packet with the atoms [first, last). */
  data(
    first: number,
    last: number,
    timeNs: number,
    device: number,
    now: number,
    drained: number,
  ): void {
    const { sizes, starts } = this.stream;
    const edge = this.edge;
    if (starts[last]! < starts[edge]! - WINDOW) return;
    this.device(device);
    // What was acknowledged has passed before, unseen.
    for (let a = 0; a < last; a++) {
      const acked = starts[a + 1]! <= this.acknowledged;
      if (acked && this.cells[a]!.reason === null) this.miss(a, now);
    }
    this.#packets++;
    for (let a = first; a < last; a++) {
      const cell = this.cells[a]!;
      if (cell.reason !== null) {
        if (device === this.#device) this.retransmitted += sizes[a]!;
        continue;
      }
      const late = this.cells.slice(a + 1).some((beyond) => beyond.packet < this.#packets);
      cell.reason = late && now > this.#dropsBeforeHole(a) ? Reason.captureDrop : TIMED;
      cell.seenNs = timeNs;
      cell.packet = this.#packets;
      cell.dropsBefore = this.#dropsAtLast;
    }
    this.#dropsAtLast = drained;
    // This packet filled the hole in front of everything that is contiguous now.
    const contiguous = this.edge;
    for (let a = 0; a < contiguous; a++) {
      const cell = this.cells[a]!;
      if (Number.isNaN(cell.inorderNs)) cell.inorderNs = Math.max(cell.seenNs, timeNs);
    }
    this.#closeAcknowledged(now);
  }

  acknowledge(offset: number, now: number): void {
    this.acknowledged = Math.max(this.acknowledged, offset);
    this.#closeAcknowledged(now);
  }

  /** Everything below `end` was transmitted, sighted or not. */
  giveUp(end: number, now: number): void {
    for (let a = 0; a < end; a++) if (this.cells[a]!.reason === null) this.miss(a, now);
    this.#settleOrder();
  }

  /** Everything so far was passed over. */
  unborn(): void {
    const high = this.high;
    for (let a = 0; a < high; a++) this.cells[a]!.reason = Reason.unborn;
  }

  miss(a: number, now: number): void {
    this.cells[a]!.reason = now > this.#dropsBeforeHole(a) ? Reason.captureDrop : Reason.unseen;
  }

  /** The drops known before the first packet that showed something beyond atom `a`. */
  #dropsBeforeHole(a: number): number {
    let first: Cell | null = null;
    for (const cell of this.cells.slice(a + 1)) {
      if (cell.packet < (first?.packet ?? Infinity)) first = cell;
    }
    return first === null ? this.#dropsAtLast : first.dropsBefore;
  }

  /** A hole that is acknowledged as a whole, with something sighted behind it, was missed. */
  #closeAcknowledged(now: number): void {
    for (;;) {
      const edge = this.edge;
      let seen = edge;
      while (seen < this.cells.length && this.cells[seen]!.reason === null) seen++;
      if (seen >= this.cells.length || this.acknowledged < this.stream.starts[seen]!) break;
      for (let a = edge; a < seen; a++) this.miss(a, now);
      this.#settleOrder();
    }
  }

  #settleOrder(): void {
    const edge = this.edge;
    for (let a = 0; a < edge; a++) {
      const cell = this.cells[a]!;
      if (Number.isNaN(cell.inorderNs)) cell.inorderNs = cell.seenNs;
    }
  }
}
