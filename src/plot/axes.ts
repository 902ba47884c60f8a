// Axes that fit the data: linear or logarithmic, from microseconds to days, with room for zeros,
// single values and equal values. Ticks are whole numbers of a unit that people read.

import { bucketLow, bucketWidth, type Histogram } from "../output/histogram.ts";
import type { Spec, Use } from "./spec.ts";

export type Unit = "time" | "bytes";

/** From this ratio of the greatest to the least value on, an axis is logarithmic. */
const LOG_FROM_RATIO = 30;
/** Above so many decades only whole ones have a tick. */
const MOST_FINE_DECADES = 3;
const TICKS = 6;
/** What ticks of a decade there may be, and their least distance in decades. */
const FINENESS = [
  { mantissas: [1, 2, 3, 5, 7], gap: Math.log10(7 / 5) },
  { mantissas: [1, 2, 5], gap: Math.log10(2) },
  { mantissas: [1, 3], gap: Math.log10(3) },
  { mantissas: [1], gap: 1 },
];
/** Room before the first and behind the last sample, as a part of the run. */
const ROOM = 0.01;
/** The same where the run has no length, in the unit of the axis. */
const POINT_ROOM = 0.5;
/** From this length of a run on, the time axis shows the time of the day. */
const CLOCK_FROM_SEC = 600;
/** From this part of a time on, a step beside it is written with few digits. */
const FINE_STEP = 1e-4;

/** The least and greatest of some values, and the least that is not 0. */
export interface Extent {
  readonly least: number;
  readonly leastPositive: number;
  readonly greatest: number;
}

export function extentOf(histograms: readonly Histogram[]): Extent {
  let least = Infinity;
  let leastPositive = Infinity;
  let greatest = 0;
  for (const histogram of histograms) {
    if (histogram.count === 0) continue;
    least = Math.min(least, histogram.min!);
    greatest = Math.max(greatest, histogram.max!);
    if (histogram.min! > 0) {
      leastPositive = Math.min(leastPositive, histogram.min!);
      continue;
    }
    let found = false;
    histogram.forEachBucket((bucket) => {
      if (found || bucket === 0) return;
      found = true;
      leastPositive = Math.min(leastPositive, bucketLow(bucket), histogram.max!);
    });
  }
  if (least === Infinity) least = 0;
  return { least, leastPositive: Math.min(leastPositive, Math.max(greatest, 1)), greatest };
}

/** Of values that are drawn one by one. */
export function extentOfValues(values: readonly number[]): Extent {
  let least = Infinity;
  let leastPositive = Infinity;
  let greatest = 0;
  for (const value of values) {
    least = Math.min(least, value);
    greatest = Math.max(greatest, value);
    if (value > 0) leastPositive = Math.min(leastPositive, value);
  }
  if (least === Infinity) least = 0;
  return { least, leastPositive: Math.min(leastPositive, Math.max(greatest, 1)), greatest };
}

/** The least and greatest value that a bucket of this histogram can hold. */
export function bucketEdges(histogram: Histogram, bucket: number): { low: number; high: number } {
  const low = bucketLow(bucket);
  const high = low + bucketWidth(bucket) - 1;
  return {
    low: Math.min(Math.max(low, histogram.min!), histogram.max!),
    high: Math.max(Math.min(high, histogram.max!), histogram.min!),
  };
}

/** An axis of queue times or queue lengths. */
export class ValueAxis {
  readonly kind: "linear" | "log" | "symlog";
  readonly low: number;
  readonly high: number;
  /** Where a symlog axis becomes linear, down to 0. */
  readonly constant: number;
  readonly unit: Unit;

  /** @param isFitted begins near the least value, and not at 0, also where that is not far below it */
  constructor(unit: Unit, { least, leastPositive, greatest }: Extent, isFitted = false) {
    this.unit = unit;
    this.constant = 10 ** Math.floor(Math.log10(leastPositive) + 1e-9);
    if (greatest / leastPositive >= LOG_FROM_RATIO) {
      this.kind = least > 0 ? "log" : "symlog";
      this.low = least > 0 ? roundDown(leastPositive * 0.99) : 0;
      // A value on the very edge would be half cut off.
      this.high = roundUp(greatest * 1.01);
      return;
    }
    this.kind = "linear";
    if (greatest === 0) {
      this.low = 0;
      this.high = 1000; // 1 µs, 1 kB
    } else if (least === greatest || (!isFitted && least < greatest / 2)) {
      this.low = 0;
      this.high = least === greatest ? 2 * greatest : nextStep(greatest * 1.02, greatest);
    } else {
      const range = greatest - least;
      this.low = Math.max(0, previousStep(least - range * 0.02, range));
      this.high = nextStep(greatest + range * 0.02, range);
    }
  }

