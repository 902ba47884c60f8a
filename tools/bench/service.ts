// What kqtime costs a Bun service: Bun.serve under wrk, in turns without kqtime (twice: how far these
// two differ is the machine's noise), beside a tcpdump alone (the kernel's price of any packet tap),
// under `kqtime run`, and measuring itself by the API. Two loads: as much as it can serve, and a
// paced one that leaves it room, as a service has; that one once while the collector's code is still
// being compiled, on processors that the service may want, and once after that, which is judged. The logs
// are not compressed: where cores are short, the collector's compression competes with the service for
// them.

import { join } from "node:path";
import { type Lab, withLab } from "../../test/lib/network.ts";
import type { Running } from "../../test/lib/process.ts";
import {
  type Bench, type BenchSummary, gapsOf, kqtimeRun, lossOf, PRELOAD, readSummary, requireCalls, ROOT,
} from "./bench.ts";
import { geometricMean, median, shuffled, spread } from "./stats.ts";
import { type Served, wrk } from "./wrk.ts";

const WAYS = ["plain", "again", "tcpdump", "run", "api"] as const;
type Way = (typeof WAYS)[number];
const LOADS = ["saturated", "first", "paced"] as const;
type Load = (typeof LOADS)[number];
const LOAD_NAMES: Record<Load, string> = {
  saturated: "saturated", first: "paced, while code is compiled", paced: "paced",
};

const SERVICE = join(ROOT, "examples", "service");
const PORT = "8080";
const ADMIN_PORT = "8081";
const RESPONSE_BYTES = 1000;
/** Enough to keep one event loop busy; more would only queue. */
const CONNECTIONS = 32;
/**
 * A connection asks again after 1 ms to this, evenly: some 6,000 requests a second. (After the same
 * time always, all connections would ask at once.)
 */
const PAUSE_MOST_MS = 9;

/** The collector's code is compiled by then (its compiler's threads take less than 1 % of a core). */
const COMPILED_AFTER_SECONDS = 6;

interface Seconds {
  readonly first: number;
  readonly paced: number;
}

type Trial = Record<Load, Served>;

async function load(lab: Lab, name: Load, seconds: number): Promise<Served> {
  const url = `http://${lab.left.v4}:${PORT}/bytes/${RESPONSE_BYTES}`;
  const pauseMostMs = name === "saturated" ? 0 : PAUSE_MOST_MS;
  return await wrk(lab, lab.right, url, { name, connections: CONNECTIONS, seconds, pauseMostMs });
}

function startService(lab: Lab, way: Way, json: string): Running {
  const { scope, left } = lab;
  const environment = { ...process.env, PORT, ADMIN_PORT, KQTIME_LOG: `${json}.log` };
  const bun = process.execPath;
  const plain = [bun, join(SERVICE, "server.ts")];
  const prefix = left.prefix;
  if (way === "run") {
    const log = ["--log", `${json}.log`];
    const [kqtime, run, ...rest] = kqtimeRun(json, plain);
    return scope.start([kqtime!, run!, ...log, ...rest], { prefix, env: environment });
  }
  if (way === "api") {
    const env = { ...environment, LD_PRELOAD: PRELOAD };
    return scope.start([bun, join(SERVICE, "measured.ts")], { prefix, env });
  }
  return scope.start(plain, { prefix, env: environment });
}

async function startTcpdump({ scope, left }: Lab): Promise<Running> {
  const tap = scope.start(
    [
      "tcpdump", "-i", "any", "-s", "128", "-B", "65536", "-n", "-Z", "root",
      "-w", scope.path("tcpdump.pcap"), "tcp and not port 22",
    ],
    { prefix: left.prefix },
  );
  await tap.says(/listening on/);
  return tap;
}

let trials = 0;

