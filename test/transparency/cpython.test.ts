// CPython's own tests of its sockets, as Debian packages them, pass, fail and skip the same under
// kqtime as without it. KQTIME_CPYTHON=all runs the whole of test_asyncio, test_subprocess and the
// slow ones too, which takes minutes.

import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { parseJunit, type Outcome } from "../../tools/junit.ts";
import { Measurement } from "../lib/kqtime.ts";
import { enter, withLoopback } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { Scope } from "../lib/process.ts";
import { testUnless } from "../lib/requires.ts";

const ALL = process.env.KQTIME_CPYTHON === "all";
const MODULES = [
  ["test_socketserver", "test_select", "test_epoll", "test_selectors", "test_poll", "test_os"],
  ["test_socket"],
  ["test_ssl"],
  ALL
    ? ["test_asyncio", "test_subprocess"]
    : ["sock_lowlevel", "server", "sendfile", "streams", "buffered_proto", "unix_events", "sslproto"]
      .map((name) => `test.test_asyncio.test_${name}`),
];
const RERUNS = 3;
const GROUP_MS = ALL ? 600_000 : 280_000;

/** CPython itself, not what a version manager puts in front of it. */
function findPython(): string | false {
  for (const name of ["/usr/bin/python3", "python3"]) {
    const words = ["-c", "import sys, test.test_socket; print(sys.executable)"];
    try {
      const asked = Bun.spawnSync([name, ...words], { stdout: "pipe", stderr: "ignore" });
      if (asked.exitCode === 0) return asked.stdout.toString().trim();
    } catch {
      // Not there.
    }
  }
  return false;
}
const python = findPython();

let runs = 0;

/** Each test's outcome by its id. */
async function outcomes(
  scope: Scope, prefix: readonly string[], words: readonly string[], measured: boolean,
): Promise<{ outcomes: Map<string, Outcome>; measurement: Measurement | null }> {
  const report = scope.path(`report-${runs++}.xml`);
  const command = [
    python as string, "-m", "test", "--junit-xml", report, "--tempdir", scope.folder,
    // Hangs, with or without kqtime, where the kernel has no loopback of that family.
    "-i", "*VSOCK*",
    // The module asks for it; outside of this machine is nothing.
    ...(words.includes("test_socketserver") ? ["-u", "network"] : []),
    ...words,
  ];
  const measurement = measured
    ? new Measurement(scope, command, { prefix, options: ["--interface", "lo"] })
    : null;
  const running = measurement?.running ?? scope.start(command, { prefix });
  await running.exit(GROUP_MS);
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
  scope: Scope, prefix: readonly string[], module: readonly string[], ids: string[],
  first: Map<string, Outcome>,
): Promise<string[]> {
  const seen = { bare: new Map<string, Set<string>>(), measured: new Map<string, Set<string>>() };
  const words = [...module, ...ids.flatMap((id) => ["-m", id])];
  for (let round = 0; round < RERUNS; round++) {
    for (const how of ["bare", "measured"] as const) {
      const run = await outcomes(scope, prefix, words, how === "measured");
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

describe.concurrent("CPython's tests", () => {
  for (const module of MODULES) {
    const name = module[0]!.replace(/^test\.test_asyncio.*/, "parts of test_asyncio");
    const title = `${name}${module.length > 1 && name === module[0] ? " and others" : ""}: the same`;
    if (python === false) {
      testUnless("needs CPython's test package", title, () => {});
      continue;
    }
    needsNamespaces(title, () => withLoopback(async (node, scope) => {
      // The other one has a loopback of its own: both bind fixed ports.
      await withLoopback(async (other, otherScope) => {
        const [bare, measured] = await Promise.all([
          outcomes(otherScope, enter(other.name), module, false),
          outcomes(scope, enter(node.name), module, true),
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
          : await told(scope, enter(node.name), module, differing, bare.outcomes);
        expect(faults).toEqual([]);
        console.log(`${name}: ${bare.outcomes.size} tests, ${differing.length} to look at twice`);
      });
    }), { timeoutMs: GROUP_MS });
  }
});
