// What the benchmarks tell: rows of a figure with its spread, judged where there is a target.

import type { Spread } from "./stats.ts";

export interface Target {
  /** "<=" where less is better. */
  readonly sign: "<=" | ">=" | "=";
  readonly value: number;
}

export interface Row {
  readonly bench: string;
  readonly what: string;
  readonly unit: string;
  readonly spread: Spread;
  /** Digits after the point. */
  readonly digits: number;
  readonly target: Target | null;
  readonly met: boolean | null;
}

export class Report {
  readonly rows: Row[] = [];
  /** What a reader must know to believe the rows. */
  readonly notes: string[] = [];

  constructor(readonly progress: (line: string) => void) {}

  add(
    bench: string,
    what: string,
    unit: string,
    spread: Spread,
    options: { digits?: number; target?: Target } = {},
  ): void {
    const target = options.target ?? null;
    const met = target === null ? null : holds(spread.median, target);
    const row = { bench, what, unit, spread, digits: options.digits ?? 1, target, met };
    this.rows.push(row);
    this.progress(`  ${line(row)}`);
  }

  get missed(): Row[] {
    return this.rows.filter((row) => row.met === false);
  }

  table(): string {
    const cells = [
      ["bench", "what", "median", "95 % interval", "unit", "n", "target", ""],
      ...this.rows.map((row) => [
        row.bench,
        row.what,
        figure(row.spread.median, row.digits),
        interval(row),
        row.unit,
        `${row.spread.count}`,
        row.target === null ? "" : targetText(row),
        verdict(row),
      ]),
    ];
    const rightAligned = [2, 5];
    const widths = cells[0]!.map((_, at) => Math.max(...cells.map((row) => row[at]!.length)));
    const pad = (cell: string, at: number) =>
      rightAligned.includes(at) ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!);
    const lines = cells.map((row) => row.map(pad).join("  ").trimEnd());
    lines.splice(1, 0, "-".repeat(Math.max(...lines.map((each) => each.length))));
    return [...lines, ...this.notes.map((note) => `* ${note}`)].join("\n");
  }
}

function holds(value: number, { sign, value: bound }: Target): boolean {
  if (Number.isNaN(value)) return false;
  return sign === "<=" ? value <= bound : sign === ">=" ? value >= bound : value === bound;
}

function figure(value: number, digits: number): string {
  return value.toFixed(digits);
}

function interval({ spread, digits }: Row): string {
  return spread.count < 2 ? "" : `${figure(spread.low, digits)} .. ${figure(spread.high, digits)}`;
}

function targetText({ target, unit }: Row): string {
  return `${target!.sign} ${target!.value}${unit === "" ? "" : ` ${unit}`}`;
}

function verdict(row: Row): string {
  return row.met === null ? "" : row.met ? "met" : "MISSED";
}

function line(row: Row): string {
  const wide = interval(row);
  return [
    `${row.what}: ${figure(row.spread.median, row.digits)} ${row.unit}`.trimEnd(),
    wide === "" ? "" : ` (${wide})`,
    row.target === null ? "" : `, target ${targetText(row)}: ${verdict(row)}`,
  ].join("");
}
