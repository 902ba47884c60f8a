// Many processes that live at the same time: what kqtime does to notice their ends does not grow with
// their number, also where the kernel does not tell it of all of them.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, flaws, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { startEcho } from "./echo.ts";

const BYTES = 100;
const WINDOW_MS = 3000;
/** Looking at each of a thousand at each look would be 30,000. */
const READS_A_SECOND = 3000;

/** System calls of a process that read something, looks into /proc above all. */
function readsOf(pid: number): number {
  return Number(/^syscr: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))![1]);
}

for (const [count, descriptors] of [[1000, null], [300, 256]] as const) {
  const few = descriptors === null ? "" : `, and ${descriptors} descriptors for kqtime`;
  e2e(`${count} processes that live${few}`, () => withLoopback(async (node, scope) => {
    const { port } = await startEcho(scope, node);
    const words = `${descriptors}:${descriptors}`;
    const limit = descriptors === null
      ? []
      : ["prlimit", `--nofile=${words}`, "env", `KQTIME_NOFILE=${words}`];
    const command = [await fixture("idlers"), `${count}`, port, "20"];
    const measurement = new Measurement(scope, command, { prefix: [...node.prefix, ...limit] });
    const { running } = measurement;
    await running.says(/ready/, 30_000);
    const before = readsOf(running.pid);
    // The rate over a while is what is looked at.
    await Bun.sleep(WINDOW_MS);
    const rate = ((readsOf(running.pid) - before) * 1000) / WINDOW_MS;
    running.kill("SIGTERM");
    await running.success();
    if (BARE) return;
    expect(rate).toBeLessThan(READS_A_SECOND);
    const { directions, target } = measurement.summary();
    const bytes = (count + 1) * BYTES;
    expect({
      sockets: directions.out.sockets,
      pids: target.pids.length,
      flaws: flaws(measurement, { out: bytes, in: bytes }),
    }).toEqual({ sockets: count + 1, pids: Math.min(1000, count + 1), flaws: [] });
  }), 90_000, ["python3", "prlimit"]);
}

e2e("a program that lives on without its first thread", () => withLoopback(async (node, scope) => {
  const { port } = await startEcho(scope, node);
  const measurement = new Measurement(scope, [await fixture("leaderless"), port], { prefix: node.prefix });
  await measurement.running.success();
  if (BARE) return;
  const { directions } = measurement.summary();
  expect([directions.out.calls, directions.in.calls]).toEqual([150, 150]);
  expect(flaws(measurement, { out: 15_000, in: 15_000 })).toEqual([]);
}), 60_000, ["python3"]);
