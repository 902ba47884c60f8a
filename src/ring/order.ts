// Reads several rings as one: in the order of their records' times, and never past a slot that a
// thread has claimed and not filled yet.

import { RealtimeClock } from "../ffi/libc.ts";
import { type Ring, SLOT_WORDS } from "./ring.ts";

/** A slot that is claimed and stays uncommitted this long is not waited for, ms. */
export const STALL_MS = 100;
/**
 * All slots together are waited for this long, ms: whoever fills one after the other, slowly, would
 * keep packets, log and everybody else waiting without end. Then, in the time in which all goes on,
 * patience comes back at this rate.
 */
const PATIENCE_MS = 200;
const PATIENCE_BACK = 1 / 4;
/** A record's time this far after the present is not one of a moment ago. */
const CLOCK_AHEAD_NS = 1e9;

export class RingOrder {
  /** Whether the last `drain` read all that it should. */
  complete = true;
  readonly #take: (ring: Ring, slot: Uint32Array) => void;
  readonly #counted: () => void;
  readonly #slot = new Uint32Array(new ArrayBuffer(SLOT_WORDS * 4));
  /** Where the tail of a ring stands at a slot that is not committed, and since when. */
  readonly #gaps = new Map<Ring, { tail: number; sinceMs: number }>();
  #patienceMs = PATIENCE_MS;
  /** When the last drain began, and whether it ended at a slot that is worth waiting for. */
  #drainedMs = -Infinity;
  #waits = false;
  readonly #clock = new RealtimeClock();
  readonly #time = new Uint32Array(new ArrayBuffer(8));
  /** Of each ring, in a drain: records left to be read, and the time of the next one. */
  readonly #lefts: number[] = [];
  readonly #times: number[] = [];

  /**
   * @param take is given each record; the slot is overwritten by the next one
   * @param counted is told, before a drain reads the first record, that all it reads were stamped
   */
  constructor(take: (ring: Ring, slot: Uint32Array) => void, counted: () => void) {
    this.#take = take;
    this.#counted = counted;
  }

  /** A ring is read no more. */
  forget(ring: Ring): void {
    this.#gaps.delete(ring);
  }

  /**
   * Reads every record that was committed before it was called, of all rings together in the order
   * of their times: what one process did to a socket before another used it is read before that. No
   * more than each ring holds. `accept` may add rings, and tells whether these are all that are
   * worth waiting for. Returns how many records there were; `complete` tells whether that was all.
   */
  drain(rings: readonly Ring[], accept: () => boolean): number {
    const now = this.#clock.now();
    const lefts = this.#lefts;
    this.#measurePatience();
    // In this order: who wrote what one of these heads counts has announced its ring before.
    for (let i = 0; i < rings.length; i++) lefts[i] = Math.min(rings[i]!.backlog(), rings[i]!.slotCount);
    const before = rings.length;
    // Of what the others have written nothing is known yet.
    this.complete = accept();
    for (let i = before; i < rings.length; i++) {
      lefts[i] = Math.min(rings[i]!.backlog(), rings[i]!.slotCount);
    }
    this.#counted();
    if (rings.length === 1) {
      const n = this.read(rings[0]!, lefts[0]!);
      if (n < lefts[0]!) this.#incomplete(rings[0]!);
      return n;
    }
    return this.#merge(rings, now);
  }

  /** Reads a ring on its own, up to a slot that is not committed; returns the number of records. */
  read(ring: Ring, most: number): number {
    const slot = this.#slot;
    let n = 0;
    while (n < most && ring.next(slot)) {
      n++;
      this.#take(ring, slot);
    }
    if (n > 0) ring.publish();
    return n;
  }

  /** Reads `#lefts` records of each ring, the earliest first, none that is later than `nowNs`. */
  #merge(rings: readonly Ring[], nowNs: number): number {
    const lefts = this.#lefts;
    const times = this.#times;
    for (let i = 0; i < rings.length; i++) times[i] = this.#timeOfNext(rings, i, nowNs);
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
        nextNs = this.#timeOfNext(rings, first, nowNs);
      } while (nextNs <= secondNs && nextNs !== -Infinity && nextNs !== Infinity);
      times[first] = nextNs;
    }
    for (let i = 0; i < rings.length; i++) rings[i]!.publish();
    return total;
  }

  /** Of ring `i`: Infinity if nothing is left to be read, -Infinity if it is not committed. */
  #timeOfNext(rings: readonly Ring[], i: number, nowNs: number): number {
    if (this.#lefts[i]! <= 0) return Infinity;
    const time = this.#time;
    if (!rings[i]!.peek(time)) return -Infinity;
    const ns = this.#clock.relativeNs(time[0]!, time[1]!);
    // Far ahead, it is of a clock that was set since, back or forward: it waits for nothing.
    return ns > nowNs && ns <= nowNs + CLOCK_AHEAD_NS ? Infinity : Math.max(ns, 0);
  }

  /** Time is spent by a drain that ended at a slot, and given back by one that did not. */
  #measurePatience(): void {
    const nowMs = performance.now();
    const passedMs = nowMs - this.#drainedMs;
    this.#drainedMs = nowMs;
    this.#patienceMs += this.#waits ? -passedMs : passedMs * PATIENCE_BACK;
    // A drain may take longer than what was left, but one that stood still owes no more than that.
    this.#patienceMs = Math.min(Math.max(this.#patienceMs, -PATIENCE_MS), PATIENCE_MS);
    this.#waits = false;
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
    if (this.#patienceMs <= 0) return false;
    this.#waits = true;
    this.complete = false;
    return true;
  }
}