  get scale(): Spec {
    const domain = [this.low, this.high];
    if (this.kind === "linear") return { type: "linear", domain, zero: false, nice: false };
    if (this.kind === "log") return { type: "log", domain, nice: false };
    return { type: "symlog", domain, constant: this.constant, nice: false };
  }

  /**
   * @param use of an interactive page, which is `zoomable`
   * @param most so many labels find room, where that is fewer than usual
   */
  axis(title: string, use: Use, most = Infinity): Spec {
    const shared: Spec = {
      title: this.kind === "linear" ? title : `${title} (log scale)`,
      labelExpr: formatExpression(this.unit, "datum.value"),
      labelOverlap: "greedy",
    };
    // Vega's own ticks of a symlog axis are those of a linear one.
    if (use === "interactive" && this.kind === "linear") return { ...shared, tickCount: TICKS };
    if (use === "interactive" && this.kind === "log") {
      // Vega's ticks, so that there are some after zooming; of all its labels those that stay in
      // whole decades when the ones that would touch are left out. Within a decade or so, all.
      const mantissa = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))";
      const isNear = `zoom.v && zoom.v[1] / zoom.v[0] < ${LOG_FROM_RATIO}`;
      const label = shared.labelExpr as string;
      const labelExpr = `${isNear} || indexof([1, 3], ${mantissa}) >= 0 ? (${label}) : ''`;
      return { ...shared, labelExpr };
    }
    return { ...shared, values: this.ticks(most) };
  }

  ticks(most = Infinity): number[] {
    if (this.kind === "linear") {
      const range = this.high - this.low;
      let step = niceStep(range);
      for (let steps = TICKS - 1; range / step > most && steps > 0; steps--) {
        step = niceStep(range, steps);
      }
      const first = Math.ceil(this.low / step - 1e-9);
      const last = Math.floor(this.high / step + 1e-9);
      return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
    }
    const low = this.kind === "log" ? this.low : this.constant;
    const decades = Math.log10(this.high / low);
    const finest = decades > MOST_FINE_DECADES ? 3 : decades > 1.5 ? 1 : 0;
    // As fine as the least room between two labels allows.
    const { mantissas } =
      FINENESS.find(({ gap }, i) => i >= finest && gap * most >= decades) ?? FINENESS[3]!;
    const ticks = this.kind === "log" ? [] : [0];
    // Where decades are narrow, the first one's label would touch that of 0.
    const first = this.kind === "symlog" && decades > MOST_FINE_DECADES ? low * 5 : low * 0.999999;
    const last = Math.floor(Math.log10(this.high) + 1e-9);
    for (let decade = Math.floor(Math.log10(low) + 1e-9); decade <= last; decade++) {
      for (const mantissa of mantissas) {
        const tick = mantissa * 10 ** decade;
        if (tick >= first && tick <= this.high * 1.000001) ticks.push(tick);
      }
    }
    return ticks;
  }

  /**
   * Cuts the axis into at most `count` rows, about equally high; the edges, rising. Each is the edge
   * of a histogram's bucket, so that no bucket is in two rows.
   */
  rows(count: number): number[] {
    const low = this.kind === "symlog" ? this.constant : this.low;
    const edges = this.kind === "symlog" ? [0] : [];
    for (let i = 0; i <= count; i++) {
      const part = i / count;
      const edge =
        this.kind === "linear" ? low + (this.high - low) * part : low * (this.high / low) ** part;
      const snapped = i === count ? this.high : bucketEdge(edge);
      if (edges.length === 0 || snapped > edges[edges.length - 1]!) edges.push(snapped);
    }
    return edges;
  }
}

