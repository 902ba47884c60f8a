// Programs that close a sandbox around themselves: each is the same without the library, with it, and
// while it measures. Their filters kill, trap or refuse whatever they do not call themselves.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { testUnless } from "../lib/requires.ts";
import {
  BUILD_MS, Bench, canCompile, isContiguous, LOSS, ofKind, transfers, type Run,
} from "../preload/ringdump.ts";

/** Of the losses, those that are expected; by the sandbox's answer where they depend on it. */
type Expected = Partial<Record<keyof typeof LOSS, number>>;
interface Scenario {
  name: string;
  actions: readonly string[];
  /** Calls that have a record. */
  calls: number;
  losses?: Expected;
}

const ALL = ["kill", "errno", "trap"];
const SCENARIOS: readonly Scenario[] = [
  // The thread may not read the clock: two writes and two reads have no time.
  { name: "strict", actions: ["kill"], calls: 2, losses: { noClock: 4 } },
  { name: "strict-syscall", actions: ["kill"], calls: 2, losses: { noClock: 4 } },
  { name: "strict-pipes", actions: ["kill"], calls: 0 },
  // What it is nobody may be asked: it could be a socket.
  { name: "strict-thread", actions: ["kill"], calls: 0, losses: { noAddress: 2 } },
  { name: "tsc", actions: ["kill"], calls: 4, losses: { noClock: 8 } },
  { name: "worker", actions: ALL, calls: 6 },
  { name: "worker-syscall", actions: ALL, calls: 6 },
  { name: "inherited", actions: ["kill", "trap"], calls: 4 },
  // Neither end of a connection can be found on the wire: nobody may be asked for its address. The
  // datagram is counted.
  { name: "server", actions: ALL, calls: 1, losses: { noAddress: 6 } },
  { name: "forks", actions: ALL, calls: 4, losses: { noRing: 2 } },
  // The child is not killed for asking who it is; the parent pays for that with its socket, and may
  // not ask what its output is.
  { name: "vforks", actions: ["kill"], calls: 1, losses: { noAddress: 2 } },
  { name: "vforks-twice", actions: ["kill"], calls: 1, losses: { noAddress: 2 } },
  { name: "tsync", actions: ALL, calls: -1 },
  // Under the first filter its ends are found, under the second no more.
  { name: "stacked", actions: ALL, calls: 2, losses: { noAddress: 2 } },
  { name: "narrowed", actions: ALL, calls: 2 },
  { name: "arithmetic", actions: ["kill"], calls: 2 },
];

if (!canCompile) testUnless("needs cc", "programs that sandbox themselves", () => {});

describe.skipIf(!canCompile)("programs that sandbox themselves", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("../fixtures/sandbox", "sandbox");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const start = (argv: string[], env: Record<string, string> = {}) => {
    const child = Bun.spawnSync(argv, {
      cwd: bench.folder, env: { ...process.env, LD_PRELOAD: undefined, ...env },
      stdout: "pipe", stderr: "pipe", timeout: 20_000,
    });
    return {
      code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString(),
    };
  };

  const lossesOf = (run: Run): Expected =>
    Object.fromEntries(
      Object.entries(LOSS).map(([name, index]) => [name, run.losses[index] ?? 0])
        .filter(([, count]) => count !== 0),
    );

  for (const { name, actions, calls, losses = {} } of SCENARIOS) {
    for (const action of actions) {
      test(`${name}, ${action}`, () => {
        const argv = ["./sandbox", name, action];
        const bare = start(argv);
        expect([bare.code, bare.stderr]).toEqual([5, ""]);
        if (action === "trap") expect(bare.stdout).toContain("trapped 0\n");
        expect(start(argv, { LD_PRELOAD: bench.library })).toEqual(bare);
        const run = bench.run([], argv);
        expect({ code: run.code, stdout: run.stdout, stderr: run.stderr }).toEqual(bare);
        expect(lossesOf(run)).toEqual(losses);
        if (calls >= 0) expect(transfers(run)).toHaveLength(calls);
        if (losses.noClock === undefined) expect(isContiguous(transfers(run))).toBe(true);
        for (const { time } of ofKind(run, "IN", "OUT", "BIRTH", "UNBIND")) {
          expect(Number(time)).toBeGreaterThan(Date.now() * 1e6 - 60e9);
        }
        for (const { out, in: inbound } of run.entries) {
          expect([out.active, inbound.active]).toEqual([0, 0]);
        }
      });
    }
  }
});
