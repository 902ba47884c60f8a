// `kqtime compare`: what differs between two logs, and how sure that is.

import {
  type CompareOptions,
  compareSides,
  CONFIDENCE,
  type Difference,
  type Side,
  SideBuilder,
} from "../analysis/compare.ts";
import { TextOutput } from "../analysis/text-output.ts";
import { Window } from "../analysis/window.ts";
import { ExitCode, KQTimeError } from "../errors.ts";
import { printable } from "../output/name.ts";
import { formatCount, formatTime } from "../output/units.ts";
import { readGiven } from "./logs.ts";
import { warn } from "./stderr.ts";

/** With fewer blocks the intervals are too narrow. */
const BLOCKS_LEAST = 20;
const LABEL_COLUMNS = 20;

export interface CompareCommand extends CompareOptions {
  readonly logs: readonly [string, string];
  readonly window: Window;
  readonly json: boolean;
}

/** Returns the exit code. @throws KQTimeError */
export function compareCommand(options: CompareCommand): number {
  const { logs, window, json } = options;
  const [a, b] = logs.map((log, index) => {
    // A window of its own for each: `+30s` counts from each log's start.
    const builder = new SideBuilder(options, new Window(window.since, window.until), index);
    readGiven("compare", [log], builder);
    const side = builder.finish();
    // Its resamples took the most memory of all: they go before the other log's come.
    Bun.gc(true);
    if (side.negative > 0) warn(`${log}: ${side.negative} calls left out, their time is below zero`);
    if (side.calls > 0) return side;
    const where = window.whole ? "" : " in this window (times without a zone are local)";
    throw new KQTimeError("E_EMPTY", "compare", `${log} holds no call${where}`);
  }) as [Side, Side];
  const differences = compareSides(a, b);
  const output = new TextOutput();
  if (json) {
    const { blockNs, resamples, seed, by } = options;
    const about = (side: Side, log: string) => ({
      log,
      from: side.from,
      to: side.to,
      calls: side.calls,
      blocks: side.blocks,
      callsBelowZero: side.negative,
    });
    const method = { blockNs, resamples, seed, by, confidence: CONFIDENCE };
    const sides = { a: about(a, logs[0]), b: about(b, logs[1]) };
    output.put(`${JSON.stringify({ ...sides, ...method, differences }, null, 2)}\n`);
  } else {
    output.put(compareText(options, a, b, differences));
  }
  const least = Math.min(a.blocks, b.blocks);
  if (least < BLOCKS_LEAST) {
    warn(
      `the intervals rest on ${least} blocks of ${formatTime(options.blockNs)} only, and are too ` +
        `narrow: measure longer (${BLOCKS_LEAST} blocks or more), or try a shorter --block`,
    );
  }
  return ExitCode.Ok;
}

function compareText(options: CompareCommand, a: Side, b: Side, rows: readonly Difference[]): string {
  const { logs, blockNs, resamples, seed } = options;
  const about = (name: string, log: string, side: Side) =>
    `${name}  ${printable(log)}: ${formatCount(side.calls)} calls, ${side.from} to ${side.to}`;
  const lines = [
    about("A", logs[0], a),
    about("B", logs[1], b),
    "",
    `B − A with its 95 % interval: ${resamples} bootstrap resamples of blocks of ` +
      `${formatTime(blockNs)} (${a.blocks} and ${b.blocks}), seed ${seed}`,
    "* = the interval does not hold zero; figures are within 1 %",
  ];
  for (const direction of ["out", "in"] as const) {
    const own = rows.filter((row) => row.direction === direction);
    if (own.length === 0) continue;
    lines.push("", direction === "out" ? "Outbound" : "Inbound");
    const heads = ["A", "B", "B − A", "from", "to"].map((head) => head.padStart(10)).join("");
    lines.push(`${"label".padEnd(LABEL_COLUMNS)} by   quantile${heads}`);
    for (const row of own) lines.push(rowText(row));
  }
  return `${lines.join("\n")}\n`;
}

function rowText(row: Difference): string {
  // The label stands once a weighting.
  const first = row.quantile === "p50";
  const name = row.group === "NULL" ? "no label" : printable(row.group);
  const label = first ? name.slice(0, LABEL_COLUMNS).padEnd(LABEL_COLUMNS) : " ".repeat(LABEL_COLUMNS);
  const weight = first ? row.weight : "    ";
  const times = [formatTime(row.aNs), formatTime(row.bNs), signed(row.differenceNs)];
  const cells = [...times, signed(row.lowNs), signed(row.highNs)].map((cell) => cell.padStart(10));
  return `${label} ${weight} ${row.quantile.padEnd(8)}${cells.join("")}${row.differs ? " *" : ""}`;
}

function signed(ns: number | null): string {
  if (ns === null) return "-";
  if (ns === 0) return "0";
  return (ns < 0 ? "−" : "+") + formatTime(Math.abs(ns));
}
