// A program in a memory cgroup that has little left: what it shares with kqtime is bounded by that, and
// does not bring the kernel's killer on it.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, flaws, Measurement } from "../lib/kqtime.ts";
import { MemoryGroup } from "../lib/memory-group.ts";
import { withLoopback, type Node } from "../lib/network.ts";
import { type Scope } from "../lib/process.ts";
import { startEcho } from "./echo.ts";

/** Records of it fill 256 KiB in some tenths of a second. */
const RUN_MS = 3000;

/** A program that calls again after so long, in a group, with a ring of 2^20 slots. */
async function start(node: Node, scope: Scope, group: MemoryGroup, paceMs: number): Promise<Measurement> {
  const { port } = await startEcho(scope, node);
  const command = [...group.prefix, await fixture("idlers"), "0", port, `${paceMs}`];
  const measurement = new Measurement(scope, command, {
    prefix: node.prefix, options: ["--ring", `${1 << 20}`],
  });
  await measurement.running.says(/ready/);
  return measurement;
}

async function finish({ running }: Measurement): Promise<void> {
  // How much it calls meanwhile is what matters.
  await Bun.sleep(RUN_MS);
  running.kill("SIGTERM");
  await running.success();
}

e2e("a ring that is larger than the memory cgroup is made smaller", () => withLoopback(async (node, scope) => {
  const group = MemoryGroup.make(scope);
  group.limit(12 << 20);
  const measurement = await start(node, scope, group, 1);
  await finish(measurement);
  expect(group.kills).toBe(0);
  if (BARE) return;
  const { out } = measurement.summary().directions;
  expect(out.calls).toBeGreaterThan(100);
  expect(flaws(measurement)).toEqual([]);
}), 60_000, ["python3"]);

e2e("a memory cgroup that fills: records are lost, and counted, not the program", () =>
  withLoopback(async (node, scope) => {
    const group = MemoryGroup.make(scope);
    group.limit(1 << 30);
    const measurement = await start(node, scope, group, 0);
    group.limit(group.usedBytes + (3 << 20));
    await finish(measurement);
    expect(group.kills).toBe(0);
    if (BARE) return;
    const { losses, warnings, booksBalance } = measurement.summary();
    expect(losses["memoryRecords"]).toBeGreaterThan(1000);
    expect(warnings.join("\n")).toMatch(/records dropped, no memory for the ring/);
    expect(booksBalance).toBe(true);
  }), 60_000, ["python3"]);

// The files of the second version alone, on whatever machine: what they say is what is gone by.
for (const [what, cachedBytes, isMeasured] of [["none left", 0, false], ["file pages", 3 << 20, true]] as const) {
  e2e(`a limit of 8 MiB, of which there are used 8 MiB, ${what}`, () => withLoopback(async (node, scope) => {
    const { port } = await startEcho(scope, node);
    const stat = `anon 1\\ninactive_file ${cachedBytes}\\nactive_file ${cachedBytes}\\n`;
    const fake = "mount -t tmpfs fake /sys/fs/cgroup && cd /sys/fs/cgroup && " +
      `echo ${8 << 20} > memory.max && echo ${8 << 20} > memory.current && printf '${stat}' > memory.stat && ` +
      'exec "$@"';
    const measurement = new Measurement(scope, [
      "unshare", "-m", "--propagation", "private", "sh", "-c", fake, "sh", await fixture("short"), port, "0",
    ], { prefix: node.prefix });
    await measurement.running.success();
    if (BARE) return;
    const { warnings, directions } = measurement.summary();
    expect(directions.out.calls).toBe(isMeasured ? 1 : 0);
    if (isMeasured) expect(flaws(measurement)).toEqual([]);
    else expect(warnings.join("\n")).toMatch(/1 process got no memory, or no descriptor, for a ring/);
  }), 60_000, ["python3", "unshare"]);
}
