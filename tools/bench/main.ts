// The benchmarks behind `bun run bench`: what kqtime costs the program that it measures.
//
//     bun tools/bench/main.ts [--quick] [--pairs N] [--seed N] [--congestion NAME] [--json FILE] [bench…]
//
// Benches, all without a name (some 40 minutes; --quick: some 5, for a look):
//   hook        what the hooks add to a call: CPU time, instructions, real calls, packets
//   join        events a second through ring reader, decoder and engine; growth of the heap
//   idle        the collector's CPU time beside silent connections, from 12 s after its start on
//   throughput  iperf3 over an unshaped veth, 1 and 16 streams, with and without offloads
//   servers     nginx under wrk, redis under redis-benchmark
//   packets     as many packets a second as there can be, none lost
//   memory      the collector's beside a flood that is not its target's
//   parse       log text a second
//   service     a Bun service, measured from outside and by itself
//
// What is compared takes turns in an order that the seed decides, and a ratio is of neighbours, so that
// what else the machine does falls on both. Figures are medians, of latencies geometric means, with their
// 95 % confidence intervals. Exits 1 if a bench failed, or a target is missed by the whole of an
// interval. What was found with them: docs/performance.md.

import { writeFileSync } from "node:fs";
import { release } from "node:os";
import type { Bench } from "./bench.ts";
import { benchHook } from "./hook.ts";
import { benchIdle } from "./idle.ts";
import { benchJoin } from "./join.ts";
import { benchMemory } from "./memory.ts";
import { benchPackets } from "./packets.ts";
import { benchParse } from "./parse.ts";
import { Report } from "./report.ts";
import { benchServers } from "./servers.ts";
import { benchService } from "./service.ts";
import { seeded } from "./stats.ts";
import { benchThroughput } from "./throughput.ts";

const BENCHES: Record<string, (bench: Bench) => Promise<void>> = {
  hook: benchHook,
  join: benchJoin,
  idle: benchIdle,
  throughput: benchThroughput,
  servers: benchServers,
  packets: benchPackets,
  memory: benchMemory,
  parse: benchParse,
  service: benchService,
};
const PROGRAMS = ["ip", "nsenter", "iperf3", "tcpdump", "wrk", "curl", "ethtool", "nginx",
  "redis-server", "redis-benchmark",  ...(process.env.CC ? [] : ["cc"])];

class UsageError extends Error {}

interface Options {
  quick: boolean;
  pairs: number | null;
  seed: number;
  /** TCP's congestion control of the transfers: Linux's own default, whatever this machine's is. */
  congestion: string;
  json: string | null;
  names: string[];
}

function parse(argv: readonly string[]): Options {
  const options: Options = {
    quick: false, pairs: null, seed: 1, congestion: "cubic", json: null, names: [],
  };
  const words = [...argv];
  const value = (name: string): string => {
    const word = words.shift();
    if (word === undefined) throw new UsageError(`${name} needs a value`);
    return word;
  };
  const count = (name: string): number => {
    const number = Number(value(name));
    if (Number.isInteger(number) && number > 0) return number;
    throw new UsageError(`${name} takes a whole number`);
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--quick") options.quick = true;
    else if (word === "--pairs") options.pairs = count(word);
    else if (word === "--seed") options.seed = count(word);
    else if (word === "--congestion") options.congestion = value(word);
    else if (word === "--json") options.json = value(word);
    else if (word in BENCHES) options.names.push(word);
    else throw new UsageError(`unknown "${word}"; there are ${Object.keys(BENCHES).join(", ")}`);
  }
  if (options.names.length === 0) options.names = Object.keys(BENCHES);
  return options;
}

function requireMachine(): void {
  if (process.platform !== "linux") throw new UsageError("the benchmarks run on Linux");
  if (process.getuid?.() !== 0) {
    throw new UsageError("the benchmarks make network namespaces and capture: run them as root");
  }
  // The programs of the system live in sbin, which a user's PATH often lacks.
  const PATH = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
  process.env.PATH = PATH;
  const missing = PROGRAMS.filter((program) => Bun.which(program, { PATH }) === null);
  if (missing.length > 0) {
    throw new UsageError(`needs ${missing.join(", ")} (npm run setup -- --test)`);
  }
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2));
  requireMachine();
  const report = new Report((line) => console.error(line));
  const began = performance.now();
  let failures = 0;
  for (const name of options.names) {
    console.error(`${name}:`);
    const { seed, quick, pairs, congestion } = options;
    try {
      await BENCHES[name]!({ report, random: seeded(seed), quick, pairs, congestion });
    } catch (error) {
      // What the others have measured, and will, is not lost.
      failures++;
      report.notes.push(`${name} FAILED: ${error instanceof Error ? error.message : error}`);
      if (process.env.DEBUG) console.error(error);
      console.error(`bench: ${report.notes.at(-1)}`);
    }
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  const processors = `${navigator.hardwareConcurrency} processors`;
  const machine = `Linux ${release()}, ${process.arch}, ${processors}, Bun ${Bun.version}`;
  console.log(`${report.table()}\n${machine}; seed ${options.seed}; ${seconds} s`);
  if (options.json !== null) {
    const { rows, notes } = report;
    const text = JSON.stringify({ machine, seed: options.seed, rows, notes }, null, 2);
    writeFileSync(options.json, `${text}\n`);
  }
  return failures > 0 || report.missed.length > 0 ? 1 : 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    console.error(`bench: ${error.message}`);
    process.exit(2);
  },
);
