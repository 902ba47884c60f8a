// The frame of a page: title, one line that says what is shown, the panels, and notes under them
// that say how it was drawn and what was put together.

import { formatBytes, formatExact, formatTime } from "../output/units.ts";
import type { Unit, ValueAxis } from "./axes.ts";
import type { Font } from "./fonts.ts";
import type { Direction, PlotModel, Series } from "./model.ts";
import type { Spec, Use } from "./spec.ts";
import { CONFIG, LOOKS, NOTE_SIZE, PANEL_WIDTH } from "./theme.ts";

/** How a page is made, whatever is on it. */
export interface Paper {
  readonly font: Font;
  readonly use: Use;
  /** Sentences that stand under the page: what of the input is not in it. */
  readonly remarks: readonly string[];
}

/** What the pages of logs are made from. */
export interface Drawing extends Paper {
  readonly model: PlotModel;
  /** Names behind the model's numbers. */
  readonly nameOf: (name: number) => string;
}

/** One quantity, as the pages are told of it. */
export interface Quantity {
  readonly series: Series;
  readonly unit: Unit;
  /** "queue time", "queue length". */
  readonly name: string;
  /** What one sample is, "call" or "sample". */
  readonly sample: string;
}

export function queueTime(model: PlotModel): Quantity {
  return { series: model.times, unit: "time", name: "queue time", sample: "call" };
}

export function queueLength(model: PlotModel): Quantity {
  return { series: model.lengths, unit: "bytes", name: "queue length", sample: "sample" };
}

function formatValue(unit: Unit, value: number | null): string {
  if (value === null) return "-";
  return unit === "time" ? formatTime(value) : formatBytes(value);
}

/** What a legend says of a direction: `outbound: 1,234 calls, p50 1.20 ms, …`. */
export function figures(quantity: Quantity, direction: Direction): string {
  const histogram = quantity.series.all[direction];
  const value = (q: number): string => formatValue(quantity.unit, histogram.quantile(q));
  return (
    `${LOOKS[direction].name}: ${counted(histogram.count, quantity.sample)}, ` +
    `p50 ${value(0.5)}, p90 ${value(0.9)}, p99 ${value(0.99)}, max ${value(1)}`
  );
}

/** `1 call`, `12,345 calls`. */
export function counted(count: number, what: string): string {
  return `${formatExact(count)} ${what}${count === 1 ? "" : "s"}`;
}

export function frame(
  paper: Paper,
  title: string,
  subtitle: string,
  panels: readonly Spec[],
  notes: readonly string[],
  widthPx: number = PANEL_WIDTH,
): Spec {
  const lines = [...notes, ...paper.remarks].flatMap((note) =>
    paper.font.wrap(note, NOTE_SIZE, widthPx),
  );
  const body: Spec = {
    vconcat: [...panels],
    title: {
      text: lines.length === 0 ? [""] : lines,
      orient: "bottom",
      fontSize: NOTE_SIZE,
      lineHeight: 13,
      color: "#555555",
      offset: 8,
    },
  };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: title, subtitle: paper.font.wrap(subtitle, 11, widthPx), offset: 14 },
    vconcat: [body],
    config: CONFIG,
  };
}

/**
 * The page with zooming and moving along these axes, in all views of these names together. With the
 * control key, so that the wheel alone still turns the pages.
 */
export function zoomable(paper: Paper, spec: Spec, axis: "x" | "y" | "xy", views: string[]): Spec {
  if (paper.use === "still") return spec;
  const select: Spec = { type: "interval", encodings: [...axis], zoom: "wheel![event.ctrlKey]" };
  return { ...spec, params: [{ name: "zoom", select, bind: "scales", views }] };
}

/** Vega makes new ticks for all but a symlog axis. */
export function canZoom(axis: ValueAxis): boolean {
  return axis.kind !== "symlog";
}

/** A field of a tooltip that is computed by an expression. */
export interface Tip {
  readonly title: string;
  readonly expression: string;
}

export interface Tooltip {
  readonly transform: Spec[];
  readonly encoding: Spec;
  /** A layer of marks that are not seen, for lines, which have nothing to point at. */
  readonly points: Spec[];
}

/** What makes a tooltip; nothing in a still picture. */
export function tooltip(paper: Paper, tips: readonly Tip[]): Tooltip {
  if (paper.use === "still") return { transform: [], encoding: {}, points: [] };
  const transform = tips.map(({ expression }, i): Spec => {
    return { calculate: expression, as: `tip${i}` };
  });
  const fields = tips.map(({ title }, i): Spec => ({ field: `tip${i}`, type: "nominal", title }));
  const encoding: Spec = { tooltip: fields };
  const mark: Spec = { type: "point", opacity: 0, size: 80, clip: true };
  return { transform, encoding, points: [{ mark, encoding }] };
}
