// A clock that is set while the measurement runs. Calls and packets carry the time of the machine's
// clock; the join counts on as if nobody had set it ("steady" time), so that durations stay true, also
// of what began before and ended after, and nothing waits for a moment that has passed already.
//
// Set back, the clock shows some times twice: of the two moments that a stamp can mean the one is
// taken that is nearer to the last packet.

/** The clock was set, between two looks at it. */
export interface ClockStep {
  /** Steady time of the look before, and of the one that found it. */
  readonly fromNs: number;
  readonly toNs: number;
  /** By how much: above zero is forward. */
  readonly byNs: number;
}

export class ClockSteps {
  readonly steps: ClockStep[] = [];
  /** How far the clock was ahead of steady time after each step. */
  readonly #aheadNs: number[] = [];
  /** Of the last packet, or the last step. */
  #latestNs = 0;

  get isSteady(): boolean {
    return this.steps.length === 0;
  }

  add(step: ClockStep): void {
    this.steps.push(step);
    this.#aheadNs.push((this.#aheadNs.at(-1) ?? 0) + step.byNs);
    this.#latestNs = step.toNs;
  }

  /** The steady time that a stamp of the clock means. */
  steady(stampNs: number): number {
    const { steps } = this;
    if (steps.length === 0) return stampNs;
    let found = NaN;
    for (let n = steps.length; n >= 0; n--) {
      const ns = stampNs - (n === 0 ? 0 : this.#aheadNs[n - 1]!);
      const isAfter = n === 0 || ns >= steps[n - 1]!.fromNs;
      const isBefore = n === steps.length || ns <= steps[n]!.toNs;
      if (!isAfter || !isBefore) continue;
      const isNearer = Math.abs(ns - this.#latestNs) < Math.abs(found - this.#latestNs);
      if (isNearer || Number.isNaN(found)) found = ns;
    }
    // A time that the clock never showed.
    return Number.isNaN(found) ? stampNs - this.#aheadNs.at(-1)! : found;
  }

  /** The steady times of the first `count` packets, in place of their stamps. */
  steadyAll(stampsNs: Float64Array, count: number): void {
    if (this.isSteady) return;
    for (let i = 0; i < count; i++) {
      const ns = this.steady(stampsNs[i]!);
      stampsNs[i] = ns;
      if (ns > this.#latestNs) this.#latestNs = ns;
    }
  }
}