/** The least value of the bucket that holds this one. */
function bucketEdge(value: number): number {
  // A value that stands for an edge may be a rounding error below it.
  const near = value * (1 + 1e-12);
  if (near < 1) return 0;
  const width = 2 ** Math.max(0, Math.floor(Math.log2(near)) - 6);
  return Math.floor(near / width) * width;
}

/** A Vega expression that writes a value with its unit. */
export function formatExpression(unit: Unit, value: string, digits = 6): string {
  const part = (divisor: number, suffix: string): string =>
    `format(${value} / ${divisor}, ',.${digits}~r') + ' ${suffix}'`;
  const units: [number, string][] =
    unit === "time"
      ? [
          [1e9, "s"],
          [1e6, "ms"],
          [1e3, "µs"],
          [1, "ns"],
        ]
      : [
          [1e12, "TB"],
          [1e9, "GB"],
          [1e6, "MB"],
          [1e3, "kB"],
          [1, "B"],
        ];
  const steps = units.map(([divisor, suffix], i) =>
    i === units.length - 1
      ? part(divisor, suffix)
      : `${value} >= ${divisor} ? ${part(divisor, suffix)}`,
  );
  return `${value} == 0 ? '0' : ${steps.join(" : ")}`;
}

/**
 * The time axis of a run: since its start, whatever part of it is shown, so that a time that is read
 * off can be given as `--since +30s`; or the time of the day where the part is long. Of a short part
 * that is late in the run, since a round time within it, which the title names: `+ 30 s`.
 */
export class TimeAxis {
  readonly isClock: boolean;
  readonly #startMs: number;
  /** Where the axis counts from, after the start. */
  readonly #baseSec: number;
  readonly #spanSec: number;
  readonly #unit: readonly [perSec: number, name: string];

  /**
   * @param originSec Unix seconds
   * @param startSec the run's start, relative to it
   * @param firstSec, lastSec what is shown, relative to it
   */
  constructor(
    readonly originSec: number,
    readonly startSec: number,
    readonly firstSec: number,
    lastSec: number,
  ) {
    this.#spanSec = lastSec - firstSec;
    this.isClock = this.#spanSec >= CLOCK_FROM_SEC;
    this.#startMs = (originSec + (this.isClock ? firstSec : startSec)) * 1000;
    this.#baseSec = baseSecOf(firstSec - startSec, lastSec - startSec);
    this.#unit = unitOf(firstSec - startSec - this.#baseSec, lastSec - startSec - this.#baseSec);
  }

