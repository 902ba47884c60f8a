// Heatmap: how many samples fell into each cell of time and value.

import { bucketLow, type Histogram } from "../../output/histogram.ts";
import { extentOf, formatExpression, ValueAxis } from "../axes.ts";
import {
  counted,
  figures,
  frame,
  tooltip,
  zoomable,
  type Drawing,
  type Quantity,
} from "../page.ts";
import type { Page, Spec } from "../spec.ts";
import { LOOKS, PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";
import { columnEdges, drawnColumns, spanText, timeAxis } from "./over-time.ts";

const MOST_COLUMNS = 160;
const ROWS = 36;
/** Fewer samples than this are better drawn one by one, as they are on another page. */
export const LEAST_SAMPLES = 500;
/** Cells overlap by this much, so that no viewer shows a seam between them. */
const SEAM_PX = 0.7;

export function heatmap(drawing: Drawing, quantity: Quantity, id: string): Page {
  const { series, unit, name } = quantity;
  const { directions } = series;
  const time = timeAxis(drawing, series);
  const columns = drawnColumns(series, MOST_COLUMNS);
  const height = (PAGE_HEIGHT - 60 - 20 * (directions.length - 1)) / directions.length;
  let most = 1;
  const panels = directions.map((direction, i): Spec => {
    const axis = new ValueAxis(unit, extentOf([series.all[direction]]));
    const edges = axis.rows(Math.round(ROWS / directions.length) + 6);
    const values: Spec[] = [];
    for (const [key, histogram] of columns.of[direction]) {
      const [t, end] = columnEdges(time, series, key, columns.widthSec);
      const counts = countRows(histogram, edges);
      counts.forEach((n, row) => {
        if (n === 0) return;
        most = Math.max(most, n);
        values.push({ t, end, low: edges[row]!, high: edges[row + 1]!, n });
      });
    }
    const value = (field: string): string => formatExpression(unit, `datum.${field}`, 3);
    const tips = tooltip(drawing, [
      { title: "from", expression: time.expression("datum.t") },
      { title: name, expression: `(${value("low")}) + ' to ' + (${value("high")})` },
      { title: "samples", expression: "format(datum.n, ',')" },
    ]);
    return {
      name: LOOKS[direction].name,
      width: PANEL_WIDTH,
      height,
      title: { text: figures(quantity, direction), fontSize: 11, offset: 5, anchor: "start" },
      data: { values },
      transform: tips.transform,
      mark: { type: "rect", x2Offset: SEAM_PX, yOffset: SEAM_PX, clip: true },
      encoding: {
        x: { field: "t", ...time.encoding(i === directions.length - 1, drawing.use) },
        x2: { field: "end" },
        y: {
          field: "low",
          type: "quantitative",
          scale: axis.scale,
          axis: axis.axis(`${name}, ${LOOKS[direction].name}`, drawing.use),
        },
        y2: { field: "high" },
        color: { field: "n", type: "quantitative" },
        ...tips.encoding,
      },
    };
  });
  const ticks = countTicks(most);
  for (const panel of panels) {
    const color = (panel.encoding as Spec).color as Spec;
    color.scale = {
      type: "log",
      scheme: "viridis",
      reverse: true,
      domain: [1, Math.max(most, 2)],
      clamp: true,
    };
    color.legend = {
      title: "samples in a cell",
      direction: "horizontal",
      gradientLength: 260,
      gradientThickness: 10,
      values: ticks,
      labelExpr: "format(datum.value, ',')",
    };
  }
  const title = `Heatmap of ${name} over time`;
  const notes = [
    `${counted(series.count, "sample")}; columns of ${spanText(columns.widthSec)}; ` +
      "a cell with even one sample is coloured, an empty one is white.",
  ];
  const spec = frame(drawing, title, "How often each time occurred, and when.", panels, notes);
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

/** How many samples of a histogram are in each row. */
function countRows(histogram: Histogram, edges: readonly number[]): number[] {
  const counts = new Array<number>(edges.length - 1).fill(0);
  let row = 0;
  histogram.forEachBucket((bucket, weight) => {
    while (row < counts.length - 1 && edges[row + 1]! <= bucketLow(bucket)) row++;
    counts[row]! += weight;
  });
  return counts;
}

/** Powers of ten, and the greatest count where it is not close to one. */
function countTicks(most: number): number[] {
  const ticks: number[] = [];
  for (let tick = 1; tick <= most; tick *= 10) ticks.push(tick);
  if (most >= 2 * ticks[ticks.length - 1]!) ticks.push(Math.floor(most));
  return ticks;
}
