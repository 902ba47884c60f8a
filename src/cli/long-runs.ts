// Options of `run` and `attach` for measurements that do not end: results meanwhile, and a log that
// stays within bounds.

import type { Command } from "cac";
import type { LongRunOptions } from "../session/session.ts";
import { type Given, usage } from "./options.ts";

const INTERVAL_SECONDS_LEAST = 0.25;
const SAMPLE_MOST = 1e9;
/** A log is written in chunks of up to 256 KiB of text. */
const LOG_BYTES_LEAST = 64 * 1024;
const LOG_FILES = 10;
const LOG_FILES_LEAST = 2;
const LOG_FILES_MOST = 10_000;

export function declareLongRuns(command: Command): Command {
  return command
    .option(
      "--interval <seconds>",
      `A summary of each interval, as one line of JSON; at least ${INTERVAL_SECONDS_LEAST}`,
    )
    .option("--interval-log <file>", "Append these lines to a file, instead of printing them to stderr")
    .option("--log-min <time>", "Lines only for calls that waited at least so long: 5ms, 250us, 1s")
    .option("--log-sample <n>", `Lines for one call in n, at random; n up to ${SAMPLE_MOST}`)
    .option(
      "--log-size <bytes>",
      `Begin another file before the log is larger than this: 100M, 2G; at least ${LOG_BYTES_LEAST / 1024}k`,
    )
    .option(
      "--log-count <n>",
      `Files that are kept then, the current one included; at least ${LOG_FILES_LEAST}`,
      { default: LOG_FILES },
    );
}

/** @throws KQTimeError `E_USAGE` */
export function longRuns(given: Given): LongRunOptions {
  const needs = (option: string, needed: string) => {
    if (given.text(option) === null || given.text(needed) !== null) return;
    throw usage(`--${option} does nothing without --${needed}`);
  };
  for (const option of ["log-min", "log-sample", "log-size"]) needs(option, "log");
  needs("log-count", "log-size");
  needs("interval-log", "interval");
  const intervalMs =
    given.text("interval") === null
      ? 0
      : given.number("interval", 0, INTERVAL_SECONDS_LEAST, 86400) * 1000;
  if (intervalMs > 0 && given.flag("quiet") && given.text("interval-log") === null) {
    throw usage("--interval with --quiet needs a file for its lines: --interval-log FILE");
  }
  const sizeBytes = given.bytes("log-size", LOG_BYTES_LEAST);
  const files = given.whole("log-count", LOG_FILES_LEAST, LOG_FILES_MOST) ?? LOG_FILES;
  return {
    intervalMs,
    intervalLog: given.path("interval-log"),
    logMinNs: given.durationNs("log-min"),
    logSample: given.whole("log-sample", 1, SAMPLE_MOST) ?? 1,
    rotation: sizeBytes === null ? null : { sizeBytes, files },
  };
}
