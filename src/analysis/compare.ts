// Two logs side by side: for each group, direction and weighting the difference of each quantile,
// B − A, with a bootstrap interval (bootstrap.ts).

import { BlockBootstrap, type Estimate } from "./bootstrap.ts";
import { recordBytes } from "./call-books.ts";
import { callTimeNs, Grouper, type Grouping, OTHER_GROUPS } from "./groups.ts";
import { type LogLine, type LogVisitor } from "./log-line.ts";
import { formatMoment } from "./moments.ts";
import type { Window } from "./window.ts";

export const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const;
export const QUANTILE_NAMES = ["p50", "p90", "p99", "p99.9"] as const;
export const CONFIDENCE = 0.95;
/** Groups beyond these are one: each has thousands of resampled buckets. */
const GROUPS_MOST = 12;
/** Cells of a group: two directions, by call and by byte. */
const CELLS = 4;
/** Cells of all groups together come first. */
const ALL = "all";

export interface CompareOptions {
  readonly by: Grouping;
  readonly blockNs: number;
  readonly resamples: number;
  readonly seed: number;
}

/** One log, read. */
export interface Side {
  readonly from: string;
  readonly to: string;
  readonly calls: number;
  /** Calls left out, because their time is below zero. */
  readonly negative: number;
  /** Blocks that had calls: what the intervals rest on. */
  readonly blocks: number;
  readonly estimates: ReadonlyMap<string, readonly (Estimate | null)[]>;
}

/** Reads one of the two logs. */
export class SideBuilder implements LogVisitor {
  readonly #window: Window;
  readonly #bootstrap: BlockBootstrap;
  readonly #grouper: Grouper;
  #baseSec = 0;
  #calls = 0;
  #negative = 0;
  #firstNs = Number.POSITIVE_INFINITY;
  #lastNs = Number.NEGATIVE_INFINITY;

  /** @param index 0 or 1: the two logs are resampled independently of each other */
  constructor(options: CompareOptions, window: Window, index: number) {
    this.#window = window;
    this.#grouper = new Grouper(options.by);
    this.#bootstrap = new BlockBootstrap(options.blockNs, options.resamples, options.seed * 2 + index);
  }

  call(line: LogLine): void {
    if (!this.#window.holds(line, callTimeNs(line))) return;
    if (!(line.waitNs >= 0)) {
      this.#negative++;
      return;
    }
    const timeNs = callTimeNs(line);
    this.#baseSec = line.baseSec;
    this.#calls++;
    if (timeNs < this.#firstNs) this.#firstNs = timeNs;
    if (timeNs > this.#lastNs) this.#lastNs = timeNs;
    this.#record(0, line);
    this.#record(Math.min(this.#grouper.of(line), GROUPS_MOST) + 1, line);
  }

  miss(): void {}
  queues(): void {}
  socketQueues(): void {}
  text(): boolean {
    return true;
  }

  finish(): Side {
    const estimates = new Map<string, (Estimate | null)[]>();
    const cells = this.#bootstrap.finish(QUANTILES);
    for (let group = 0; group * CELLS < cells.length; group++) {
      const known = group > GROUPS_MOST ? OTHER_GROUPS : this.#grouper.names[group - 1]!;
      const name = group === 0 ? ALL : known;
      estimates.set(name, cells.slice(group * CELLS, (group + 1) * CELLS));
    }
    const some = this.#calls > 0;
    return {
      from: formatMoment(this.#baseSec, some ? this.#firstNs : 0),
      to: formatMoment(this.#baseSec, some ? this.#lastNs : 0),
      calls: this.#calls,
      negative: this.#negative,
      blocks: this.#bootstrap.blocks,
      estimates,
    };
  }

  #record(group: number, line: LogLine): void {
    const cell = group * CELLS + line.direction * 2;
    this.#bootstrap.histogram(cell, line.startNs).record(line.waitNs, 1);
    if (line.bytes > 0) recordBytes(this.#bootstrap.histogram(cell + 1, line.startNs), line);
  }
}

export interface Difference {
  readonly group: string;
  readonly direction: "out" | "in";
  readonly weight: "call" | "byte";
  readonly quantile: (typeof QUANTILE_NAMES)[number];
  /** Null where that log has no such calls. */
  readonly aNs: number | null;
  readonly bNs: number | null;
  /** B − A, and its interval; null where one is missing. */
  readonly differenceNs: number | null;
  readonly lowNs: number | null;
  readonly highNs: number | null;
  /** The interval does not hold zero. */
  readonly differs: boolean;
}

/** All differences, `all` first, then the groups of A in the order of their first calls, then B's. */
export function compareSides(a: Side, b: Side): Difference[] {
  const rows: Difference[] = [];
  const groups = [...new Set([...a.estimates.keys(), ...b.estimates.keys()])];
  // One group is the same as all.
  const shown = groups.length === 2 ? groups.slice(1) : groups;
  for (const group of shown) {
    for (let cell = 0; cell < CELLS; cell++) {
      const left = a.estimates.get(group)?.[cell] ?? null;
      const right = b.estimates.get(group)?.[cell] ?? null;
      if (left === null && right === null) continue;
      QUANTILES.forEach((_, i) => rows.push(difference(group, cell, i, left, right)));
    }
  }
  return rows;
}

function difference(
  group: string,
  cell: number,
  quantile: number,
  left: Estimate | null,
  right: Estimate | null,
): Difference {
  const aNs = left?.quantiles[quantile]![0] ?? null;
  const bNs = right?.quantiles[quantile]![0] ?? null;
  let lowNs: number | null = null;
  let highNs: number | null = null;
  if (left !== null && right !== null) {
    const one = left.quantiles[quantile]!.subarray(1);
    const other = right.quantiles[quantile]!.subarray(1);
    const differences = one.map((value, i) => other[i]! - value).filter((value) => !Number.isNaN(value));
    differences.sort();
    const tail = (1 - CONFIDENCE) / 2;
    const last = differences.length - 1;
    if (last >= 0) {
      lowNs = differences[Math.floor(tail * last)]!;
      highNs = differences[Math.ceil((1 - tail) * last)]!;
    }
  }
  return {
    group,
    direction: cell < 2 ? "out" : "in",
    weight: cell % 2 === 0 ? "call" : "byte",
    quantile: QUANTILE_NAMES[quantile]!,
    aNs,
    bNs,
    differenceNs: aNs === null || bNs === null ? null : bNs - aNs,
    lowNs,
    highNs,
    differs: lowNs !== null && highNs !== null && (lowNs > 0 || highNs < 0),
  };
}
