// `kqtime replay`.

import { PrivateFile } from "../session/private-file.ts";
import { replay } from "../session/replay.ts";
import { ExitCode } from "../errors.ts";
import { printSummary, warn } from "./run.ts";

export interface ReplayCommand {
  readonly folder: string;
  readonly log: string | null;
  readonly json: string | null;
  readonly quiet: boolean;
}

/** Returns the exit code. @throws KQTimeError */
export function replayCommand(options: ReplayCommand): number {
  const json = options.json === null ? null : new PrivateFile(options.json);
  const summary = replay({ folder: options.folder, log: options.log, onWarning: warn });
  json?.write(`${JSON.stringify(summary, null, 2)}\n`);
  if (!options.quiet) printSummary(summary);
  return ExitCode.Ok;
}
