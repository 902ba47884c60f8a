// Cumulative distribution: the share of the samples that is not above a value.

import type { Histogram } from "../../output/histogram.ts";
import { bucketEdges, extentOf, formatExpression, ValueAxis } from "../axes.ts";
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
import { IN, OUT } from "../model.ts";

interface Step extends Spec {
  v: number;
  share: number;
}

export function cdf(drawing: Drawing, quantity: Quantity, id: string, what: string): Page {
  const { series, unit, name } = quantity;
  const { directions } = series;
  const axis = new ValueAxis(unit, extentOf(series.all));
  const values: Spec[] = directions.flatMap((direction) =>
    steps(series.all[direction], axis).map((step) => ({ ...step, dir: LOOKS[direction].name })),
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
        mark: { type: "line", strokeWidth: 2, clip: true },
        encoding: {
          color: { field: "dir", type: "nominal", scale: scales.color!, legend },
          strokeDash: { field: "dir", type: "nominal", scale: scales.strokeDash!, legend },
        },
      },
      ...tips.points,
    ],
  };
  const title = `Cumulative distribution (CDF) of ${name}`;
  const spec = frame(drawing, title, what, [panel], cdfNotes(series.all));
  return { id, title, spec: canZoom(axis) ? zoomable(drawing, spec, "x", ["lines"]) : spec };
}

/**
 * From share 0 over every bucket to the end of the axis at share 1: it rises evenly within a bucket
 * and is level between two.
 */
function steps(histogram: Histogram, axis: ValueAxis): Step[] {
  const steps: Step[] = [{ v: histogram.min!, share: 0 }];
  if (axis.kind === "symlog" || (axis.kind === "linear" && axis.low < histogram.min!)) {
    steps.unshift({ v: axis.low, share: 0 });
  }
  let passed = 0;
  histogram.forEachBucket((bucket, weight) => {
    const { low, high } = bucketEdges(histogram, bucket);
    steps.push({ v: low, share: passed / histogram.count });
    passed += weight;
    steps.push({ v: high, share: passed / histogram.count });
  });
  return [...steps, { v: axis.high, share: 1 }];
}

function cdfNotes(histograms: readonly Histogram[]): string[] {
  const count = histograms.reduce((sum, histogram) => sum + histogram.count, 0);
  return [
    `From ${counted(count, "sample")}; values are put together in steps of at most 1.6 %, ` +
      "the least and the greatest are exact.",
  ];
}
