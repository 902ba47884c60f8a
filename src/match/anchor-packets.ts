// The last packets of a connection whose anchor is not known yet: they are joined once it is.

import { type PacketBatch, TcpFlag } from "../capture/packets.ts";
import { SeenBytes } from "./anchor-seen.ts";

const FIRST_ROWS = 16;
/** More are not kept of one connection; the oldest go. */
const MOST_ROWS = 8192;

/** Nothing is longer on its way from the capture to its socket. */
export const DELIVERY_NS = 2e6;

/** Memory for the packets of all connections together, in rows of about 40 bytes. */
export class RowBudget {
  left: number;
  constructor(rows = 1 << 20) {
    this.left = rows;
  }
}

/** The largest of the numbers seen, modulo 2^32; none: -1. */
export function later(a: number, b: number): number {
  return a < 0 || ((b - a) | 0) > 0 ? b : a;
}

/** How far the four numbers had come that a connection's packets carry; -1: not seen. */
export class Reach {
  /** Acknowledged to us; sent by us; acknowledged by us; sent to us. A FIN counts as one. */
  ackIn = -1;
  endOut = -1;
  ackOut = -1;
  endIn = -1;
  /** 1: a FIN is the last of what was sent by us, to us. */
  finOut = 0;
  finIn = 0;
  /** Number of the latest packet that arrived here with `ackIn`, with `endIn` in it. */
  ackInAt = -1;
  endInAt = -1;

  copy(from: Reach): void {
    this.ackIn = from.ackIn;
    this.endOut = from.endOut;
    this.ackOut = from.ackOut;
    this.endIn = from.endIn;
    this.finOut = from.finOut;
    this.finIn = from.finIn;
    this.ackInAt = from.ackInAt;
    this.endInAt = from.endInAt;
  }
}

export class AnchorPackets {
  /** Rows that are kept, oldest first from `first()`. */
  count = 0;
  /** Packets that came. */
  total = 0;
  /** Time of the latest, ns. */
  lastNs = -Infinity;
  /** Of the packets that were dropped for want of room, and of the first `folded` rows. */
  readonly before = new Reach();
  folded = 0;
  /** Time of the latest of these, ns. */
  foldedNs = -Infinity;
  /** Of these, number and time of the latest that arrived here. */
  foldedIn = -1;
  foldedInNs = -Infinity;
  /** End of the farthest payload byte among those; -1: none. */
  droppedOutEnd = -1;
  droppedInEnd = -1;

  /**
   * What this end acknowledged when all that had passed before the first packet here had reached it; -1:
   * not known yet.
   */
  firstAckOut = -1;
  #firstNs = Infinity;

  /** The payload that has been seen, kept or not; a FIN counts as one. */
  readonly seenOut = new SeenBytes();
  readonly seenIn = new SeenBytes();

  readonly #budget: RowBudget;
  #capacity = 0;
  #head = 0;
  #timeNs = new Float64Array(0);
  /** A row: sequence, acknowledgment, payload bytes, flags, device, 1 if it was sent by us. */
  #words = new Uint32Array(0);
  static readonly #stride = 6;

  constructor(budget: RowBudget) {
    this.#budget = budget;
  }

