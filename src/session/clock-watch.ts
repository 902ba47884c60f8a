// Looks whether somebody has set the machine's clock. CLOCK_REALTIME and CLOCK_BOOTTIME run at the same
// pace, slewed alike, and through suspension too (clock_gettime(2)): their distance changes where the
// clock is set, and by as much.

import { boottimeNs, realtimeNs } from "../ffi/clocks.ts";
import type { ClockStep } from "../match/clock-steps.ts";

/** Less is not worth a word: daemons that keep the time slew such differences away. */
const STEP_NS = 1e6;
/** Looks for a pair of readings that nothing came in between of. */
const TRIES = 4;
const CLOSE_NS = 2000;

export interface Clocks {
  /** Nanoseconds since the base. */
  realtimeNs(): number;
  boottimeNs(): number;
}

export class ClockWatch {
  readonly #clocks: Clocks;
  /** Realtime less boottime, at first and now. */
  readonly #firstNs: number;
  #distanceNs: number;
  #lookedNs: number;

  constructor(baseSec: number, clocks: Clocks = { realtimeNs: () => realtimeNs(baseSec), boottimeNs }) {
    this.#clocks = clocks;
    this.#firstNs = this.#distance().ns;
    this.#distanceNs = this.#firstNs;
    this.#lookedNs = this.nowNs();
  }

  /** By the clock as it was at the start, whatever was done to it since. */
  nowNs(): number {
    return this.#clocks.boottimeNs() + this.#firstNs;
  }

  /** How the clock was set since the last look; null if it was not. */
  look(): ClockStep | null {
    const { ns, errorNs } = this.#distance();
    const fromNs = this.#lookedNs;
    const toNs = this.nowNs();
    this.#lookedNs = toNs;
    const byNs = ns - this.#distanceNs;
    if (Math.abs(byNs) < STEP_NS + errorNs) return null;
    this.#distanceNs = ns;
    return { fromNs, toNs, byNs };
  }

  #distance(): { ns: number; errorNs: number } {
    const { realtimeNs, boottimeNs } = this.#clocks;
    let ns = 0;
    let errorNs = Infinity;
    for (let n = 0; n < TRIES && errorNs > CLOSE_NS; n++) {
      const before = boottimeNs();
      const real = realtimeNs();
      const after = boottimeNs();
      if (after - before >= errorNs) continue;
      errorNs = after - before;
      ns = real - (before + after) / 2;
    }
    return { ns, errorNs };
  }
}
