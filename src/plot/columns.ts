// Values over time in bounded memory, whatever the length of the run: a histogram for each column
// of time. When there are too many columns, they become twice as wide and pairs of them are merged,
// so that no value is ever left out. Columns without values take no memory.

import { Histogram } from "../output/histogram.ts";

/** At most so many columns: 512 to 1024 of them once the first merge has happened. */
const MOST_COLUMNS = 1024;
/** The first width, about 1 µs: all are powers of two of a second. */
const FIRST_WIDTH_SEC = 2 ** -20;

export class Columns {
  /** Width of a column. */
  widthSec = FIRST_WIDTH_SEC;
  /** Column k holds the times from k × width to (k + 1) × width after the origin. */
  #columns = new Map<number, Histogram>();
  /** The column that was used last: most values follow one another. */
  #key = Number.NaN;
  #column = new Histogram();

  /** @param atSec relative to the origin, may be negative */
  add(atSec: number, value: number): void {
    const key = Math.floor(atSec / this.widthSec);
    if (key !== this.#key) this.#turnTo(key);
    this.#column.record(value, 1);
  }

  get size(): number {
    return this.#columns.size;
  }

  /** The columns in the order of time, at least `leastWidthSec` wide (whole merged columns). */
  merged(leastWidthSec: number): { widthSec: number; columns: [key: number, Histogram][] } {
    const factor = Math.max(1, Math.ceil(leastWidthSec / this.widthSec));
    const columns = [...regroup(this.#columns, factor)].sort(([a], [b]) => a - b);
    return { widthSec: this.widthSec * factor, columns };
  }

  #turnTo(key: number): void {
    let column = this.#columns.get(key);
    if (column === undefined) {
      column = new Histogram();
      this.#columns.set(key, column);
      while (this.#columns.size > MOST_COLUMNS) {
        this.#columns = regroup(this.#columns, 2);
        this.widthSec *= 2;
        key = Math.floor(key / 2);
        column = this.#columns.get(key)!;
      }
    }
    this.#key = key;
    this.#column = column;
  }
}

/** Columns `factor` times as wide; the old ones stay as they are. */
function regroup(old: Map<number, Histogram>, factor: number): Map<number, Histogram> {
  const merged = new Map<number, Histogram>();
  for (const [key, histogram] of old) {
    const wide = Math.floor(key / factor);
    let sum = merged.get(wide);
    if (sum === undefined) merged.set(wide, (sum = new Histogram()));
    sum.merge(histogram);
  }
  return merged;
}
