// The environment that kqtime was started with. `bun run` adds to PATH and puts npm's variables
// into process.env, which a measured program must not see; the kernel keeps the original block.
//
// Bun decodes arguments and environment as UTF-8, and what is none comes out as other bytes: a
// program that is given them would not be the one that was asked for.

import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";

/** Variables of bin/kqtime that are not for the command. */
const OWN = ["KQTIME_NOFILE", "KQTIME_SIGIGN", "KQTIME_FDS", "KQTIME_GC"];

export function originalEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const entry of readFileSync("/proc/self/environ", "utf8").split("\0")) {
    const equals = entry.indexOf("=", 1);
    if (equals > 0) environment[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  if (environment.KQTIME_GC === "own") delete environment.BUN_GC_TIMER_INTERVAL;
  for (const name of OWN) delete environment[name];
  return environment;
}

/** What of the command or its environment cannot be passed on byte for byte; null: all can. */
export function whyAltered(): string | null {
  if (!isText("/proc/self/cmdline")) return "the command line is not UTF-8";
  if (!isText("/proc/self/environ")) return "the environment is not UTF-8";
  return null;
}

function isText(path: string): boolean {
  return isUtf8(readFileSync(path));
}
