// How sure a quantile is: the bootstrap, in one pass and constant memory.
//
// What is resampled is not the call but the block: all calls whose wait began in the same second. The
// calls of one second wait in the same queues, so that they are anything but independent, and an
// interval from resampled calls would be far too narrow. (A block should be longer than a queue
// takes to fill and to empty: `--block`.)
//
// A resample takes each block 0, 1, 2 … times. Instead of drawing as many blocks as there are, which
// needs them all at hand, every block gets a Poisson(1) weight of its own in each resample: the same
// distribution in the limit (the "Poisson bootstrap"). The weight is a function of seed, block and
// resample, so that blocks may come in any order, even in pieces.

import { bucketLow, bucketWidth, Histogram } from "../output/histogram.ts";

/** Blocks that are open at once: a log has its lines in the order in which the waits ended. */
const OPEN_BLOCKS = 16;

/** P(X ≤ k) of Poisson(1). */
const CUMULATIVE: number[] = [];
for (let k = 0, term = Math.exp(-1), sum = 0; k < 12; k++, term /= k) {
  sum += term;
  CUMULATIVE.push(sum);
}

/** How often resample `resample` takes block `block`. */
export function poissonWeight(seed: number, block: number, resample: number): number {
  let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(block | 0, 0xc2b2ae35);
  mixed = scramble(mixed ^ Math.floor(block / 2 ** 32));
  mixed = scramble(mixed + Math.imul(resample + 1, 0x27d4eb2f));
  const uniform = (mixed >>> 0) / 2 ** 32;
  let k = 0;
  while (k < CUMULATIVE.length && uniform >= CUMULATIVE[k]!) k++;
  return k;
}

/** Every bit of the result depends on every bit of `word` (the finaliser of MurmurHash3). */
function scramble(word: number): number {
  let mixed = word ^ (word >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** The distribution of one cell (a group, a direction, a weighting) and of its resamples. */
class Cell {
  /** Weight: calls or bytes. */
  count = 0;
  #least = Number.POSITIVE_INFINITY;
  #greatest = Number.NEGATIVE_INFINITY;
  /** By bucket, the weight in the sample itself and in each resample. */
  readonly #rows = new Map<number, Float64Array>();

  add(block: Histogram, weights: Uint8Array): void {
    this.count += block.count;
    this.#least = Math.min(this.#least, block.min!);
    this.#greatest = Math.max(this.#greatest, block.max!);
    block.forEachBucket((bucket, weight) => {
      let row = this.#rows.get(bucket);
      if (row === undefined) {
        row = new Float64Array(weights.length);
        this.#rows.set(bucket, row);
      }
      for (let i = 0; i < weights.length; i++) row[i]! += weights[i]! * weight;
    });
  }

  /**
   * The quantile `q` of the sample and of each resample; NaN of an empty one. Within a bucket the
   * weight is taken to lie evenly: a difference must not come from where the buckets' limits are.
   */
  quantiles(q: number): Float64Array {
    const rows = [...this.#rows].sort(([a], [b]) => a - b);
    const columns = rows[0]![1].length;
    const rank = new Float64Array(columns);
    for (const [, row] of rows) for (let i = 0; i < columns; i++) rank[i]! += row[i]! * q;
    const found = new Float64Array(columns).fill(Number.NaN);
    const passed = new Float64Array(columns);
    for (const [bucket, row] of rows) {
      const low = bucketLow(bucket);
      const width = bucketWidth(bucket);
      for (let i = 0; i < columns; i++) {
        const weight = row[i]!;
        if (weight > 0 && Number.isNaN(found[i]) && passed[i]! + weight >= rank[i]!) {
          const value = low + (width * (rank[i]! - passed[i]!)) / weight;
          found[i] = Math.round(Math.min(Math.max(value, this.#least), this.#greatest));
        }
        passed[i]! += weight;
      }
    }
    return found;
  }
}

interface Block {
  number: number;
  cells: (Histogram | undefined)[];
}

/** What is left of a log when it has been read: its quantiles, and theirs in each resample. */
export interface Estimate {
  /** Weight: calls or bytes. */
  readonly count: number;
  /** Each quantile of the log itself, and behind it those of its resamples. */
  readonly quantiles: readonly Float64Array[];
}

export class BlockBootstrap {
  /** Blocks that had a call. */
  blocks = 0;
  readonly #cells: (Cell | undefined)[] = [];
  readonly #open: Block[] = [];
  #latest: Block | null = null;
  readonly #seen = new Set<number>();
  readonly #weights: Uint8Array;

  constructor(
    private readonly blockNs: number,
    private readonly resamples: number,
    private readonly seed: number,
  ) {
    this.#weights = new Uint8Array(resamples + 1);
    this.#weights[0] = 1;
  }

  /** Where to record values of `cell` (0, 1, 2 …) at `timeNs`; valid until the next call of this. */
  histogram(cell: number, timeNs: number): Histogram {
    const number = Math.floor(timeNs / this.blockNs);
    let block = this.#latest;
    if (block === null || block.number !== number) block = this.#blockOf(number);
    let histogram = block.cells[cell];
    if (histogram === undefined) {
      histogram = new Histogram();
      block.cells[cell] = histogram;
    }
    return histogram;
  }

  /** Call once after the last value. Null for a cell without any. */
  finish(quantiles: readonly number[]): (Estimate | null)[] {
    for (const block of this.#open) this.#close(block);
    const estimates: (Estimate | null)[] = [];
    for (let i = 0; i < this.#cells.length; i++) {
      const cell = this.#cells[i];
      this.#cells[i] = undefined;
      const found = cell && { count: cell.count, quantiles: quantiles.map((q) => cell.quantiles(q)) };
      estimates.push(found ?? null);
    }
    return estimates;
  }

  /** The open block of this number; for a new one the oldest makes room. */
  #blockOf(number: number): Block {
    let oldest: Block | null = null;
    for (const block of this.#open) {
      if (block.number === number) return (this.#latest = block);
      if (oldest === null || block.number < oldest.number) oldest = block;
    }
    if (oldest === null || this.#open.length < OPEN_BLOCKS) {
      const block: Block = { number, cells: [] };
      this.#open.push(block);
      return (this.#latest = block);
    }
    this.#close(oldest);
    oldest.number = number;
    return (this.#latest = oldest);
  }

  #close(block: Block): void {
    for (let i = 0; i < this.resamples; i++) {
      this.#weights[i + 1] = poissonWeight(this.seed, block.number, i);
    }
    for (let i = 0; i < block.cells.length; i++) {
      const histogram = block.cells[i];
      if (histogram === undefined || histogram.count === 0) continue;
      let cell = this.#cells[i];
      if (cell === undefined) {
        cell = new Cell();
        this.#cells[i] = cell;
      }
      cell.add(histogram, this.#weights);
      histogram.reset();
    }
    if (this.#seen.size < 1 << 20 && !this.#seen.has(block.number)) {
      this.#seen.add(block.number);
      this.blocks++;
    }
  }
}
