// Another project's own tests, run twice at once, with kqtime and without: each of them ends the
// same way. One that does not is run again both ways, because some fail now and then by themselves.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { parseJunit, type Outcome } from "../../tools/junit.ts";
import { Measurement } from "../lib/kqtime.ts";
import { enter, withLoopback } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import type { Scope } from "../lib/process.ts";
import { testUnless } from "../lib/requires.ts";

export interface Suite {
  name: string;
  /** What runs the tests, or these only, and leaves a report in JUnit's form. */
  command(report: string, folder: string, only: readonly string[]): string[];
  timeoutMs: number;
}

const RERUNS = 3;

/** A Python that this program runs in; the distribution's, not what a version manager has put in
 * front of it, because that has the distribution's packages. */
export function findPython(program: string): string | false {
  for (const name of ["/usr/bin/python3", "python3"]) {
    try {
      const words = [name, "-c", `${program}\nimport sys; print(sys.executable)`];
      const asked = Bun.spawnSync(words, { stdout: "pipe", stderr: "ignore" });
      if (asked.exitCode === 0) return asked.stdout.toString().trim();
    } catch {
      // Not there.
    }
  }
  return false;
}

let runs = 0;

/** Each test's outcome by its id. */
async function outcomes(
  scope: Scope, prefix: readonly string[], suite: Suite, only: readonly string[],
  measured: boolean,
): Promise<{ outcomes: Map<string, Outcome>; measurement: Measurement | null }> {
  const report = scope.path(`report-${runs++}.xml`);
  const command = suite.command(report, scope.folder, only);
  const measurement = measured
    ? new Measurement(scope, command, { prefix, options: ["--interface", "lo"] })
    : null;
  const running = measurement?.running ?? scope.start(command, { prefix });
  await running.exit(suite.timeoutMs);
  let cases;
  try {
    cases = parseJunit(readFileSync(report, "utf8"));
  } catch {
    throw new Error(`no report: ${running.describe()}`);
  }
  return { outcomes: new Map(cases.map(({ name, outcome }) => [name, outcome])), measurement };
}

const both = (left: Map<string, Outcome>, right: Map<string, Outcome>): string[] =>
  [...new Set([...left.keys(), ...right.keys()])].filter((id) => left.get(id) !== right.get(id));

/** Of the tests that ended differently, those that never end that way without kqtime. */
async function told(
  scope: Scope, prefix: readonly string[], suite: Suite, ids: string[],
  first: Map<string, Outcome>,
): Promise<string[]> {
  const seen = { bare: new Map<string, Set<string>>(), measured: new Map<string, Set<string>>() };
  for (let round = 0; round < RERUNS; round++) {
    for (const how of ["bare", "measured"] as const) {
      const run = await outcomes(scope, prefix, suite, ids, how === "measured");
      for (const id of ids) {
        const known = seen[how].get(id) ?? seen[how].set(id, new Set()).get(id)!;
        known.add(run.outcomes.get(id) ?? "absent");
      }
    }
  }
  return ids.filter((id) => {
    const bare = seen.bare.get(id)!.add(first.get(id) ?? "absent");
    const strange = [...seen.measured.get(id)!].filter((outcome) => !bare.has(outcome));
    if (strange.length === 0) {
      console.warn(`flaky without kqtime too, or once under load: ${id}`);
    }
    return strange.length > 0;
  });
}

/** A test that the suite's tests end the same with and without kqtime. */
export function endsTheSame(why: string | null, suite: Suite): void {
  const title = `${suite.name}: the same`;
  if (why !== null) {
    testUnless(why, title, () => {});
    return;
  }
  needsNamespaces(title, () => withLoopback(async (node, scope) => {
    // The other one has a loopback of its own: both bind fixed ports.
    await withLoopback(async (other, otherScope) => {
      const [bare, measured] = await Promise.all([
        outcomes(otherScope, enter(other.name), suite, [], false),
        outcomes(scope, enter(node.name), suite, [], true),
      ]);
      expect(bare.outcomes.size).toBeGreaterThan(30);
      const passed = [...bare.outcomes.values()].filter((outcome) => outcome === "passed");
      expect(passed.length).toBeGreaterThan(bare.outcomes.size / 2);
      const summary = measured.measurement!.summary();
      expect(summary.directions.out.bytesCalled).toBeGreaterThan(0);
      expect(summary.booksBalance).toBe(true);
      const differing = both(bare.outcomes, measured.outcomes);
      const faults = differing.length === 0
        ? []
        : await told(scope, enter(node.name), suite, differing, bare.outcomes);
      expect(faults).toEqual([]);
      console.log(
        `${suite.name}: ${bare.outcomes.size} tests, ${differing.length} to look at twice`,
      );
    });
  }), { timeoutMs: suite.timeoutMs });
}
