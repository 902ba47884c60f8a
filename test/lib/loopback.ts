// Tests of the command line: traffic on a loopback of its own, and errors as they have to be.

import { expect, test } from "bun:test";
import { e2e } from "./e2e.ts";
import { BARE } from "./kqtime.ts";
import { withLoopback, type Node } from "./network.ts";
import type { Exit, Scope } from "./process.ts";

type Body = (node: Node, scope: Scope) => Promise<void>;

/** A test that says nothing where kqtime is left out; `programs` are those that it needs. */
export function aboutKqtime(name: string, body: Body, programs: readonly string[] = []): void {
  if (BARE) test.skip(`${name} [skipped: it is about kqtime itself]`, () => {});
  else e2e(name, () => withLoopback(body), 60_000, programs);
}

export function loopback(name: string, body: Body): void {
  aboutKqtime(name, body, ["python3", "setpriv"]);
}

/** One line, no stack, and something in it that helps. */
export function expectError(exit: Exit, code: number, ...patterns: RegExp[]): void {
  expect({ code: exit.code, stderr: exit.stderr }).toEqual({ code, stderr: exit.stderr });
  for (const pattern of patterns) expect(exit.stderr).toMatch(pattern);
  expect(exit.stderr).not.toMatch(/^\s+at /m);
  expect(exit.stdout).toBe("");
}
