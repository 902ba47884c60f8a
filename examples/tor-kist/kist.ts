// Where do a relay's bytes wait, in Tor or in the kernel? Compares schedulers of Tor (or any other
// torrc lines) on a relay with several OR links behind one shaped device, in a private network, and
// prints the relay's outbound kernel queue time, the throughput of the streams and the round trip
// of a probe among them. Reproduces the measurement that the KIST scheduler was made for (Jansen et
// al., "Never Been KIST", USENIX Security 2014).
//
//     sudo bun run kist [--quick] [--runs N] [--seconds N] [--rate RATE] [--limit BYTES]
//         [--clients N] [--streams N] [--circuits N] [--congestion NAME] [--seed N] [--json FILE]
//         [variant…]
//
// A variant is the name of a scheduler, or torrc lines separated by ";", such as
// "Schedulers KIST;KISTSchedRunInterval 2 msec". The runs take turns in an order that the seed
// decides; each figure is the median of a variant's runs with the lowest and the highest.

import { writeFileSync } from "node:fs";
import { loadavg, release } from "node:os";
import { Scope } from "../../test/lib/process.ts";
import { seeded, shuffled } from "../../tools/bench/stats.ts";
import { prepare, runOnce, type Result, type Setup, type Variant } from "./run.ts";
import { table } from "./table.ts";

class UsageError extends Error {}

interface Options extends Setup {
  runs: number;
  seed: number;
  json: string | null;
  variants: Variant[];
}

const SCHEDULERS = ["Vanilla", "KIST", "KISTLite"];
const PROGRAMS = ["tor", "tor-gencert", "ip", "tc", "nsenter"];

function parse(argv: readonly string[]): Options {
  const words = [...argv];
  const options: Options = {
    clients: 6, streams: 60, circuits: 3, rate: "40mbit", limitBytes: 100_000,
    congestion: "cubic", seconds: 20, runs: 3, seed: 1, json: null, variants: [],
  };
  const quick = words.indexOf("--quick");
  if (quick >= 0) {
    words.splice(quick, 1);
    Object.assign(options, { clients: 3, streams: 51, circuits: 2, seconds: 3, runs: 1 });
  }
  const value = (name: string): string => {
    const word = words.shift();
    if (word === undefined) throw new UsageError(`${name} needs a value`);
    return word;
  };
  const count = (name: string): number => {
    const number = Number(value(name));
    if (Number.isInteger(number) && number > 0) return number;
    throw new UsageError(`${name} takes a whole number above 0`);
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--runs") options.runs = count(word);
    else if (word === "--seconds") options.seconds = count(word);
    else if (word === "--rate") options.rate = value(word);
    else if (word === "--limit") options.limitBytes = count(word);
    else if (word === "--clients") options.clients = count(word);
    else if (word === "--streams") options.streams = count(word);
    else if (word === "--circuits") options.circuits = count(word);
    else if (word === "--congestion") options.congestion = value(word);
    else if (word === "--seed") options.seed = count(word);
    else if (word === "--json") options.json = value(word);
    else if (word.startsWith("--")) throw new UsageError(`unknown option ${word}`);
    else options.variants.push(variant(word));
  }
  if (options.variants.length === 0) {
    const names = quick >= 0 ? SCHEDULERS.slice(0, 2) : SCHEDULERS;
    options.variants = names.map(variant);
  }
  return options;
}

function variant(word: string): Variant {
  if (!/\s/.test(word)) return { name: word, torrc: [`Schedulers ${word}`] };
  return { name: word, torrc: word.split(";").map((line) => line.trim()).filter(Boolean) };
}

function requireMachine(): void {
  if (process.platform !== "linux") throw new UsageError("this needs Linux");
  if (process.getuid?.() !== 0) {
    throw new UsageError("this makes network namespaces and captures: run it as root");
  }
  // The programs of the system live in sbin, which a user's PATH often lacks.
  process.env.PATH = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
  const missing = PROGRAMS.filter((name) => Bun.which(name, { PATH: process.env.PATH! }) === null);
  if (missing.length > 0) throw new UsageError(`needs ${missing.join(", ")}`);
}

async function measure(options: Options, scope: Scope): Promise<Result[]> {
  const random = seeded(options.seed);
  const turns = Array.from({ length: options.runs }, () => shuffled(options.variants, random)).flat();
  const results: Result[] = [];
  console.error(`starting a private network of ${3 + options.clients} Tors`);
  const tor = await prepare(scope, options);
  for (const [i, turn] of turns.entries()) {
    const result = await runOnce(scope, tor, options, turn, i);
    results.push(result);
    console.error(
      `run ${i + 1} of ${turns.length}, ${turn.name}: p50 ${(result.queueNs.p50 / 1e6).toFixed(1)} ms, ` +
        `${result.throughputMbit.toFixed(1)} Mbit/s${result.gaps && `; ${result.gaps}`}`,
    );
  }
  return results;
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2));
  requireMachine();
  const scope = new Scope();
  const stop = (code: number) => void scope.end().finally(() => process.exit(code));
  process.once("SIGINT", () => stop(130));
  process.once("SIGTERM", () => stop(143));
  const load = loadavg()[0];
  let results: Result[];
  try {
    results = await measure(options, scope);
  } finally {
    await scope.end();
  }
  const { stdout } = Bun.spawnSync(["tor", "--version"]);
  const version = stdout.toString().match(/version (\S+?)\.?\s/)?.[1];
  const machine = `Tor ${version}, Linux ${release()}, ${navigator.hardwareConcurrency} processors ` +
    `(load ${load.toFixed(1)} before)`;
  const { clients, streams, circuits, rate, limitBytes, congestion, seconds, runs, seed } = options;
  const setup = `${clients} clients, ${streams} streams on ${clients * circuits} circuits; r1 sends ` +
    `at ${rate}, at most ${limitBytes / 1000} kB waiting, ${congestion}; ${runs} × ${seconds} s, seed ${seed}`;
  const names = options.variants.map(({ name }) => name);
  console.log(`${table(names, results)}\n${setup}\n${machine}`);
  if (options.json !== null) {
    const { json: _, ...rest } = options;
    writeFileSync(options.json, `${JSON.stringify({ machine, setup: rest, results }, null, 2)}\n`);
  }
  return results.every((result) => result.gaps === "") ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    console.error(`kist: ${error.message}`);
    process.exit(2);
  },
);
