// What the commands that read logs have in common: files or standard input, a bar on a terminal,
// and a word about what could not be read.

import { fstatSync, statSync } from "node:fs";
import type { LogVisitor } from "../analysis/log-line.ts";
import { orderLogs, regularFile } from "../analysis/log-order.ts";
import { type ReadOptions, type ReadResult, readLogs } from "../analysis/log-reader.ts";
import { Progress } from "../analysis/progress.ts";
import type { Window } from "../analysis/window.ts";
import { KQTimeError } from "../errors.ts";
import { usage } from "./options.ts";
import { warn } from "./stderr.ts";

/**
 * Reads the logs that a command was given, in the order of their time; without any, standard input.
 * @throws KQTimeError
 */
export function readGiven(
  command: string,
  given: readonly string[],
  visitor: LogVisitor,
  options: Omit<ReadOptions, "progress"> = {},
): ReadResult {
  if (given.length === 0 && process.stdin.isTTY === true) {
    throw usage(`${command} reads logs: name one, or pipe one in (kqtime ${command} --help)`);
  }
  if (given.filter((path) => path === "-").length > 1) {
    throw usage("standard input (-) can be read once");
  }
  const { paths, problems } = orderLogs(given);
  for (const problem of problems) warn(problem);
  const progress = new Progress(sizeOf(paths));
  try {
    const result = readLogs(paths, visitor, { ...options, progress });
    for (const problem of result.problems) warn(problem);
    return result;
  } finally {
    progress.end();
  }
}

/** A command's output is none of its logs, whatever they are called. @throws KQTimeError `E_OUTPUT` */
export function expectNotInput(output: string, given: readonly string[]): void {
  const identity = identityAt(output);
  if (identity === null) return;
  const inputs = given.length === 0 ? ["-"] : given;
  if (inputs.every((path) => identityAt(path) !== identity)) return;
  const why = `"${output}" is one of the logs that are read: name another file for the output`;
  throw new KQTimeError("E_OUTPUT", "open", why);
}

/** Tells files apart; null where there is none, or nobody can tell: reading it says why. */
function identityAt(path: string): string | null {
  try {
    const { dev, ino } = path === "-" ? fstatSync(0) : statSync(path);
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}

/** Of logs that have nothing of what a command tells of, within the window. */
export function holdsNo(
  what: string,
  command: string,
  paths: readonly string[],
  window: Window,
): KQTimeError {
  const inputs = paths.length === 0 ? ["-"] : paths;
  const name = inputs.map((path) => (path === "-" ? "standard input" : path)).join(", ");
  const where = window.whole ? "" : " in this window (times without a zone are local)";
  return new KQTimeError("E_EMPTY", command, `${name} holds no ${what}${where}`);
}

/** Bytes of all files together, 0 if one of them is not a file. */
function sizeOf(paths: readonly string[]): number {
  let bytes = 0;
  for (const path of paths) {
    const stat = regularFile(path);
    if (stat === null) return 0;
    bytes += stat.size;
  }
  return bytes;
}
