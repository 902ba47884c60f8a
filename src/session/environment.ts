// The environment that kqtime was started with. `bun run` adds to PATH and puts npm's variables
// into process.env, which a measured program must not see; the kernel keeps the original block.

import { readFileSync } from "node:fs";

/** Variables of bin/kqtime that are not for the command. */
const OWN = ["KQTIME_NOFILE"];

export function originalEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const entry of readFileSync("/proc/self/environ", "utf8").split("\0")) {
    const equals = entry.indexOf("=", 1);
    if (equals > 0) environment[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  for (const name of OWN) delete environment[name];
  return environment;
}