  /** Takes row i of a batch, as the end that sent it (`out`) or got it sees it. */
  add(batch: PacketBatch, i: number, out: boolean): void {
    if (this.count === this.#capacity && !this.#grow()) this.#drop();
    const at = (this.#head + this.count++) & (this.#capacity - 1);
    const timeNs = batch.timeNs[i]!;
    this.total++;
    if (timeNs > this.lastNs) this.lastNs = timeNs;
    if (timeNs < this.#firstNs) this.#firstNs = timeNs;
    this.#timeNs[at] = timeNs;
    const words = this.#words;
    const w = at * AnchorPackets.#stride;
    const flags = batch.flags[i]!;
    words[w] = batch.sequence[i]!;
    words[w + 1] = batch.acknowledgment[i]!;
    words[w + 2] = batch.payloadBytes[i]!;
    words[w + 3] = flags;
    words[w + 4] = batch.interfaceIndex[i]!;
    words[w + 5] = out ? 1 : 0;
    const isPlain = (flags & (TcpFlag.ACK | TcpFlag.RST | TcpFlag.SYN)) === TcpFlag.ACK;
    if (out && this.firstAckOut < 0 && isPlain && timeNs > this.#firstNs + DELIVERY_NS) {
      this.firstAckOut = batch.acknowledgment[i]!;
    }
    const numbers = batch.payloadBytes[i]! + ((flags & TcpFlag.FIN) !== 0 ? 1 : 0);
    if (numbers === 0 || (flags & (TcpFlag.RST | TcpFlag.SYN)) !== 0) return;
    (out ? this.seenOut : this.seenIn).add(batch.sequence[i]!, numbers);
  }

  timeNs(row: number): number {
    return this.#timeNs[this.#at(row)]!;
  }

  isOut(row: number): boolean {
    return this.#words[this.#at(row) * AnchorPackets.#stride + 5] === 1;
  }

  /** Adds what a row's numbers say to `reach`. */
  reach(row: number, reach: Reach): void {
    const w = this.#at(row) * AnchorPackets.#stride;
    const words = this.#words;
    const flags = words[w + 3]!;
    // The numbers of a reset are whatever its sender made of the segment that it answers.
    if ((flags & (TcpFlag.RST | TcpFlag.SYN)) !== 0) return;
    const fin = (flags & TcpFlag.FIN) !== 0 ? 1 : 0;
    const end = (words[w]! + words[w + 2]! + fin) >>> 0;
    const acknowledges = (flags & TcpFlag.ACK) !== 0;
    if (words[w + 5] === 1) {
      reach.finOut |= fin;
      reach.endOut = later(reach.endOut, end);
      if (acknowledges) reach.ackOut = later(reach.ackOut, words[w + 1]!);
    } else {
      reach.finIn |= fin;
      const number = this.total - this.count + row;
      reach.endIn = later(reach.endIn, end);
      if (reach.endIn === end) reach.endInAt = number;
      if (!acknowledges) return;
      reach.ackIn = later(reach.ackIn, words[w + 1]!);
      if (reach.ackIn === words[w + 1]) reach.ackInAt = number;
    }
  }

  /** Takes rows into `before` that came until then: later moments need not look at them again. */
  fold(untilNs: number): void {
    while (this.folded < this.count && this.timeNs(this.folded) <= untilNs) this.#fold();
  }

  /** Sequence number of the first payload byte that is kept of a direction; -1: none is. */
  firstPayload(out: boolean): number {
    let first = -1;
    for (let row = 0; row < this.count; row++) {
      const w = this.#at(row) * AnchorPackets.#stride;
      if ((this.#words[w + 5] === 1) !== out || this.#words[w + 2] === 0) continue;
      const sequence = this.#words[w]!;
      if (first < 0 || ((sequence - first) | 0) < 0) first = sequence;
    }
    return first;
  }

  /** Writes a row into row 0 of a batch; returns whether it was sent by us. */
  show(row: number, batch: PacketBatch): boolean {
    const at = this.#at(row);
    const w = at * AnchorPackets.#stride;
    const words = this.#words;
    batch.timeNs[0] = this.#timeNs[at]!;
    batch.sequence[0] = words[w]!;
    batch.acknowledgment[0] = words[w + 1]!;
    batch.payloadBytes[0] = words[w + 2]!;
    batch.flags[0] = words[w + 3]!;
    batch.interfaceIndex[0] = words[w + 4]!;
    batch.count = 1;
    return words[w + 5] === 1;
  }

  /** Gives the memory back. */
  release(): void {
    this.#budget.left += this.#capacity;
    this.#capacity = 0;
    this.count = 0;
    this.folded = 0;
    this.#timeNs = new Float64Array(0);
    this.#words = new Uint32Array(0);
  }

  #at(row: number): number {
    return (this.#head + row) & (this.#capacity - 1);
  }

  #fold(): void {
    const row = this.folded++;
    this.reach(row, this.before);
    const timeNs = this.timeNs(row);
    if (timeNs > this.foldedNs) this.foldedNs = timeNs;
    if (this.isOut(row)) return;
    this.foldedIn = this.total - this.count + row;
    if (timeNs > this.foldedInNs) this.foldedInNs = timeNs;
  }

  #drop(): void {
    if (this.folded === 0) this.#fold();
    this.folded--;
    const w = this.#at(0) * AnchorPackets.#stride;
    const bytes = this.#words[w + 2]!;
    if (bytes > 0) {
      const end = (this.#words[w]! + bytes) >>> 0;
      if (this.#words[w + 5] === 1) this.droppedOutEnd = later(this.droppedOutEnd, end);
      else this.droppedInEnd = later(this.droppedInEnd, end);
    }
    this.#head = (this.#head + 1) & (this.#capacity - 1);
    this.count--;
  }

  /** Every connection gets the first rows; more come out of the budget. */
  #grow(): boolean {
    const old = this.#capacity;
    const capacity = old === 0 ? FIRST_ROWS : old * 2;
    if (capacity > MOST_ROWS || (old > 0 && this.#budget.left < capacity - old)) return false;
    this.#budget.left -= capacity - old;
    const times = new Float64Array(capacity);
    const words = new Uint32Array(capacity * AnchorPackets.#stride);
    for (let row = 0; row < this.count; row++) {
      const at = this.#at(row);
      times[row] = this.#timeNs[at]!;
      const w = at * AnchorPackets.#stride;
      words.set(this.#words.subarray(w, w + AnchorPackets.#stride), row * AnchorPackets.#stride);
    }
    this.#timeNs = times;
    this.#words = words;
    this.#head = 0;
    this.#capacity = capacity;
    return true;
  }
}
