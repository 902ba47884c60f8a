// `kqtime compare`: what differs between two logs, and how sure that is.

import {
  BLOCKS_NEEDED,
  CALLS_NEEDED,
  type CompareOptions,
  compareSides,
  CONFIDENCE,
  type Difference,
  QUANTILE_NAMES,
  type Side,
  SideBuilder,
} from "../analysis/compare.ts";
import type { LineChoice } from "../analysis/line-choice.ts";
import { TextOutput } from "../analysis/text-output.ts";
import { Window } from "../analysis/window.ts";
import { ExitCode } from "../errors.ts";
import { fitMiddle, padEnd } from "../output/fit.ts";
import { printable, readableName } from "../output/name.ts";
import { formatCount, formatExact, formatTime } from "../output/units.ts";
import { holdsNo, readGiven } from "./logs.ts";
import { warn } from "./stderr.ts";

/** Groups that the warning of too few blocks names. */
const GROUPS_NAMED = 3;
const LABEL_COLUMNS_MOST = 48;

export interface CompareCommand extends CompareOptions {
  /** The files of A, and those of B. */
  readonly logs: readonly [readonly string[], readonly string[]];
  readonly window: Window;
  readonly json: boolean;
}

/** Returns the exit code. @throws KQTimeError */
export function compareCommand(options: CompareCommand): number {
  const { logs, window, json } = options;
  const choices: (readonly LineChoice[])[] = [];
  const [a, b] = logs.map((files, index) => {
    // A window of its own for each: `+30s` counts from each log's start.
    const builder = new SideBuilder(options, new Window(window.since, window.until), index);
    choices[index] = readGiven("compare", files, builder).lineChoices;
    const side = builder.finish();
    // Its resamples took the most memory of all: they go before the other log's come.
    Bun.gc(true);
    if (side.negative > 0) {
      warn(`${files.join(", ")}: ${side.negative} calls left out, their time is below zero`);
    }
    if (side.calls > 0) return side;
    throw holdsNo("call", "compare", files, window);
  }) as [Side, Side];
  const differences = compareSides(a, b);
  const output = new TextOutput();
  if (json) {
    const { blockNs, resamples, seed, by } = options;
    const about = (side: Side, index: 0 | 1) => ({
      log: logs[index].join(", "),
      logs: logs[index],
      lineChoices: choices[index],
      from: side.from,
      to: side.to,
      calls: side.calls,
      blocks: side.blocks,
      callsBelowZero: side.negative,
    });
    const method = { blockNs, resamples, seed, by, confidence: CONFIDENCE };
    const sides = { a: about(a, 0), b: about(b, 1) };
    output.put(`${JSON.stringify({ ...sides, ...method, differences }, null, 2)}\n`);
  } else {
    output.put(compareText(options, a, b, differences));
  }
  const sentence = tooFewBlocks(differences, options.blockNs);
  if (sentence !== null) warn(sentence);
  return ExitCode.Ok;
}

/** Which intervals are too narrow; null if none is. */
function tooFewBlocks(rows: readonly Difference[], blockNs: number): string | null {
  const named = new Map<string, number>();
  for (const { group, direction, aBlocks, bBlocks, note } of rows) {
    if (note !== "too few blocks") continue;
    named.set(`${groupText(group)} ${direction}bound`, Math.min(aBlocks, bBlocks));
  }
  if (named.size === 0) return null;
  const first = [...named].slice(0, GROUPS_NAMED).map(([name, blocks]) => `${name}: ${blocks}`);
  const more = named.size > GROUPS_NAMED ? `, … (${named.size} in all)` : "";
  return (
    `fewer than ${BLOCKS_NEEDED} blocks of ${formatTime(blockNs)} have calls of ` +
    `${first.join(", ")}${more}: such intervals are too narrow; measure longer, or try a shorter --block`
  );
}

function compareText(options: CompareCommand, a: Side, b: Side, rows: readonly Difference[]): string {
  const { logs, blockNs, resamples, seed } = options;
  const about = (name: string, files: readonly string[], side: Side) =>
    `${name}  ${printable(files.join(", "))}: ${formatCount(side.calls)} calls, ${side.from} to ${side.to}`;
  const lines = [
    about("A", logs[0], a),
    about("B", logs[1], b),
    "",
    `B − A with its 95 % interval: ${resamples} bootstrap resamples of blocks of ` +
      `${formatTime(blockNs)} (${a.blocks} and ${b.blocks}), seed ${seed}`,
    "* = the interval does not hold zero; figures are within 1 %",
    "by byte: a call's bytes are taken to lie evenly between its first and its last, which is wrong",
    "  where connections stalled within a call (a lost packet inbound, a closed window outbound)",
    "This pair of runs alone does not tell cause from chance between runs: repeat the pair.",
  ];
  for (const direction of ["out", "in"] as const) {
    const own = rows.filter((row) => row.direction === direction);
    if (own.length === 0) continue;
    lines.push("", direction === "out" ? "Outbound" : "Inbound");
    const heads = ["A", "B", "B − A", "from", "to"].map((head) => head.padStart(10)).join("");
    const widths = own.map(({ group }) => Bun.stringWidth(groupText(group)));
    const columns = Math.min(LABEL_COLUMNS_MOST, Math.max("label".length, ...widths));
    lines.push(`${padEnd("label", columns)} by   quantile${heads}`);
    for (const row of own) lines.push(rowText(row, columns));
  }
  const noted = (note: Difference["note"]) => rows.some((row) => row.note === note);
  if (rows.some((row) => row.note !== null)) lines.push("");
  if (noted("too few calls")) {
    const needed = QUANTILE_NAMES.map((name, i) => `${name} ${formatExact(CALLS_NEEDED[i]!)}`);
    lines.push(`- = too few calls in one of the logs: ${needed.join(", ")} are needed`);
  }
  if (noted("too few blocks")) {
    lines.push(
      `? = the group has calls in fewer than ${BLOCKS_NEEDED} blocks of one of the logs: ` +
        "its interval is too narrow",
    );
  }
  return `${lines.join("\n")}\n`;
}

function rowText(row: Difference, columns: number): string {
  // The label stands once a weighting.
  const first = row.quantile === "p50";
  const label = padEnd(first ? fitMiddle(groupText(row.group), columns) : "", columns);
  const weight = first ? row.weight : "    ";
  const times = [formatTime(row.aNs), formatTime(row.bNs), signed(row.differenceNs)];
  const cells = [...times, signed(row.lowNs), signed(row.highNs)].map((cell) => cell.padStart(10));
  const mark = row.differs ? " *" : row.note === "too few blocks" ? " ?" : "";
  return `${label} ${weight} ${row.quantile.padEnd(8)}${cells.join("")}${mark}`;
}

function groupText(group: string): string {
  return printable(readableName(group));
}

function signed(ns: number | null): string {
  if (ns === null) return "-";
  if (ns === 0) return "0";
  return (ns < 0 ? "−" : "+") + formatTime(Math.abs(ns));
}
