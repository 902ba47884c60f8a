// Cumulative distribution: the share of the samples that is not above a value.

import { extentOf, formatExpression, ValueAxis } from "../axes.ts";
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
import type { Page, Spec } from "../spec.ts";
import { directionLegend, directionScales, LOOKS, PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";
import { type Direction, IN, OUT, type Series } from "../model.ts";

interface Step extends Spec {
  v: number;
  share: number;
}

export function cdf(drawing: Drawing, quantity: Quantity, id: string, what: string): Page {
  const { series, unit, name } = quantity;
  const { directions } = series;
  const axis = new ValueAxis(unit, extentOf(series.all));
  const values: Spec[] = directions.flatMap((direction) =>
    steps(series, direction, axis).map((step) => ({ ...step, dir: LOOKS[direction].name })),
  );
  const scales = directionScales(directions);
  const legend: Spec = {
    title: null,
    labelExpr: directionLegend([figures(quantity, OUT), figures(quantity, IN)]),
  };
  const encoding: Spec = {
    x: { field: "v", type: "quantitative", scale: axis.scale, axis: axis.axis(name, drawing.use) },
    y: {
      field: "share",
      type: "quantitative",
      scale: { domain: [0, 1], nice: false },
      axis: {
        title: `share of the ${quantity.sample}s`,
        labelExpr: "format(datum.value * 100, '.6~r') + ' %'",
        tickCount: 10,
      },
    },
  };
  const tips = tooltip(drawing, [
    { title: "direction", expression: "datum.dir" },
    { title: name, expression: formatExpression(unit, "datum.v", 4) },
    { title: "not above it", expression: "format(datum.share, '.4%')" },
  ]);
  const panel: Spec = {
    width: PANEL_WIDTH,
    height: PAGE_HEIGHT,
    data: { values },
    transform: tips.transform,
    encoding,
    layer: [
      {
        name: "lines",
        mark: { type: "line", interpolate: "step-after", strokeWidth: 2, clip: true },
        encoding: {
          color: { field: "dir", type: "nominal", scale: scales.color!, legend },
          strokeDash: { field: "dir", type: "nominal", scale: scales.strokeDash!, legend },
        },
      },
      ...tips.points,
    ],
  };
  const title = `Cumulative distribution (CDF) of ${name}`;
  const notes = [`From ${counted(series.count, "sample")}; ${stepsText(series)}`];
  const spec = frame(drawing, title, what, [panel], notes);
  return { id, title, spec: canZoom(axis) ? zoomable(drawing, spec, "x", ["lines"]) : spec };
}

/** From share 0 over every rise to the end of the axis at share 1. */
function steps(series: Series, direction: Direction, axis: ValueAxis): Step[] {
  const { count, min } = series.all[direction];
  const rises = risesOf(series, direction);
  const steps = rises.map(({ value, passed }): Step => ({ v: value, share: passed / count }));
  // The first bucket ends above the least value, at which there is one sample.
  if (rises[0]!.value > min!) steps.unshift({ v: min!, share: 1 / count });
  const before = axis.kind === "log" ? min! : axis.low;
  return [{ v: before, share: 0 }, ...steps, { v: axis.high, share: 1 }];
}
