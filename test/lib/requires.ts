// What a test needs of the machine. A test that cannot run here is skipped visibly: its reason
// stands at the end of its name, where tools/test.ts finds it.

import { test } from "bun:test";

export const isLinux = process.platform === "linux";
export const isRoot = process.getuid?.() === 0;

/** The first reason of the list, null if there is none: `reason(!isRoot && "needs root", …)`. */
export function reason(...reasons: (string | false)[]): string | null {
  return reasons.find((each): each is string => each !== false) ?? null;
}

/** A reason if one of the programs is not on PATH. */
export function lacks(...programs: string[]): string | false {
  const missing = programs.filter((program) => Bun.which(program) === null);
  return missing.length > 0 && `needs ${missing.join(", ")}`;
}

/** `test`, or a skipped test that tells why. */
export function testUnless(
  why: string | null,
  name: string,
  body: () => void | Promise<void>,
  timeoutMs?: number,
): void {
  if (why === null) test(name, body, timeoutMs);
  else test.skip(`${name} [skipped: ${why}]`, () => {});
}
