// The little statistics that the benchmarks need. A machine that does other things as well makes
// means useless: everything is a median, or of latencies a geometric mean, with the interval that holds
// it with 95 % certainty.

export interface Spread {
  /** A median, or a geometric mean. */
  readonly value: number;
  /** Its 95 % confidence interval, by bootstrap over the turns. */
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

const RESAMPLES = 2000;

/** Quantile with linear interpolation (type 7 of Hyndman and Fan, 1996); NaN of nothing. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (at - below);
}

/**
 * The interval is the percentile bootstrap's (Efron and Tibshirani, 1993, ch. 13): of pairs, give it
 * their ratios or differences. The same values give the same interval.
 */
export function spread(values: readonly number[], figure = median): Spread {
  const count = values.length;
  const value = figure(values);
  if (count < 2) return { value, low: value, high: value, count };
  const random = seeded(count);
  const drawn = Array.from({ length: RESAMPLES }, () =>
    figure(Array.from(values, () => values[Math.floor(random() * count)]!)),
  ).sort((a, b) => a - b);
  return { value, low: quantile(drawn, 0.025), high: quantile(drawn, 0.975), count };
}

export function median(values: readonly number[]): number {
  return quantile([...values].sort((a, b) => a - b), 0.5);
}

/**
 * For latencies, whose quantiles vary by factors: one bad second among many neither decides, as in a
 * quantile of all together, nor is forgotten, as by a median.
 */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Random numbers in [0, 1) that a seed decides (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The words in a random order: who goes first decides nothing. */
export function shuffled<T>(words: readonly T[], random: () => number): T[] {
  const order = [...words];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