async function trial(
  lab: Lab, way: Way, seconds: Seconds, summaries: { way: Way; summary: BenchSummary }[],
): Promise<Trial> {
  const { scope, left } = lab;
  const json = scope.path(`service-${trials++}.json`);
  const service = startService(lab, way, json);
  await service.says(/serving on port/);
  const tap = way === "tcpdump" ? await startTcpdump(lab) : null;
  // The service's code is compiled, buffers have grown.
  await load(lab, "saturated", 1);
  const first = await load(lab, "first", seconds.first);
  const saturated = await load(lab, "saturated", 1);
  const paced = await load(lab, "paced", seconds.paced);
  if (way === "api") {
    const url = `http://127.0.0.1:${ADMIN_PORT}/kqtime`;
    const { stdout } = await scope.run(["curl", "-s", "--fail", url], { prefix: left.prefix });
    summaries.push({ way, summary: JSON.parse(stdout) as BenchSummary });
  }
  await service.stop("SIGTERM");
  await tap?.stop("SIGINT");
  if (way === "run") summaries.push({ way, summary: readSummary(json) });
  if (way === "run" || way === "api") requireCalls(summaries.at(-1)!.summary, `service, ${NAMES[way]}`);
  return { saturated, first, paced };
}

const NAMES: Record<Way, string> = {
  plain: "without kqtime",
  again: "without kqtime, a second time",
  tcpdump: "beside a tcpdump alone",
  run: "kqtime run",
  api: "the API",
};

export async function benchService(bench: Bench): Promise<void> {
  const { report, random, quick } = bench;
  const turns = bench.pairs ?? (quick ? 2 : 10);
  const seconds = quick ? { first: 1, paced: 1 } : { first: COMPILED_AFTER_SECONDS, paced: 4 };
  await withLab({}, async (lab) => {
    const summaries: { way: Way; summary: BenchSummary }[] = [];
    const results: Record<Way, Trial[]> = {
      plain: [], again: [], tcpdump: [], run: [], api: [],
    };
    for (let turn = 0; turn < turns; turn++) {
      for (const way of shuffled(WAYS, random)) {
        results[way].push(await trial(lab, way, seconds, summaries));
      }
    }
    for (const name of LOADS) {
      const figures = (way: Way, what: keyof Served) => results[way].map((each) => each[name][what]);
      const of = (what: keyof Served) => (what === "rate" ? median : geometricMean);
      const plain = (what: keyof Served) => spread(figures("plain", what), of(what));
      const title = LOAD_NAMES[name];
      report.add("service", `${title}, without kqtime: p50`, "ms", plain("p50"), { digits: 2 });
      report.add("service", `${title}, without kqtime: p99`, "ms", plain("p99"), { digits: 2 });
      report.add("service", `${title}, without kqtime`, "requests/s", plain("rate"), { digits: 0 });
      const ratio = (way: Way, what: keyof Served) =>
        spread(
          figures(way, what).map((value, turn) => value / figures("plain", what)[turn]!), of(what),
        );
      // What the machine itself does to the 99th percentile between two runs.
      const noise = Math.max(1, ratio("again", "p99").high);
      for (const way of ["again", "tcpdump", "run", "api"] as const) {
        const text = `${title}, ${NAMES[way]}`;
        const judged = name === "paced" && (way === "run" || way === "api");
        report.add("service", `${text}: p50, ratio`, "", ratio(way, "p50"), { digits: 3 });
        report.add("service", `${text}: p99, ratio`, "", ratio(way, "p99"), {
          digits: 3,
          ...(judged ? { target: { sign: "<=", value: Number(noise.toFixed(3)) } } : {}),
        });
        report.add("service", `${text}: requests/s, ratio`, "", ratio(way, "rate"), { digits: 3 });
      }
    }
    const lost = summaries.reduce((sum, { summary }) => sum + lossOf(summary), 0);
    report.add("service", "records and packets lost", "", spread([lost]), {
      digits: 0, target: { sign: "=", value: 0 },
    });
    const gaps = summaries.map(({ way, summary }) =>
      gapsOf(summary, []).replace(/^(?=.)/, `service, ${NAMES[way]}: `),
    );
    report.notes.push(
      "service: the target of the p99 is the upper end of the interval of a second run without kqtime",
    );
    report.notes.push(...new Set(gaps.filter((text) => text !== "")));
  });
}
