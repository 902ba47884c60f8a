// `kqtime parse`: a log on standard output as the ancestor's parser printed it.

import { ParsedOutput } from "../analysis/parse.ts";
import { TextOutput } from "../analysis/text-output.ts";
import { ExitCode } from "../errors.ts";
import { readGiven } from "./logs.ts";

/** Returns the exit code. @throws KQTimeError */
export function parseCommand(paths: readonly string[]): number {
  const output = new TextOutput();
  readGiven("parse", paths, new ParsedOutput(output), { stop: () => output.closed });
  output.flush();
  return ExitCode.Ok;
}
