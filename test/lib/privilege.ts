// Tests that need what not every machine has: they are skipped visibly, with the reason.

import { spawnSync } from "node:child_process";
import { test } from "bun:test";

type Body = () => void | Promise<void>;

const isRoot = process.getuid?.() === 0;

/** Runs `body` if `reason` is null; else the test is shown as skipped, and why. */
export function unless(reason: string | null, name: string, body: Body, timeoutMs = 30_000): void {
  if (reason === null) {
    test(name, body, timeoutMs);
    return;
  }
  console.warn(`skipped (${reason}): ${name}`);
  test.skip(`${name} [${reason}]`, body);
}

/** A test that opens captures or network namespaces. */
export function needsRoot(name: string, body: Body, timeoutMs?: number): void {
  unless(isRoot ? null : "needs root", name, body, timeoutMs);
}

/** A test that needs root and these programs. */
export function needsRootAnd(
  programs: readonly string[],
  name: string,
  body: Body,
  timeoutMs?: number,
): void {
  const missing = programs.filter((program) => Bun.which(program) === null);
  const reason = !isRoot ? "needs root" : missing.length > 0 ? `needs ${missing.join(", ")}` : null;
  unless(reason, name, body, timeoutMs);
}

let namespaces: string | null | undefined;

/** Why network namespaces cannot be made here, or null. */
export function namespaceReason(): string | null {
  if (namespaces !== undefined) return namespaces;
  const name = `kqprobe${process.pid}`;
  if (!isRoot) return (namespaces = "needs root");
  if (Bun.which("ip") === null) return (namespaces = "needs ip (iproute2)");
  const made = spawnSync("ip", ["netns", "add", name]);
  if (made.status !== 0) return (namespaces = "network namespaces cannot be made here");
  spawnSync("ip", ["netns", "del", name]);
  return (namespaces = null);
}

/** A test in network namespaces of its own. */
export function needsNamespaces(
  programs: readonly string[],
  name: string,
  body: Body,
  timeoutMs?: number,
): void {
  const missing = programs.filter((program) => Bun.which(program) === null);
  const reason = missing.length > 0 ? `needs ${missing.join(", ")}` : namespaceReason();
  unless(reason, name, body, timeoutMs);
}
