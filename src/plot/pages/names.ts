// Queue time by name (or label): one row for each, the busiest first.

import { Histogram } from "../../output/histogram.ts";
import { NO_NAME, readableName } from "../../output/name.ts";
import { formatCount, formatExact } from "../../output/units.ts";
import { extentOf, formatExpression, ValueAxis } from "../axes.ts";
import { MOST_NAMES } from "../model.ts";
import { displayNames } from "../names.ts";
import { counted, frame, tooltip, type Drawing } from "../page.ts";
import type { Page, Spec } from "../spec.ts";
import { LABEL_SIZE, LOOKS, PAGE_HEIGHT, TEXT_WIDTH } from "../theme.ts";

/** As many names have a row of their own; all others share one more. */
const MOST_ROWS = 20;
const MOST_NAME_PX = 200;
const COUNT_PX = 46;
const GAP_PX = 14;
const MOST_ROW_PX = 34;
/** Of all rows together: a page with one name is more than a strip. */
const LEAST_PX = 200;
const MOST_BAR_PX = 16;
/** Room of a label under the axis. */
const TICK_PX = 48;

interface Row {
  readonly name: string;
  readonly of: readonly [Histogram, Histogram];
}

export function byName(drawing: Drawing, id: string): Page {
  const { model, font } = drawing;
  const { directions } = model.times;
  const rows = rowsOf(drawing);
  const shown = displayNames(
    rows.map(({ name }) => readableName(name)),
    font,
    LABEL_SIZE,
    MOST_NAME_PX,
  );
  const height = Math.min(PAGE_HEIGHT, Math.max(LEAST_PX, rows.length * MOST_ROW_PX));
  const labels = Math.ceil(Math.max(...shown.map((name) => font.width(name, LABEL_SIZE)))) + 10;
  const width = (TEXT_WIDTH - labels + GAP_PX) / directions.length - COUNT_PX - GAP_PX;
  const axis = new ValueAxis("time", extentOf(model.times.all));
  const bar = Math.max(4, Math.min(MOST_BAR_PX, height / rows.length - 6));
  const panels = directions.map((direction, i): Spec => {
    const look = LOOKS[direction];
    const values = rows.flatMap(({ of }, row): Spec[] => {
      const histogram = of[direction];
      if (histogram.count === 0) return [];
      return [
        {
          row: shown[row]!,
          calls: countText(histogram.count),
          min: histogram.min!,
          p10: histogram.quantile(0.1)!,
          p50: histogram.quantile(0.5)!,
          p90: histogram.quantile(0.9)!,
          p99: histogram.quantile(0.99)!,
          max: histogram.max!,
        },
      ];
    });
    const tips = tooltip(drawing, [
      { title: "name", expression: "datum.row" },
      { title: "calls", expression: "datum.calls" },
      ...["max", "p99", "p90", "p50", "p10", "min"].map((field) => ({
        title: field,
        expression: formatExpression("time", `datum.${field}`, 4),
      })),
    ]);
    const x = (field: string): Spec => ({
      field,
      type: "quantitative",
      scale: axis.scale,
      axis: axis.axis(
        `queue time, ${look.name}`,
        "still",
        width / TICK_PX,
      ),
    });
    const y: Spec = {
      field: "row",
      type: "nominal",
      sort: null,
      scale: { domain: shown },
      axis:
        i === 0
          ? {
              title: null,
              ticks: false,
              grid: true,
              minExtent: labels,
              maxExtent: labels,
              labelPadding: 6,
            }
          : { title: null, ticks: false, labels: false, grid: true, minExtent: 0, maxExtent: 0 },
    };
    const span = (low: string, high: string, mark: Spec): Spec => ({
      mark,
      encoding: { x: x(low), x2: { field: high }, y, ...tips.encoding },
    });
    const at = (field: string, mark: Spec): Spec => ({
      mark,
      encoding: { x: x(field), y, ...tips.encoding },
    });
    return {
      width,
      height,
      title: { text: `${look.name}`, fontSize: 11, offset: 5, anchor: "start" },
      data: { values },
      transform: tips.transform,
      layer: [
        span("min", "max", { type: "rule", color: look.colour, strokeWidth: 1 }),
        at("min", { type: "tick", color: look.colour, size: bar * 0.7, thickness: 1 }),
        at("max", { type: "tick", color: look.colour, size: bar * 0.7, thickness: 1 }),
        span("p10", "p90", { type: "bar", color: look.colour, opacity: 0.55, height: bar }),
        at("p50", { type: "tick", color: "#000000", size: bar + 3, thickness: 2 }),
        at("p99", {
          type: "point",
          shape: "diamond",
          color: "#000000",
          fill: "#ffffff",
          size: 26,
          opacity: 1,
          strokeWidth: 1,
        }),
        {
          mark: {
            type: "text",
            align: "right",
            dx: COUNT_PX - 4,
            fontSize: LABEL_SIZE,
            color: "#222222",
          },
          encoding: { x: { value: width }, y, text: { field: "calls" } },
        },
      ],
    };
  });
  const title = "Queue time by name";
  const what =
    "Line: least to greatest; bar: the middle 80 % (p10 to p90); black: median; diamond: p99; " +
    "on the right: calls.";
  const notes: string[] = [];
  if (model.otherNames.some((histogram) => histogram.count > 0)) {
    notes.push(`Only the first ${formatExact(MOST_NAMES)} names of the input were told apart.`);
  }
  const row: Spec = { hconcat: panels, spacing: GAP_PX + COUNT_PX, bounds: "flush" };
  return { id, title, spec: frame(drawing, title, what, [row], notes, TEXT_WIDTH - labels) };
}

/** As exact as there is room for. */
function countText(count: number): string {
  return count < 100_000 ? formatExact(count) : formatCount(count);
}

/** The busiest names, and one row for all others. */
function rowsOf({ model, nameOf }: Drawing): Row[] {
  const calls = (row: Row): number => row.of[0].count + row.of[1].count;
  const named = new Map<string, Row>();
  model.names.forEach((of, number) => {
    const own: Row = { name: nameOf(number), of };
    if (calls(own) === 0) return;
    // A log writes no name in two ways.
    const name = own.name === NO_NAME ? "" : own.name;
    const same = named.get(name);
    named.set(name, { name, of: same === undefined ? of : merged([same, own]) });
  });
  const rows = [...named.values()];
  rows.sort((a, b) => calls(b) - calls(a) || (a.name < b.name ? -1 : 1));
  const isMore = calls({ name: "", of: model.otherNames }) > 0;
  const rest = rows.slice(MOST_ROWS);
  if (rest.length === 0 && !isMore) return rows;
  const names = counted(rest.length + (isMore ? 1 : 0), "other name");
  const others = `(${isMore ? "at least " : ""}${names})`;
  const of = merged([...rest, { of: model.otherNames }]);
  return [...rows.slice(0, MOST_ROWS), { name: others, of }];
}

function merged(rows: readonly Pick<Row, "of">[]): Row["of"] {
  const sum = [new Histogram(), new Histogram()] as const;
  for (const { of } of rows) {
    sum[0].merge(of[0]);
    sum[1].merge(of[1]);
  }
  return sum;
}
