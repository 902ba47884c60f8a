// How a collector ends, and what it ends for others: the handles of a program that was killed under
// `kqtime run`; and a collector of a program's own that somebody stops.

import { expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseLog } from "../lib/kqlog.ts";
import { BASE_SEC, ROOT } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { type Scope, until } from "../lib/process.ts";

const KQTIME = join(ROOT, "bin", "kqtime");
const PRELOAD = join(ROOT, "build", "libkqtime-preload.so");
/** As in collect.ts. */
const STOPPED_MS = 3000;

needsNamespaces("under kqtime run, the log of a killed program is completed while others run", () =>
  withLoopback(async ({ prefix }, scope) => {
    const log = scope.path("dies.log");
    const script = join(import.meta.dir, "opens-and-dies.ts");
    const shell = `"$1" "$2" "$3"; echo over; exec sleep 30`;
    const words = [process.execPath, script, log];
    const run = scope.start([KQTIME, "run", "--quiet", "--", "sh", "-c", shell, "sh", ...words], {
      prefix,
    });
    await run.says(/over/);
    await until("the books", () => existsSync(log) && /^KQTIME-LOSS/m.test(readFileSync(log, "utf8")));
    expect(run.ended).toBe(false);
    const { calls, books, others } = parseLog(readFileSync(log, "utf8"), BASE_SEC);
    expect(calls.map(({ name, bytes }) => [name, bytes])).toEqual([["mine", 100], ["mine", 100]]);
    expect(books.map(({ values }) => values.matched)).toEqual([100, 100]);
    expect([...others]).toEqual([["KQTIME-META", 1], ["KQTIME-LOSS", 1]]);
  }),
);

/** A collector, as a program starts it, and a process that it measures. */
async function collected(scope: Scope, prefix: readonly string[]) {
  // Its descriptor 3 is a pipe.
  const collector = scope.start(["sh", "-c", `{ "$1" collect 3>&1 >&2 4>&-; } | cat`, "sh", KQTIME], {
    prefix,
  });
  const [, pid, slots, token, path] = await collector.says(/^ready (\d+) (\d+) (\S+) (.+)\n/m);
  const env = {
    ...process.env,
    LD_PRELOAD: PRELOAD,
    KQTIME_SESSION: path!,
    KQTIME_TOKEN: token!,
    KQTIME_SLOTS: slots!,
  };
  const target = scope.start(["sleep", "60"], { prefix, env });
  return { collector, pid: Number(pid), target };
}

for (const isLeft of [true, false]) {
  const how = isLeft ? "three seconds after it was told, at the latest" : "at once with its program";
  needsNamespaces(`a collector that is stopped ends ${how}`, () =>
    withLoopback(async ({ prefix }, scope) => {
      const { collector, pid, target } = await collected(scope, prefix);
      await until("the ring", () => {
        const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
        return maps.includes("/memfd:kqtime");
      });
      const startMs = performance.now();
      process.kill(pid, "SIGTERM");
      if (!isLeft) target.kill();
      await collector.exit(15_000);
      const ms = performance.now() - startMs;
      if (isLeft) expect(ms).toBeWithin(STOPPED_MS, STOPPED_MS * 2);
      else expect(ms).toBeLessThan(STOPPED_MS);
      expect(target.ended).toBe(!isLeft);
    }),
  );
}
