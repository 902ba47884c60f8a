// Percentile plot as HdrHistogram draws it: each step to the right is ten times as rare, so that the
// slowest call in a million has as much room as the median.

import { extentOfValues, formatExpression, ValueAxis } from "../axes.ts";
import { risesOf, stepsText } from "../cumulative.ts";
import {
  canZoom,
  counted,
  figures,
  frame,
  tooltip,
  zoomable,
  type Drawing,
  type Quantity,
} from "../page.ts";
import { type Direction, IN, OUT, type Series } from "../model.ts";
import type { Page, Spec } from "../spec.ts";
import { directionLegend, directionScales, LOOKS, PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";

/** Beyond this the labels on the left would touch. */
const MANY_DECADES = 1e5;

/** Further left, a line would rise within the edge of the picture, and its least values stretch the axis. */
const FIRST_SHARE = 0.01;

/** The percentile at 1 / (1 - q) on the axis: 50 %, 90 %, 99 %, … */
const PERCENTILE_LABEL =
  "datum.value == 1 ? '0 %' : format(100 - 100 / datum.value, '.9~r') + ' %'";

interface Step extends Spec {
  x: number;
  v: number;
  dir: string;
}

export function hdr(drawing: Drawing, quantity: Quantity, id: string): Page {
  const { series, unit, name } = quantity;
  const { directions } = series;
  const most = Math.max(10, ...series.all.map((histogram) => histogram.count));
  const values = directions.flatMap((direction) => steps(series, direction));
  const isCut = (name: string): boolean => values.find(({ dir }) => dir === name)!.x > 1;
  const axis = new ValueAxis(unit, extentOfValues(values.map(({ v }) => v)));
  const scales = directionScales(directions);
  const legend: Spec = {
    title: null,
    labelExpr: directionLegend([figures(quantity, OUT), figures(quantity, IN)]),
  };
  const ticks = most > MANY_DECADES ? [2] : [1, 2, 4];
  for (let tick = 10; tick <= most; tick *= 10) ticks.push(tick);
  const tips = tooltip(drawing, [
    { title: "direction", expression: "datum.dir" },
    { title: "percentile", expression: "format(100 - 100 / datum.x, '.7~r') + ' %'" },
    { title: name, expression: formatExpression(unit, "datum.v", 4) },
  ]);
  const panel: Spec = {
    width: PANEL_WIDTH,
    height: PAGE_HEIGHT,
    data: { values },
    transform: tips.transform,
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        scale: { type: "log", domain: [1, most * 1.2], nice: false },
        axis: {
          title: "percentile (log scale of the rest)",
          values: ticks,
          labelExpr: PERCENTILE_LABEL,
        },
      },
      y: {
        field: "v",
        type: "quantitative",
        scale: axis.scale,
        axis: axis.axis(name, drawing.use),
      },
    },
    layer: [
      {
        name: "lines",
        mark: { type: "line", interpolate: "step-before", strokeWidth: 2, clip: true },
        encoding: {
          color: { field: "dir", type: "nominal", scale: scales.color!, legend },
          strokeDash: { field: "dir", type: "nominal", scale: scales.strokeDash!, legend },
        },
      },
      ...directions.map((direction): Spec => {
        const { shape, colour } = LOOKS[direction];
        const { count, max } = series.all[direction];
        return {
          data: { values: [{ x: count, v: max! }] },
          mark: { type: "point", size: 40, shape, color: colour, filled: true, opacity: 1 },
        };
      }),
      ...tips.points,
    ],
  };
  const title = `Percentiles of ${name}`;
  const what =
    "The value that a share of the calls does not exceed; " +
    "each decade to the right is ten times as rare.";
  const samples = counted(series.count, "sample");
  const cut = directions.map((direction) => LOOKS[direction].name).filter(isCut);
  const areAll = cut.length === directions.length;
  const ends =
    `Each line ${areAll ? "begins at 1 % and " : ""}ends at its greatest value` +
    (areAll || cut.length === 0 ? "." : `; ${cut[0]!} begins at 1 %.`);
  const notes = [`From ${samples}; ${stepsText(series)} ${ends}`];
  const spec = frame(drawing, title, what, [panel], notes);
  return { id, title, spec: canZoom(axis) ? zoomable(drawing, spec, "y", ["lines"]) : spec };
}

/** Each value from behind the share of the calls that are below it to the share that it is for. */
function steps(series: Series, direction: Direction): Step[] {
  const { count } = series.all[direction];
  const dir = LOOKS[direction].name;
  const all = risesOf(series, direction);
  const rises = all.filter(({ passed }) => passed >= count * FIRST_SHARE);
  const start = all.length > rises.length ? 1 / (1 - FIRST_SHARE) : 1;
  // Behind the last rise the rest is nothing: the line ends where one sample is left.
  const steps = rises.map(({ value, passed }): Step => {
    return { x: passed < count ? count / (count - passed) : count, v: value, dir };
  });
  return [{ x: start, v: rises[0]!.value, dir }, ...steps];
}
