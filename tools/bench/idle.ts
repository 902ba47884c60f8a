// What a collector costs that has nothing to do: its CPU time, all threads together, beside a
// measured connection that is silent, and beside many of them.

import { processorNs } from "../../src/ffi/clocks.ts";
import { enter, makeNamespace } from "../../test/lib/network.ts";
import { withScope, type Scope } from "../../test/lib/process.ts";
import { type Bench, compileHook, kqtimeRun } from "./bench.ts";
import { spread } from "./stats.ts";

/** Start, compilation and the collection of their garbage do not count; by then its rests are longest. */
const SETTLE_MS = 12_000;
const TARGET_PERCENT = 1;

async function measure(
  bench: Bench, scope: Scope, program: string, prefix: readonly string[], connections: number,
): Promise<void> {
  const windows = bench.pairs ?? (bench.quick ? 3 : 10);
  const windowMs = bench.quick ? 1500 : 2000;
  const collector = scope.start(
    kqtimeRun(scope.path(`idle-${connections}.json`), [program, "idle", `${connections}`]),
    { prefix },
  );
  await collector.says(/ready/);
  await Bun.sleep(SETTLE_MS);
  const percents: number[] = [];
  let [atMs, atNs] = [performance.now(), processorNs(collector.pid)];
  for (let window = 0; window < windows; window++) {
    await Bun.sleep(windowMs);
    const [nowMs, nowNs] = [performance.now(), processorNs(collector.pid)];
    percents.push(((nowNs - atNs) / (nowMs - atMs) / 1e6) * 100);
    [atMs, atNs] = [nowMs, nowNs];
  }
  await collector.stop("SIGTERM");
  const what = connections === 1 ? "a silent connection" : `${connections} silent connections`;
  bench.report.add("idle", `collector beside ${what}`, "% of a core", spread(percents), {
    digits: 2, target: { sign: "<=", value: TARGET_PERCENT },
  });
}

export async function benchIdle(bench: Bench): Promise<void> {
  await withScope(async (scope) => {
    const program = await compileHook(scope);
    const prefix = enter(await makeNamespace(scope, "i"));
    await measure(bench, scope, program, prefix, 1);
    await measure(bench, scope, program, prefix, 400);
  });
}
