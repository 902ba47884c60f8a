// Up to when the capture has handed over what it saw. The kernel hands packets over in blocks, a block
// that is not full by a timer. On a machine without a processor to spare that may come late, by far more
// than it was set to (measured: 53 ms instead of 20, at a load of 30 on 4 processors); what is in the
// block looks like what was never sent. But the kernel counts a packet at once.

import type { PacketBatch } from "../capture/packets.ts";
import type { ClockSteps } from "../match/clock-steps.ts";

/**
 * The kernel hands over a block that is not full after this long: so long as the collector cannot
 * read, each costs a block of the buffer (measured: with 4 ms, 64 MiB last 1 to 2 s at 20 Mbit/s; with
 * 20 ms more than 4 s).
 */
export const CAPTURE_TIMEOUT_MS = 20;
/** A packet captured this long ago has been handed over as a rule, if the capture is empty now. */
const LAG_NS = 80e6;
/** Not waited for longer: libpcap keeps some that the kernel counts to itself (outgoing ones of lo). */
const LATE_MOST_NS = 1e9;

export class Delivery {
  #counted = 0;
  #countedAtNs = 0;
  /** Between the last two looks that found different counts: the earlier one. */
  #moreSinceNs = -Infinity;
  /** Of the last packet that was handed over. */
  #lastNs = -Infinity;

  /** Before a read: how many packets the kernel has counted by `nowNs`. */
  look(counted: number, nowNs: number): void {
    if (counted !== this.#counted) this.#moreSinceNs = this.#countedAtNs;
    this.#counted = counted;
    this.#countedAtNs = nowNs;
  }

  /** What the read brought, after that look. */
  gave({ count, timeNs }: PacketBatch, examined: number, clock: ClockSteps): void {
    // Of packets that are no TCP the time is not kept.
    const lastNs = count > 0 ? clock.steady(timeNs[count - 1]!) : examined > 0 ? Infinity : -Infinity;
    // A clock that was set, which is not known yet, says nothing about later packets.
    this.#lastNs = Math.max(this.#lastNs, Math.min(lastNs, this.#countedAtNs));
  }

  /** After a read at `nowNs` that left nothing: what was captured by then is all there. */
  untilNs(nowNs: number): number {
    const usualNs = nowNs - LAG_NS;
    if (this.#moreSinceNs <= this.#lastNs) return usualNs;
    return Math.min(usualNs, Math.max(this.#lastNs, nowNs - LATE_MOST_NS));
  }
}
