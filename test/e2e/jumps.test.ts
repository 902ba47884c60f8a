// A signal handler that jumps out of a call (siglongjmp), wherever in it the signal comes: the record
// that it leaves half-written stops no measurement, and what the call moved without the program's
// knowing is counted all the same, so that what follows is placed where it is in the stream.

import { expect } from "bun:test";
import { existsSync, openSync, closeSync } from "node:fs";
import { IN, OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { until } from "../lib/process.ts";

/** Instructions from one jump to the next: fewer than lie between a record's claim and its commit. */
const STRIDE = 13;
const CALLS = 50;
/** Each record that is never finished is waited for, up to some seconds. */
const TEST_MS = 90_000;

const numbers = (words: string): number[] => words.trim().split(" ").map(Number);

e2e("a signal handler jumps out of calls, at every stage of them", async () => {
  await withLoopback(async ({ prefix }, scope) => {
    const end = scope.path("end");
    await scope.run(["mkfifo", end]);
    const measurement = new Measurement(
      scope, [await fixture("step"), `${STRIDE}`, `${CALLS}`, end], { prefix },
    );
    const { running } = measurement;
    const fds = numbers((await running.says(/^fds (.*)\n/m, TEST_MS))[1]!);
    const bytes = numbers((await running.says(/^bytes (.*)\n/m))[1]!);
    if (!BARE) {
      // While the process lives: nothing but the collector itself can have seen that this goes on.
      const calm = fds.slice(-2).join();
      await until("line of each calm call", () => {
        if (!existsSync(measurement.logPath)) return false;
        const { calls } = measurement.log();
        const seen = [OUT, IN].map((way) =>
          calls.filter(({ direction, fd }) => direction === way && calm.includes(`${fd}`)).length);
        return seen.every((count) => count === CALLS);
      }, TEST_MS / 2);
    }
    closeSync(openSync(end, "w"));
    await running.success();
    if (BARE) return;
    const summary = measurement.summary();
    const { sockets } = summary as unknown as {
      sockets: (typeof summary.sockets[0] & { fd: number } & typeof summary.directions)[];
    };
    expect(sockets.map(({ fd }) => fd).sort()).toEqual(fds.toSorted());
    for (const { fd, out, in: inbound } of sockets) {
      const at = fds.indexOf(fd);
      const moved = at % 2 === 0 ? out : inbound;
      const { bytesCalled, bytesMatched, bytesUnmatched, bytesUnexplained } = moved;
      // Each byte is known, those too that moved in calls which never came back.
      expect([fd, bytesCalled, bytesUnexplained]).toEqual([fd, bytes[at >> 1]!, 0]);
      const { concurrent = 0, "ring drop": lost = 0, ...others } = bytesUnmatched;
      expect([fd, others]).toEqual([fd, {}]);
      expect(bytesMatched + concurrent + lost).toBe(bytesCalled);
      expect(bytesMatched).toBeGreaterThanOrEqual(16 * CALLS);
    }
    const { badRecords, ...losses } = summary.losses;
    expect(badRecords).toBeWithin(1, 20);
    expect(Object.values(losses).every((count) => count === 0)).toBe(true);
    expect(summary.booksBalance).toBe(true);
    const [abandoned, left] = [/^process \d+ began records and never finished/, /^\d+ calls were left/];
    expect(summary.warnings.filter((text) => abandoned.test(text))).toHaveLength(1);
    expect(summary.warnings.filter((text) => left.test(text))).toHaveLength(1);
  });
}, TEST_MS);
