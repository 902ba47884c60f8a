// `kqtime replay`.

import { JSON_SUMMARY, PrivateFile } from "../session/private-file.ts";
import { replay } from "../session/replay.ts";
import type { Summary } from "../output/summary.ts";
import { ExitCode } from "../errors.ts";
import { report } from "./run.ts";
import { warn } from "./stderr.ts";

export interface ReplayCommand {
  readonly folder: string;
  readonly log: string | null;
  readonly json: string | null;
  readonly sockets: number | null;
  readonly quiet: boolean;
}

/** Returns the exit code. @throws KQTimeError */
export function replayCommand(options: ReplayCommand): number {
  const { folder, log, sockets } = options;
  const json = options.json === null ? null : new PrivateFile(options.json, JSON_SUMMARY);
  let summary: Summary;
  try {
    summary = replay({ folder, log, json: json?.identity ?? null, socketsListed: sockets, onWarning: warn });
  } catch (error) {
    json?.discard();
    throw error;
  }
  json?.write(`${JSON.stringify(summary, null, 2)}\n`);
  report(summary, [], options.quiet);
  return ExitCode.Ok;
}
