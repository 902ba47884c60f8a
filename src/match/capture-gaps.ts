// When the capture lost packets: a connection that the wire shows nothing of, or not from its
// beginning, was lost there, or the capture was never to see it.

import type { CaptureDrops } from "./sightings.ts";

/** What a tick knows to be dropped, may have been so up to this much after the time that it has come to. */
const LATE_NS = 200e6;
/** Gaps that are kept apart; of more, the first are taken for one. */
const MOST = 256;

export class CaptureGaps {
  readonly #drops: CaptureDrops;
  readonly #fromNs: number[] = [];
  readonly #toNs: number[] = [];
  /** Drops that are in the gaps. */
  #counted = 0;
  /** Nothing but these was dropped by then. */
  #calmNs = -Infinity;

  constructor(drops: CaptureDrops) {
    this.#drops = drops;
  }

  /** Everything that was captured before has been joined. */
  tick(capturedNs: number): void {
    const { now, drained } = this.#drops;
    if (drained > this.#counted) {
      this.#add(this.#calmNs, capturedNs + LATE_NS);
      this.#counted = drained;
    }
    if (now === this.#counted) this.#calmNs = capturedNs;
  }

  /** Whether packets may have been lost between these times. */
  overlap(fromNs: number, toNs: number): boolean {
    if (this.#drops.now > this.#counted && toNs >= this.#calmNs) return true;
    for (let i = this.#fromNs.length - 1; i >= 0; i--) {
      if (this.#toNs[i]! < fromNs) return false;
      if (this.#fromNs[i]! <= toNs) return true;
    }
    return false;
  }

  #add(fromNs: number, toNs: number): void {
    const last = this.#toNs.length - 1;
    if (last >= 0 && fromNs <= this.#toNs[last]!) {
      this.#toNs[last] = toNs;
      return;
    }
    this.#fromNs.push(fromNs);
    this.#toNs.push(toNs);
    if (this.#toNs.length <= MOST) return;
    this.#fromNs.splice(1, 1);
    this.#toNs.shift();
  }
}
