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

/** Of as many steps there is a sentence each. */
const STEPS_TOLD = 5;
/** A stamp is asked for its steady time within this, … */
const STEP_KEPT_NS = 600e9;
/** … and nobody sets a clock so often meanwhile. */
const STEPS_KEPT = 64;

/** Steps of a stretch of time: how many, and the first of them. */
export class StepsTold {
  count = 0;
  readonly first: ClockStep[] = [];

  add(step: ClockStep): void {
    this.count++;
    if (this.first.length < STEPS_TOLD) this.first.push(step);
  }
}

export class ClockSteps {
  /** Since the start. */
  readonly told = new StepsTold();
  #toldInInterval = new StepsTold();
  /** The last ones, in their order. */
  readonly #steps: ClockStep[] = [];
  /** How far the clock was ahead of steady time after each of those, and before the first. */
  readonly #aheadNs: number[] = [];
  #aheadBeforeNs = 0;
  /** Of the last packet, or the last step. */
  #latestNs = 0;

  get isSteady(): boolean {
    return this.told.count === 0;
  }

  add(step: ClockStep): void {
    this.told.add(step);
    this.#toldInInterval.add(step);
    const steps = this.#steps;
    const aheadNs = this.#aheadNs;
    steps.push(step);
    aheadNs.push((aheadNs.at(-1) ?? this.#aheadBeforeNs) + step.byNs);
    while (steps.length > STEPS_KEPT || steps[0]!.toNs < step.toNs - STEP_KEPT_NS) {
      // From now on a stamp from before it is taken for one from behind it.
      steps.shift();
      this.#aheadBeforeNs = aheadNs.shift()!;
    }
    this.#latestNs = step.toNs;
  }

  /** The steps since this was asked last. */
  takeInterval(): StepsTold {
    const told = this.#toldInInterval;
    this.#toldInInterval = new StepsTold();
    return told;
  }

  /** The steady time that a stamp of the clock means. */
  steady(stampNs: number): number {
    if (this.isSteady) return stampNs;
    const steps = this.#steps;
    const latestNs = this.#latestNs;
    let found = NaN;
    for (let n = steps.length; n >= 0; n--) {
      const ns = stampNs - (n === 0 ? this.#aheadBeforeNs : this.#aheadNs[n - 1]!);
      const isAfter = n === 0 || ns >= steps[n - 1]!.fromNs;
      const isBefore = n === steps.length || ns <= steps[n]!.toNs;
      if (isAfter && isBefore) {
        const isNearer = Math.abs(ns - latestNs) < Math.abs(found - latestNs);
        if (isNearer || Number.isNaN(found)) found = ns;
      }
      // What is before that step is further away: as a rule, there is no more to look at.
      if (n > 0 && Math.abs(found - latestNs) <= latestNs - steps[n - 1]!.toNs) break;
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
