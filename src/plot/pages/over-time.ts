// Values over time: each sample while they are few, else for each column of time the range from the
// least to the greatest value, the middle 80 % of the samples, and the median.

import { extentOf, formatExpression, TimeAxis, ValueAxis, type Extent } from "../axes.ts";
import type { Histogram } from "../../output/histogram.ts";
import {
  counted,
  figures,
  frame,
  tooltip,
  zoomable,
  type Drawing,
  type Quantity,
} from "../page.ts";
import type { Direction, Series } from "../model.ts";
import type { Page, Spec } from "../spec.ts";
import { LOOKS, PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";

/** Columns of a panel at most; a column is then 3 px wide. */
const MOST_DRAWN_COLUMNS = 230;
/** Marks are larger below, and smaller above. */
const FEW_POINTS = 50;
const MANY_POINTS = 500;

export function timeAxis(drawing: Drawing, series: Series): TimeAxis {
  const { originSec, startSec } = drawing.model;
  return new TimeAxis(originSec, startSec, series.firstSec, series.lastSec);
}

/** The columns of both directions, of equal width, as they are drawn. */
export function drawnColumns(
  series: Series,
  most: number,
): { widthSec: number; of: readonly [[number, Histogram][], [number, Histogram][]] } {
  // The two were doubled separately: the wider width is a whole number of the other one.
  const wider = Math.max(series.overTime[0].widthSec, series.overTime[1].widthSec);
  const span = series.lastSec - series.firstSec;
  const widthSec = wider * Math.max(1, Math.ceil(span / most / wider));
  return {
    widthSec,
    of: [series.overTime[0].merged(widthSec).columns, series.overTime[1].merged(widthSec).columns],
  };
}

/** Start and end of a column on the axis, cut to the run, but never too thin to be seen. */
export function columnEdges(
  axis: TimeAxis,
  series: Series,
  key: number,
  widthSec: number,
): [number, number] {
  const from = Math.max(key * widthSec, series.firstSec);
  const to = Math.min((key + 1) * widthSec, series.lastSec);
  const start = axis.at(from);
  return [start, Math.max(axis.at(to), start + axis.leastWidth)];
}

/** A width of time as people read it. */
export function spanText(sec: number): string {
  if (sec < 1e-3) return `${Number((sec * 1e6).toPrecision(3))} µs`;
  if (sec < 1) return `${Number((sec * 1e3).toPrecision(3))} ms`;
  if (sec < 600) return `${Number(sec.toPrecision(3))} s`;
  return sec < 36000 ? `${(sec / 60).toFixed(1)} min` : `${(sec / 3600).toFixed(1)} h`;
}

export function overTime(drawing: Drawing, quantity: Quantity, id: string, what: string): Page {
  const { series, unit, name } = quantity;
  const { directions, points } = series;
  const time = timeAxis(drawing, series);
  const columns = points === null ? drawnColumns(series, MOST_DRAWN_COLUMNS) : null;
  const height = (PAGE_HEIGHT - 20 * (directions.length - 1)) / directions.length;
  const panels = directions.map((direction, i): Spec => {
    // Each direction has a scale of its own: they often differ by orders of magnitude.
    const extent: Extent = extentOf([series.all[direction]]);
    const axis = new ValueAxis(unit, extent);
    const shared: Spec = {
      x: { field: "t", ...time.encoding(i === directions.length - 1, drawing.use) },
      y: {
        field: "v",
        type: "quantitative",
        scale: axis.scale,
        axis: axis.axis(`${name}, ${LOOKS[direction].name}`, drawing.use),
      },
    };
    const panel: Spec = {
      width: PANEL_WIDTH,
      height,
      title: { text: figures(quantity, direction), fontSize: 11, offset: 5, anchor: "start" },
      ...(columns === null
        ? scatter(drawing, quantity, direction, time, shared)
        : envelope(
            drawing,
            quantity,
            columns.of[direction],
            columns.widthSec,
            direction,
            time,
            shared,
          )),
    };
    const layers = panel.layer as Spec[];
    layers[0] = { ...layers[0], name: LOOKS[direction].name };
    return panel;
  });
  const title = `${name[0]!.toUpperCase()}${name.slice(1)} over time`;
  const notes =
    columns === null
      ? [
          series.count === 1
            ? "The one sample is drawn."
            : `Each of ${counted(series.count, "sample")} is drawn.`,
        ]
      : [
          `${counted(series.count, "sample")}, put together in columns of ` +
            `${spanText(columns.widthSec)}: pale, from the least to the greatest value of the ` +
            `column (exact); dark, the middle 80 % (p10 to p90); line, the median.`,
        ];
  const spec = frame(drawing, title, what, panels, notes);
  return {
    id,
    title,
    spec: zoomable(
      drawing,
      spec,
      "x",
      directions.map((one) => LOOKS[one].name),
    ),
  };
}

function scatter(
  drawing: Drawing,
  { series, unit, name }: Quantity,
  direction: Direction,
  time: TimeAxis,
  encoding: Spec,
): Spec {
  const look = LOOKS[direction];
  const values = series
    .points!.filter((point) => point.direction === direction)
    .map((point): Spec => ({ t: time.at(point.atSec), v: point.value }));
  const tips = tooltip(drawing, [
    { title: "time", expression: time.expression("datum.t") },
    { title: name, expression: formatExpression(unit, "datum.v", 9) },
  ]);
  const isMany = values.length > MANY_POINTS;
  const isFew = values.length < FEW_POINTS;
  const mark: Spec = {
    type: "point",
    shape: look.shape,
    color: look.colour,
    size: isMany ? 9 : isFew ? 45 : 26,
    strokeWidth: isMany ? 0.6 : 1,
    opacity: isMany ? 0.7 : 0.9,
    clip: drawing.use === "interactive",
  };
  return {
    data: { values },
    transform: tips.transform,
    layer: [{ mark, encoding: { ...encoding, ...tips.encoding } }],
  };
}

function envelope(
  drawing: Drawing,
  { series, unit }: Quantity,
  columns: readonly [number, Histogram][],
  widthSec: number,
  direction: Direction,
  time: TimeAxis,
  encoding: Spec,
): Spec {
  const colour = LOOKS[direction].colour;
  const values = columns.map(([key, histogram]): Spec => {
    const [t, end] = columnEdges(time, series, key, widthSec);
    return {
      t,
      end,
      n: histogram.count,
      min: histogram.min!,
      p10: histogram.quantile(0.1)!,
      p50: histogram.quantile(0.5)!,
      p90: histogram.quantile(0.9)!,
      max: histogram.max!,
    };
  });
  const value = (field: string): string => formatExpression(unit, `datum.${field}`, 4);
  const tips = tooltip(drawing, [
    { title: "from", expression: time.expression("datum.t") },
    { title: "samples", expression: "format(datum.n, ',')" },
    ...["max", "p90", "p50", "p10", "min"].map((field) => ({
      title: field,
      expression: value(field),
    })),
  ]);
  const x = encoding.x as Spec;
  const y = encoding.y as Spec;
  const band = (low: string, high: string, opacity: number): Spec => ({
    // The stroke keeps columns visible that are thinner than a pixel in either direction.
    mark: {
      type: "rect",
      color: colour,
      fillOpacity: opacity,
      stroke: colour,
      strokeWidth: 0.5,
      strokeOpacity: opacity,
      clip: drawing.use === "interactive",
    },
    encoding: {
      x,
      x2: { field: "end" },
      y: { ...y, field: low },
      y2: { field: high },
      ...tips.encoding,
    },
  });
  return {
    data: { values },
    transform: tips.transform,
    layer: [
      band("min", "max", 0.25),
      band("p10", "p90", 0.55),
      {
        mark: {
          type: "rule",
          color: "#000000",
          strokeWidth: 1.2,
          clip: drawing.use === "interactive",
        },
        encoding: { x, x2: { field: "end" }, y: { ...y, field: "p50" } },
      },
    ],
  };
}
