// Tests that need rights that not every machine gives: skipped visibly, with the reason.

import { spawnSync } from "node:child_process";
import { isLinux, isRoot, lacks, reason, testUnless } from "./requires.ts";

type Body = () => void | Promise<void>;

const rootReason = reason(!isLinux && "needs Linux", !isRoot && "needs root");

function say(why: string | null, name: string, body: Body, timeoutMs: number): void {
  if (why !== null) console.warn(`skipped (${why}): ${name}`);
  testUnless(why, name, body, timeoutMs);
}

/** A test that opens captures, and uses these programs. */
export function needsRoot(
  name: string,
  body: Body,
  { programs = [] as string[], timeoutMs = 30_000 } = {},
): void {
  say(reason(rootReason ?? false, lacks(...programs)), name, body, timeoutMs);
}

let namespaces: string | false | undefined;

/** Why network namespaces cannot be made here, or false. */
function namespaceReason(): string | false {
  if (namespaces !== undefined) return namespaces;
  namespaces = rootReason ?? lacks("ip");
  if (namespaces !== false) return namespaces;
  const name = `kqprobe${process.pid}`;
  if (spawnSync("ip", ["netns", "add", name]).status !== 0) {
    return (namespaces = "network namespaces cannot be made here");
  }
  spawnSync("ip", ["netns", "del", name]);
  return namespaces;
}

/** A test in network namespaces of its own, that uses these programs besides. */
export function needsNamespaces(
  name: string,
  body: Body,
  { programs = [] as string[], timeoutMs = 30_000 } = {},
): void {
  say(reason(namespaceReason(), lacks(...programs)), name, body, timeoutMs);
}
