// What the benchmarks tell: rows of a figure with its interval, judged where there is a target: "met" if
// the whole interval meets it, "MISSED" if none of it does, "open" where the interval reaches across
// the target, so that the run cannot tell.

import type { Spread } from "./stats.ts";

export interface Target {
  /** "<=" where less is better. */
  readonly sign: "<=" | ">=" | "=";
  readonly value: number;
}

export type Verdict = "met" | "open" | "missed";

export interface Row {
  readonly bench: string;
  readonly what: string;
  readonly unit: string;
  readonly spread: Spread;
  /** Digits after the point. */
  readonly digits: number;
  readonly target: Target | null;
  readonly verdict: Verdict | null;
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
    const verdict = target === null ? null : judged(spread, target);
    const row = { bench, what, unit, spread, digits: options.digits ?? 1, target, verdict };
    this.rows.push(row);
    this.progress(`  ${line(row)}`);
  }

  get missed(): Row[] {
    return this.rows.filter((row) => row.verdict === "missed");
  }

  table(): string {
    const cells = [
      ["bench", "what", "figure", "95 % interval", "unit", "n", "target", ""],
      ...this.rows.map((row) => [
        row.bench,
        row.what,
        figure(row.spread.value, row.digits),
        interval(row),
        row.unit,
        `${row.spread.count}`,
        row.target === null ? "" : targetText(row),
        verdictText(row),
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

/** A figure that is none has missed. */
export function judged({ value, low, high }: Spread, { sign, value: bound }: Target): Verdict {
  if (Number.isNaN(value)) return "missed";
  const [isAllBelow, isAllAbove] = [high <= bound, low >= bound];
  if (sign === "=" ? isAllBelow && isAllAbove : sign === "<=" ? isAllBelow : isAllAbove) return "met";
  return low <= bound && bound <= high ? "open" : "missed";
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

function verdictText({ verdict }: Row): string {
  return verdict === "missed" ? "MISSED" : (verdict ?? "");
}

function line(row: Row): string {
  const wide = interval(row);
  return [
    `${row.what}: ${figure(row.spread.value, row.digits)} ${row.unit}`.trimEnd(),
    wide === "" ? "" : ` (${wide})`,
    row.target === null ? "" : `, target ${targetText(row)}: ${verdictText(row)}`,
  ].join("");
}
