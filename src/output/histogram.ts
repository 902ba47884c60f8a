// Distribution of times, weighted by call or by byte: exact enough to report p99.9 without keeping
// the values. Log-linear buckets as in HdrHistogram: every octave is cut into 64 equal parts, so
// that a bucket's middle is within 1/128 (0.78 %) of every value in it; whole values below 128 are
// exact. Memory is there for the octaves between the least and the greatest value seen: 512 bytes
// each.
//
// Bucket b holds the whole values
//     b                                                 where b < 64
//     (64 + b % 64) * 2^k … + 2^k - 1, k = floor(b / 64) - 1     else.

/** Parts of an octave. */
const PARTS = 64;
/** Octaves that values below 2^53 can reach: the linear one, and 2^6 … 2^52. */
const OCTAVES = 48;
/** One past the greatest value. */
const LIMIT = 2 ** 53;
/** Scales values of 2^31 and more down to an i32, by whole octaves, so that their parts stay. */
const SCALE_BITS = 25;
const SCALE = 2 ** -SCALE_BITS;

const NO_CELLS = new Float64Array(0);

/** Number of buckets: valid bucket numbers are below it. */
export const BUCKETS = PARTS * OCTAVES;

/** Least value of a bucket. */
export function bucketLow(bucket: number): number {
  if (bucket < PARTS) return bucket;
  return (PARTS + (bucket % PARTS)) * 2 ** (Math.floor(bucket / PARTS) - 1);
}

/** How many whole values a bucket holds. */
export function bucketWidth(bucket: number): number {
  return bucket < PARTS ? 1 : 2 ** (Math.floor(bucket / PARTS) - 1);
}

/** Sums beyond 2^53 are rounded. */
const ROUNDING = 1e-6;

function isIn(value: number, bucket: number): boolean {
  const low = bucketLow(bucket);
  return value >= low && value < low + bucketWidth(bucket);
}

export class Histogram {
  /**
   * Weight whose value was negative, too great or not a number, and is in nothing else. It is 0
   * if the caller keeps its promise; `DirectionStats.balances` looks at it.
   */
  refused = 0;
  // With `refused` these are one line of the processor's cache: `record` touches it, and the cell.
  #sum = 0;
  #least = Infinity;
  #greatest = -Infinity;
  #cells: Float64Array = NO_CELLS;
  /** The bucket that the first cell counts. */
  #base = 0;

  /**
   * Adds `weight` (a positive whole number) at `valueNs`, whole, in [0, 2^53). A fraction falls
   * into the bucket of the whole number below it.
   */
  record(valueNs: number, weight: number): void {
    if (!(valueNs >= 0 && valueNs < LIMIT)) {
      this.refused += weight;
      return;
    }
    let bucket: number;
    if (valueNs < 2147483648) {
      const value = valueNs | 0;
      const shift = 25 - Math.clz32(value | PARTS);
      bucket = (shift << 6) + (value >>> shift);
    } else {
      const value = (valueNs * SCALE) | 0; // 64 … 2^28 - 1
      const shift = 25 - Math.clz32(value);
      bucket = ((shift + SCALE_BITS) << 6) + (value >>> shift);
    }
    let cells = this.#cells;
    let cell = bucket - this.#base;
    if (cell < 0 || cell >= cells.length) {
      cells = this.#grow(bucket);
      cell = bucket - this.#base;
    }
    cells[cell]! += weight;
    this.#sum += valueNs * weight;
    if (valueNs < this.#least) this.#least = valueNs;
    if (valueNs > this.#greatest) this.#greatest = valueNs;
  }

  /** Sum of the weights: calls or bytes. */
  get count(): number {
    const cells = this.#cells;
    let count = 0;
    for (let cell = 0; cell < cells.length; cell++) count += cells[cell]!;
    return count;
  }

  /** Sum of value × weight; exact below 2^53, else rounded to double precision. */
  get sum(): number {
    return this.#sum;
  }

  /** Least value, exact; null when empty. */
  get min(): number | null {
    return this.#isEmpty ? null : this.#least;
  }

  /** Greatest value, exact; null when empty. */
  get max(): number | null {
    return this.#isEmpty ? null : this.#greatest;
  }

  get #isEmpty(): boolean {
    return this.#greatest < 0;
  }

