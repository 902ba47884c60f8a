// Quantiles of latencies over all turns together. The 99th percentile of one short turn hangs on the
// few bad moments that it met, and the median of such ratios is wide; here the turns' latencies are
// put together first, and the quantile is taken of all of them. The interval is by bootstrap over the
// turns: latencies within one are anything but independent. docs/performance.md has the comparison.

import { RESAMPLES, quantile, seeded, type Spread } from "./stats.ts";

/** Those of one turn: values in µs, ascending, and how often each came. */
export interface Latencies {
  readonly us: readonly number[];
  readonly counts: readonly number[];
}

const MICRO_PER_MILLI = 1000;

/** The latencies of many turns in one order, each turn with a weight when a quantile is taken. */
class Pool {
  readonly #us: Float64Array;
  readonly #counts: Float64Array;
  readonly #turnOf: Uint32Array;
  readonly #totals: readonly number[];

  constructor(turns: readonly Latencies[]) {
    const all = turns
      .flatMap(({ us, counts }, turn) => us.map((value, i) => ({ value, count: counts[i]!, turn })))
      .sort((a, b) => a.value - b.value);
    this.#us = Float64Array.from(all, ({ value }) => value);
    this.#counts = Float64Array.from(all, ({ count }) => count);
    this.#turnOf = Uint32Array.from(all, ({ turn }) => turn);
    this.#totals = turns.map(({ counts }) => counts.reduce((sum, count) => sum + count, 0));
  }

  /** Milliseconds, where turn t counts `weights[t]` times. */
  quantile(q: number, weights: ArrayLike<number>): number {
    const rank = q * this.#totals.reduce((sum, total, turn) => sum + total * weights[turn]!, 0);
    let before = 0;
    for (let i = 0; i < this.#us.length; i++) {
      const count = this.#counts[i]! * weights[this.#turnOf[i]!]!;
      // A value stands for the microsecond around it.
      if (count > 0 && before + count >= rank) {
        return (this.#us[i]! - 0.5 + (rank - before) / count) / MICRO_PER_MILLI;
      }
      before += count;
    }
    return Number.NaN;
  }
}

/** Milliseconds. */
export function pooledQuantile(q: number, turns: readonly Latencies[]): Spread {
  const pool = new Pool(turns);
  return bootstrap(turns.length, (weights) => pool.quantile(q, weights));
}

/** Of the first's quantile to the second's; their turns with the same number were neighbours. */
export function pooledRatio(
  q: number, of: readonly Latencies[], to: readonly Latencies[],
): Spread {
  const [above, below] = [new Pool(of), new Pool(to)];
  return bootstrap(of.length, (weights) => above.quantile(q, weights) / below.quantile(q, weights));
}

function bootstrap(turns: number, figure: (weights: ArrayLike<number>) => number): Spread {
  const value = figure(new Float64Array(turns).fill(1));
  if (turns < 2) return { value, low: value, high: value, count: turns };
  const random = seeded(turns);
  const weights = new Float64Array(turns);
  const drawn = Array.from({ length: RESAMPLES }, () => {
    weights.fill(0);
    for (let i = 0; i < turns; i++) weights[Math.floor(random() * turns)]! += 1;
    return figure(weights);
  }).sort((a, b) => a - b);
  return { value, low: quantile(drawn, 0.025), high: quantile(drawn, 0.975), count: turns };
}
