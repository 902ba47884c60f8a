// `kqtime export`: the samples of logs for other programs.

import { ParquetOutput } from "../analysis/parquet.ts";
import type { Window } from "../analysis/window.ts";
import { ExitCode } from "../errors.ts";
import { formatExact } from "../output/units.ts";
import { readGiven } from "./logs.ts";
import { warn } from "./stderr.ts";

export interface ExportCommand {
  readonly logs: readonly string[];
  readonly parquet: string;
  readonly window: Window;
}

/** Returns the exit code. @throws KQTimeError */
export function exportCommand({ logs, parquet, window }: ExportCommand): number {
  const output = new ParquetOutput(parquet, window);
  try {
    readGiven("export", logs, output);
    output.finish();
  } catch (error) {
    output.abandon();
    throw error;
  }
  warn(`${formatExact(output.rows)} ${output.rows === 1 ? "row" : "rows"} written to ${parquet}`);
  return ExitCode.Ok;
}
