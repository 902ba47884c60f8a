// Percentiles over time, one line each. A percentile is drawn where its column has enough samples
// for one of them to lie above it: p99 of 20 samples would be their greatest value under another
// name.

import type { Histogram } from "../../output/histogram.ts";
import { extentOfValues, formatExpression, ValueAxis } from "../axes.ts";
import { counted, figures, frame, tooltip, zoomable, type Drawing, type Quantity } from "../page.ts";
import type { Page, Spec } from "../spec.ts";
import { LOOKS, PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";
import { columnEdges, drawnColumns, spanText, timeAxis } from "./over-time.ts";

/** As many columns as leave each about 100 samples, so that it has a p99; within these. */
const SAMPLES_OF_COLUMN = 100;
const LEAST_COLUMNS = 20;
const MOST_COLUMNS = 115;
/** Fewer samples than this say nothing about percentiles over time. */
export const LEAST_SAMPLES = 100;

interface Line {
  readonly name: string;
  readonly q: number;
  readonly needs: number;
  readonly colour: string;
  readonly dash: readonly number[];
}

const LINES: readonly Line[] = [
  { name: "max", q: 1, needs: 1, colour: "#000000", dash: [1, 2] },
  { name: "p99.9", q: 0.999, needs: 1000, colour: "#cc79a7", dash: [7, 2, 1, 2] },
  { name: "p99", q: 0.99, needs: 100, colour: "#d55e00", dash: [3, 2] },
  { name: "p90", q: 0.9, needs: 10, colour: "#009e73", dash: [7, 3] },
  { name: "p50", q: 0.5, needs: 2, colour: "#0072b2", dash: [] },
];

export function percentiles(drawing: Drawing, quantity: Quantity, id: string): Page {
  const { series, unit, name } = quantity;
  const { directions } = series;
  const time = timeAxis(drawing, series);
  const fewest = Math.min(...directions.map((direction) => series.all[direction].count));
  const wanted = Math.max(LEAST_COLUMNS, fewest / SAMPLES_OF_COLUMN);
  const columns = drawnColumns(series, Math.min(MOST_COLUMNS, wanted));
  const height = (PAGE_HEIGHT - 40 - 20 * (directions.length - 1)) / directions.length;
  const drawn = LINES.filter(({ needs }) =>
    directions.some((direction) => columns.of[direction].some(([, { count }]) => count >= needs)),
  );
  let below = 0;
  const panels = directions.map((direction, i): Spec => {
    const floor = floorOf(columns.of[direction].map(([, histogram]) => histogram));
    // The greatest of several is at least their median: these are of one call.
    const own = columns.of[direction].filter(([, { max }]) => max! >= floor);
    below += columns.of[direction].length - own.length;
    const values: (Spec & { v: number })[] = [];
    for (const line of drawn) {
      let run = 0;
      let expected = Number.NaN;
      for (const [key, histogram] of own) {
        if (histogram.count < line.needs) continue;
        if (key !== expected) run++;
        expected = key + 1;
        const [start, end] = columnEdges(time, series, key, columns.widthSec);
        const v = histogram.quantile(line.q)!;
        const shared = { line: line.name, run: `${line.name} ${run}`, v, n: histogram.count };
        // Both ends, so that a column without neighbours is a line and not nothing.
        values.push({ ...shared, t: start }, { ...shared, t: end });
      }
    }
    // Of what is drawn: the least of all calls is not.
    const axis = new ValueAxis(unit, extentOfValues(values.map(({ v }) => v)));
    const tips = tooltip(drawing, [
      { title: "percentile", expression: "datum.line" },
      { title: "time", expression: time.expression("datum.t") },
      { title: name, expression: formatExpression(unit, "datum.v", 4) },
      { title: "samples in the column", expression: "format(datum.n, ',')" },
    ]);
    const legend: Spec = {
      title: null,
      direction: "horizontal",
      columns: drawn.length,
      columnPadding: 18,
    };
    const domain = drawn.map((line) => line.name);
    const encoding: Spec = {
      x: { field: "t", ...time.encoding(i === directions.length - 1, drawing.use) },
      y: {
        field: "v",
        type: "quantitative",
        scale: axis.scale,
        axis: axis.axis(`${name}, ${LOOKS[direction].name}`, drawing.use),
      },
    };
    return {
      width: PANEL_WIDTH,
      height,
      title: { text: figures(quantity, direction), fontSize: 11, offset: 5, anchor: "start" },
      data: { values },
      transform: tips.transform,
      encoding,
      layer: [
        {
          name: LOOKS[direction].name,
          mark: { type: "line", strokeWidth: 1.6, clip: drawing.use === "interactive" },
          encoding: {
            detail: { field: "run", type: "nominal" },
            color: {
              field: "line",
              type: "nominal",
              scale: { domain, range: drawn.map((line) => line.colour) },
              legend,
            },
            strokeDash: {
              field: "line",
              type: "nominal",
              scale: { domain, range: drawn.map((line) => [...line.dash]) },
              legend,
            },
          },
        },
        ...tips.points,
      ],
    };
  });
  const title = `Percentiles of ${name} over time`;
  const notes = [
    `Columns of ${spanText(columns.widthSec)}. A percentile is drawn where its column has samples ` +
      "enough: 2 for p50, 10 for p90, 100 for p99, 1,000 for p99.9." +
      (below === 0
        ? ""
        : ` Not drawn: ${counted(below, "column")} of a single call below all medians, which would ` +
          "stretch the axis."),
  ];
  const what = "How the typical call fared, and how the slowest did.";
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

/**
 * Below it, a column of a single call is not drawn: a call that was faster than all medians is not
 * what its line, the greatest value, is looked at for. 0 where no column has more than one call.
 */
function floorOf(columns: readonly Histogram[]): number {
  const several = columns.filter(({ count }) => count > 1);
  return several.length === 0 ? 0 : Math.min(...several.map((column) => column.quantile(0.5)!));
}