  /** The value on the axis of a time relative to the origin. */
  at(relativeSec: number): number {
    if (this.isClock) return Math.round((this.originSec + relativeSec) * 1000);
    return (relativeSec - this.startSec - this.#baseSec) * this.#unit[0];
  }

  /** On the axis, what can still be seen; less than the room at its ends. */
  get leastWidth(): number {
    const span = this.at(this.firstSec + this.#spanSec) - this.at(this.firstSec);
    return span > 0 ? (span * ROOM) / 4 : POINT_ROOM / 100;
  }

  encoding(isLabelled: boolean, use: Use): Spec {
    const low = this.at(this.firstSec);
    const high = this.at(this.firstSec + this.#spanSec);
    const room = high > low ? (high - low) * ROOM : POINT_ROOM;
    const base = this.#baseSec === 0 ? "" : ` + ${formatSec(this.#baseSec)} s`;
    const title = this.isClock
      ? `time of the day, UTC (from ${day(this.#startMs)})`
      : `time since ${day(this.#startMs)} ${clock(this.#startMs)} UTC${base}, in ${this.#unit[1]}`;
    const axis: Spec = {
      title: isLabelled ? title : null,
      labels: isLabelled,
      labelOverlap: "greedy",
    };
    if (this.isClock) {
      axis.tickCount = 10;
      axis.labelExpr = CLOCK_LABEL;
    } else if (use === "still") {
      // There is nothing before the start.
      const first = low >= 0 ? Math.max(0, low - room) : low - room;
      axis.values = high > low ? stepsBetween(low, high) : stepsBetween(first, high + room);
      axis.labelExpr = "format(datum.value, ',.6~r')";
    }
    return {
      type: this.isClock ? "temporal" : "quantitative",
      scale: {
        type: this.isClock ? "utc" : "linear",
        // Of a time scale, Vega-Lite takes a second channel (x2) only with a domain in this form.
        domain: this.isClock
          ? { expr: `[${low - room}, ${high + room}]` }
          : [low - room, high + room],
        nice: false,
        ...(this.isClock ? {} : { zero: false }),
      },
      axis,
    };
  }

  /** A Vega expression that writes a time of this axis. */
  expression(value: string): string {
    if (this.isClock) return `utcFormat(${value}, '%Y-%m-%d %H:%M:%S.%L UTC')`;
    const [perSec, unit] = this.#baseSec === 0 ? this.#unit : ([1, "s"] as const);
    const sinceStart =
      this.#baseSec === 0 ? value : `${value} / ${this.#unit[0]} + ${formatSec(this.#baseSec)}`;
    return `format(${sinceStart}, '.${perSec === 1 ? 12 : 9}~r') + ' ${unit}'`;
  }
}

function unitOf(fromSec: number, toSec: number): readonly [perSec: number, name: string] {
  const farthestSec = Math.max(Math.abs(fromSec), Math.abs(toSec));
  return farthestSec >= 2 ? [1, "s"] : farthestSec >= 0.002 ? [1000, "ms"] : [1e6, "µs"];
}

/**
 * 0 while the times of a window, after the run's start, have few digits; else a round time that is
 * less than ten times the window's length before it.
 */
function baseSecOf(fromSec: number, toSec: number): number {
  const spanSec = toSec > fromSec ? toSec - fromSec : (2 * POINT_ROOM) / unitOf(fromSec, toSec)[0];
  if (niceStep(spanSec) >= FINE_STEP * Math.max(Math.abs(fromSec), Math.abs(toSec))) return 0;
  // The reciprocal is exact where the step is less than a second.
  const decade = Math.ceil(Math.log10(spanSec) - 1e-9);
  if (decade >= 0) return Math.floor(fromSec / 10 ** decade) * 10 ** decade;
  return Math.floor(fromSec * 10 ** -decade) / 10 ** -decade;
}

/** Without an exponent, to the nanosecond. */
function formatSec(sec: number): string {
  return String(Number(sec.toFixed(9)));
}

/** Times with seconds only where they are; the day below midnight. */
const CLOCK_LABEL =
  "utcseconds(datum.value) != 0 ? utcFormat(datum.value, '%H:%M:%S') : " +
  "utchours(datum.value) == 0 && utcminutes(datum.value) == 0 " +
  "? [utcFormat(datum.value, '%H:%M'), utcFormat(datum.value, '%a %d %b')] " +
  ": utcFormat(datum.value, '%H:%M')";

function day(unixMs: number): string {
  return isoOf(unixMs).slice(0, 10);
}

function clock(unixMs: number): string {
  return isoOf(unixMs).slice(11, 23);
}

/** ISO 8601; what a damaged line made of the year stays within what a Date holds. */
function isoOf(unixMs: number): string {
  const most = 8.64e15;
  return new Date(Math.min(Math.max(unixMs, -most), most)).toISOString();
}

function stepsBetween(low: number, high: number): number[] {
  const step = niceStep(high - low);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++)
    ticks.push(i * step);
  return ticks;
}

/** 1, 2 or 5 × 10^n, so that `range` has about so many steps. */
function niceStep(range: number, steps = TICKS): number {
  const raw = range / steps;
  const decade = 10 ** Math.floor(Math.log10(raw));
  const mantissa = raw / decade;
  return decade * (mantissa < 1.5 ? 1 : mantissa < 3.5 ? 2 : mantissa < 7.5 ? 5 : 10);
}

function nextStep(value: number, range: number): number {
  const step = niceStep(range) / 2;
  return Math.ceil(value / step) * step;
}

function previousStep(value: number, range: number): number {
  const step = niceStep(range) / 2;
  return Math.floor(value / step) * step;
}

function roundDown(value: number): number {
  const decade = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return decade * (value >= 5 * decade ? 5 : value >= 2 * decade ? 2 : 1);
}

function roundUp(value: number): number {
  const decade = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return decade * (value <= decade ? 1 : value <= 2 * decade ? 2 : value <= 5 * decade ? 5 : 10);
}
