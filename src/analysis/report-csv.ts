// A report as CSV (RFC 4180): a row for each group and direction, times in ns.

import type { Distribution, InSummary, OutSummary, Summary } from "../output/summary.ts";

const SUMS = ["sockets", "calls", "bytes_called", "bytes_matched", "coverage"];
const TIMES = ["count", "min", "mean", "p50", "p90", "p99", "p999", "max"] as const;

/** Quoted where it must be; what a spreadsheet would take for a formula is text. */
export function csvField(text: string): string {
  const plain = /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

export function reportCsv(summary: Summary): string {
  const heads = ["group", "direction", ...SUMS];
  for (const weight of ["call", "byte"]) {
    for (const time of TIMES) heads.push(time === "count" ? `${weight}_count` : `${weight}_${time}_ns`);
  }
  const rows = [heads.join(",")];
  for (const entry of summary.labels) {
    rows.push(row(entry.label, "out", entry.out), row(entry.label, "in", entry.in));
  }
  return `${rows.join("\r\n")}\r\n`;
}

function row(group: string, direction: string, side: OutSummary | InSummary): string {
  const { sockets, calls, bytesCalled, bytesMatched, coverage } = side;
  const cells = [sockets, calls, bytesCalled, bytesMatched, coverage].map(cell);
  const times = [side.callNs, side.byteNs].flatMap((distribution: Distribution) =>
    TIMES.map((time) => cell(distribution[time])),
  );
  return [csvField(group), direction, ...cells, ...times].join(",");
}

function cell(value: number | null): string {
  return value === null ? "" : String(value);
}
