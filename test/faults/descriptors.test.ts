// Few descriptors, and many processes that come at once: what they hand over waits until there is
// room for it, and none is lost.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fixture } from "../lib/fixtures.ts";
import { ROOT, type Summary } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";

const PROGRAMS = 30;
/** Each has a child that does the same. */
const PROCESSES = 2 * PROGRAMS;
/** Little more than kqtime needs. */
const LIMIT = 30;
const PERIOD_US = 20_000;
const CALLS = 60;

needsNamespaces(`${PROGRAMS} programs at once, with ${LIMIT} descriptors`, () =>
  withLoopback(async ({ prefix, v4 }, scope) => {
    const words = [await fixture("ticker"), v4, `${PERIOD_US}`, `${CALLS}`, scope.path("calls")];
    const script = `for i in $(seq ${PROGRAMS}); do "$0" "$1" "$2" "$3" "$4.$i" & done; wait`;
    const few = ["sh", "-c", `ulimit -n ${LIMIT}; exec "$@"`, "sh"];
    const json = scope.path("summary.json");
    const kqtime = [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--json", json];
    const run = scope.start([...few, ...kqtime, "--", "sh", "-c", script, ...words], { prefix });
    const { code } = await run.exit();
    expect([code, run.stderr]).toEqual([0, ""]);
    const { losses, directions: { out }, booksBalance } = JSON.parse(readFileSync(json, "utf8")) as Summary;
    expect(Object.entries(losses).filter(([, count]) => count > 0)).toEqual([]);
    expect([out.sockets, booksBalance]).toEqual([PROCESSES, true]);
  }),
);
