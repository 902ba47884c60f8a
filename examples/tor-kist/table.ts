// The table of a comparison: a row a variant, each figure the median of its runs with the lowest and
// the highest of them.

import { median } from "../../tools/bench/stats.ts";
import type { Result } from "./run.ts";

const COLUMNS: [string, (result: Result) => number][] = [
  ["queue p50", (result) => result.queueNs.p50 / 1e6],
  ["p90", (result) => result.queueNs.p90 / 1e6],
  ["p99 (ms, by byte)", (result) => result.queueNs.p99 / 1e6],
  ["Mbit/s", (result) => result.throughputMbit],
  ["probe p50", (result) => result.roundTripMs.p50],
  ["p99 (ms)", (result) => result.roundTripMs.p99],
];

export function table(variants: readonly string[], results: readonly Result[]): string {
  const rows = [["variant", "scheduler", ...COLUMNS.map(([title]) => title), "coverage"]];
  for (const variant of variants) {
    const own = results.filter((result) => result.variant === variant);
    if (own.length === 0) continue;
    const coverage = Math.min(...own.map((result) => result.coverage ?? 0));
    rows.push([
      variant,
      [...new Set(own.map((result) => result.scheduler))].join(", "),
      ...COLUMNS.map(([, value]) => cell(own.map(value))),
      // Cut, not rounded: only all is 100 %.
      `${Math.floor(coverage * 1e4) / 100} %`,
    ]);
  }
  const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => row[at].length)));
  return rows
    .map((row) => row.map((text, at) => (at < 2 ? text.padEnd(widths[at]) : text.padStart(widths[at]))))
    .map((row) => row.join("  ").trimEnd())
    .join("\n");
}

function cell(values: readonly number[]): string {
  const middle = median(values);
  if (values.length < 2) return figure(middle);
  return `${figure(middle)} (${figure(Math.min(...values))}–${figure(Math.max(...values))})`;
}

function figure(value: number): string {
  if (Number.isNaN(value)) return "–";
  return value >= 99.95 ? value.toFixed(0) : value >= 0.995 ? value.toFixed(1) : value.toFixed(3);
}