  /** Weighted mean, as exact as `sum`, which must not take it beyond the extremes; null when empty. */
  get mean(): number | null {
    if (this.#isEmpty) return null;
    return Math.min(Math.max(this.#sum / this.count, this.#least), this.#greatest);
  }

  /**
   * The least value that at least the share `q` (0 … 1) of the weight does not exceed, within
   * 0.78 %; 0 gives the minimum and 1 the maximum, both exact. Null when empty.
   */
  quantile(q: number): number | null {
    if (this.#isEmpty) return null;
    const cells = this.#cells;
    const least = this.#least;
    const greatest = this.#greatest;
    if (q <= 0) return least;
    const rank = q * this.count;
    let passed = 0;
    for (let cell = 0; q < 1 && cell < cells.length; cell++) {
      passed += cells[cell]!;
      if (passed < rank || passed === 0) continue;
      const bucket = this.#base + cell;
      const middle = bucketLow(bucket) + Math.floor(bucketWidth(bucket) / 2);
      return Math.min(Math.max(middle, least), greatest);
    }
    return greatest;
  }

  /** Adds all of `other`, as if its values had been recorded here. */
  merge(other: Histogram): void {
    const theirs = other.#cells;
    this.refused += other.refused;
    if (other.#isEmpty) return;
    const last = other.#base + theirs.length - 1;
    if (other.#base < this.#base || this.#cells.length === 0) this.#grow(other.#base);
    if (last - this.#base >= this.#cells.length) this.#grow(last);
    const cells = this.#cells;
    const offset = other.#base - this.#base;
    for (let cell = 0; cell < theirs.length; cell++) cells[cell + offset]! += theirs[cell]!;
    this.#sum += other.#sum;
    this.#least = Math.min(this.#least, other.#least);
    this.#greatest = Math.max(this.#greatest, other.#greatest);
  }

  /** Empties it and keeps its memory. */
  reset(): void {
    this.#cells.fill(0);
    this.#sum = 0;
    this.#least = Infinity;
    this.#greatest = -Infinity;
    this.refused = 0;
  }

  /** Calls `visit` for each bucket that has weight, in rising order. Not for hot paths. */
  forEachBucket(visit: (bucket: number, weight: number) => void): void {
    for (let cell = 0; cell < this.#cells.length; cell++) {
      const weight = this.#cells[cell]!;
      if (weight !== 0) visit(this.#base + cell, weight);
    }
  }

  /**
   * The inverse of `forEachBucket`, for a histogram read back from a log.
   * @throws RangeError if no values have such buckets, extremes and sum
   */
  static restore(
    buckets: Iterable<readonly [bucket: number, weight: number]>,
    least: number,
    greatest: number,
    sum: number,
  ): Histogram {
    const histogram = new Histogram();
    let first = BUCKETS;
    let last = 0;
    for (const [bucket, weight] of buckets) {
      first = Math.min(first, bucket);
      last = Math.max(last, bucket);
      if (!(Number.isInteger(bucket) && bucket >= 0 && bucket < BUCKETS && weight > 0)) {
        throw new RangeError(`no such histogram bucket: ${bucket} of weight ${weight}`);
      }
      histogram.record(bucketLow(bucket), weight);
    }
    if (histogram.count > 0) {
      const { count } = histogram;
      const mean = sum / count;
      const fits = Number.isSafeInteger(count) && least <= greatest && isIn(least, first) &&
        isIn(greatest, last) && mean >= least * (1 - ROUNDING) && mean <= greatest * (1 + ROUNDING);
      if (!fits) throw new RangeError(`no values are like that: ${least} … ${greatest}, mean ${mean}`);
      histogram.#sum = sum;
      histogram.#least = least;
      histogram.#greatest = greatest;
    }
    return histogram;
  }

  /** Makes room for `bucket` and the whole octave around it. */
  #grow(bucket: number): Float64Array {
    const octave = bucket - (bucket % PARTS);
    const old = this.#cells;
    const used = old.length;
    const base = used === 0 ? octave : Math.min(this.#base, octave);
    const end = used === 0 ? octave + PARTS : Math.max(this.#base + used, octave + PARTS);
    const cells = new Float64Array(end - base);
    if (used > 0) cells.set(old, this.#base - base);
    this.#base = base;
    return (this.#cells = cells);
  }
}
