// What the pictures are drawn from, accumulated in one pass over the samples and in constant
// memory: a 10 GB log needs no more than one of 10 MB. Distributions are the project's histograms
// (0.78 %); least and greatest values are exact everywhere; as long as the samples are few, they are
// kept one by one.

import { Histogram } from "../output/histogram.ts";
import { Columns } from "./columns.ts";

export const OUT = 0;
export const IN = 1;
export type Direction = typeof OUT | typeof IN;

/** So many samples of a quantity are drawn one by one. */
export const MOST_POINTS = 4000;
/** So many names have a histogram of their own; what comes later is counted as "other names". */
export const MOST_NAMES = 1000;

export interface Point {
  readonly direction: Direction;
  /** Relative to the model's origin. */
  readonly atSec: number;
  readonly value: number;
}

/** One quantity in both directions. Values are whole ns or bytes, 0 or more. */
export class Series {
  readonly all: readonly [Histogram, Histogram] = [new Histogram(), new Histogram()];
  readonly overTime: readonly [Columns, Columns] = [new Columns(), new Columns()];
  /** Every sample, or null if there are too many. */
  points: Point[] | null = [];
  firstSec = Infinity;
  lastSec = -Infinity;
  /** Samples whose value is no quantity (negative, not a number), which are in nothing else. */
  refused = 0;

  /** Returns whether the value is one. */
  add(direction: Direction, atSec: number, value: number): boolean {
    if (!(value >= 0 && value < 2 ** 53 && atSec - atSec === 0)) {
      this.refused++;
      return false;
    }
    this.all[direction].record(value, 1);
    this.overTime[direction].add(atSec, value);
    if (atSec < this.firstSec) this.firstSec = atSec;
    if (atSec > this.lastSec) this.lastSec = atSec;
    if (this.points !== null) {
      if (this.points.length < MOST_POINTS) this.points.push({ direction, atSec, value });
      else this.points = null;
    }
    return true;
  }

  get count(): number {
    return this.all[OUT].count + this.all[IN].count;
  }

  /** Directions that have samples. */
  get directions(): Direction[] {
    return ([OUT, IN] as const).filter((direction) => this.all[direction].count > 0);
  }
}

export class PlotModel {
  /** Queue time of each call, ns. */
  readonly times = new Series();
  /** Bytes in the queues of all sockets together, at each look. */
  readonly lengths = new Series();
  /** Queue time by name: those that came first, by their number. */
  readonly names: (readonly [Histogram, Histogram])[] = [];
  /** That of all names beyond `MOST_NAMES`. */
  readonly otherNames: readonly [Histogram, Histogram] = [new Histogram(), new Histogram()];
  /** Unix seconds that all times are relative to. */
  originSec = 0;
  /** The log's start, relative to the origin: what comes before a window counts too. */
  startSec = 0;

  /** @param name number of the name, 0, 1, 2 …; -1 where the input has none (parsed data) */
  addTime(direction: Direction, atSec: number, ns: number, name: number): void {
    if (!this.times.add(direction, atSec, ns) || name < 0) return;
    let histograms = this.otherNames;
    if (name < MOST_NAMES) {
      while (this.names.length <= name) this.names.push([new Histogram(), new Histogram()]);
      histograms = this.names[name]!;
    }
    histograms[direction].record(ns, 1);
  }

  addLength(direction: Direction, atSec: number, bytes: number): void {
    this.lengths.add(direction, atSec, bytes);
  }
}
