// `kqtime run` on a terminal: warnings as they come, the summary at the end, all on stderr.

import { lossSentences } from "../output/losses.ts";
import { renderSummary } from "../output/table.ts";
import type { Summary } from "../output/summary.ts";
import { run, type RunOptions } from "../session/run.ts";
import { whileMeasuring } from "./mid-run.ts";
import { tell, warn } from "./stderr.ts";

const COLUMNS = 100;

/** Returns the exit code. @throws KQTimeError */
export async function runCommand(
  options: Omit<RunOptions, "onWarning" | "onInterval">,
  quiet: boolean,
): Promise<number> {
  const { exitCode, summary, untold } = await whileMeasuring((said) => run({ ...options, ...said }));
  if (summary !== null) report(summary, untold, quiet);
  return exitCode;
}

/** At the end; what was lost, or not measured, is said in any case. */
export function report(summary: Summary, untold: readonly string[], quiet: boolean): void {
  if (quiet) for (const sentence of [...untold, ...lossSentences(summary.losses)]) warn(sentence);
  else printSummary(summary);
}

export function printSummary(summary: Summary): void {
  const { isTTY, columns: wide } = process.stderr;
  const columns = isTTY === true ? Math.max(80, Math.min(wide, 160)) : COLUMNS;
  const color = isTTY === true && !process.env.NO_COLOR;
  tell(`\n${renderSummary(summary, { columns, color })}`);
}
