// `kqtime run` on a terminal: warnings as they come, the summary at the end, all on stderr.

import { renderSummary } from "../output/table.ts";
import type { Summary } from "../output/summary.ts";
import { run, type RunOptions } from "../session/run.ts";

const COLUMNS = 100;

/** Returns the exit code. @throws KQTimeError */
export async function runCommand(
  options: Omit<RunOptions, "onWarning">,
  quiet: boolean,
): Promise<number> {
  const { exitCode, summary } = await run({ ...options, onWarning: warn });
  if (summary !== null && !quiet) printSummary(summary);
  return exitCode;
}

export function warn(message: string): void {
  process.stderr.write(`kqtime: ${message}\n`);
}

export function printSummary(summary: Summary): void {
  const { stderr } = process;
  const columns = stderr.isTTY === true ? Math.max(80, Math.min(stderr.columns, 160)) : COLUMNS;
  const color = stderr.isTTY === true && !process.env.NO_COLOR;
  stderr.write(`\n${renderSummary(summary, { columns, color })}`);
}
