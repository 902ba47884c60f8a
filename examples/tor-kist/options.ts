// The command line of the comparison. What it would stumble over minutes later (a scheduler that
// Tor does not have, a rate that tc does not understand, a file that cannot be written) is refused here.

import { closeSync, existsSync, openSync, rmSync } from "node:fs";
import type { Setup, Variant } from "./run.ts";

/** Refused before anything was started; one line for the user. */
export class UsageError extends Error {}

export interface Options extends Setup {
  runs: number;
  seed: number;
  json: string | null;
  variants: Variant[];
}

const SCHEDULERS = ["Vanilla", "KIST", "KISTLite"];
/** tc(8), "PARAMETERS". */
const RATE = /^(\d+(?:\.\d+)?)(?:[kmgt]i?)?(?:bit|bps)$/i;
/** An option and its value, as in tor(1); a torrc line may also add to an option ("+") or reset it ("/"). */
const TORRC_LINE = /^(?:\+?[A-Za-z_]\w*\s+\S.*|\/[A-Za-z_]\w*)$/;

export const HELP = `Compares schedulers of Tor on a relay behind a shaped device, in a private network. Needs root.

Usage: sudo node_modules/.bin/bun run kist [option…] [variant…]

A variant is a scheduler (${SCHEDULERS.join(", ")}; without any: all of them), or torrc lines separated
by ";", as one word: "Schedulers KIST;KISTSchedRunInterval 2 msec".

  --runs N           runs of each variant (default 3)
  --seconds N        length of a run (20)
  --rate RATE        what the relay's device carries away, as for tc (40mbit)
  --limit BYTES      how much may wait at that device (100000)
  --clients N        OR links of the relay (6)
  --streams N        downloads, of all clients together (60)
  --circuits N       circuits that each client spreads them over (3)
  --congestion NAME  the kernel's congestion control (cubic)
  --seed N           decides the order of the runs (1)
  --json FILE        all figures of all runs
  --quick            Vanilla and KIST once, 3 s, 3 clients: shows that it works
  --help             this text

Exit code: 0; 1 if a run failed or its measurement has gaps; 2 for what it cannot start with;
130 after Ctrl-C, when all that it had started is gone.`;

/** null: --help is asked for. */
export function parse(argv: readonly string[]): Options | null {
  if (argv.includes("--help") || argv.includes("-h")) return null;
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
    if (word === undefined || word === "" || word.startsWith("--")) {
      throw new UsageError(`${name} needs a value`);
    }
    return word;
  };
  const count = (name: string): number => {
    const number = Number(value(name));
    if (Number.isSafeInteger(number) && number > 0) return number;
    throw new UsageError(`${name} takes a whole number above 0`);
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--runs") options.runs = count(word);
    else if (word === "--seconds") options.seconds = count(word);
    else if (word === "--rate") options.rate = rate(value(word));
    else if (word === "--limit") options.limitBytes = count(word);
    else if (word === "--clients") options.clients = count(word);
    else if (word === "--streams") options.streams = count(word);
    else if (word === "--circuits") options.circuits = count(word);
    else if (word === "--congestion") options.congestion = value(word);
    else if (word === "--seed") options.seed = count(word);
    else if (word === "--json") options.json = value(word);
    else if (word.startsWith("-")) throw new UsageError(`unknown option ${word}; see --help`);
    else options.variants.push(variant(word));
  }
  if (options.variants.length === 0) {
    const names = quick >= 0 ? SCHEDULERS.slice(0, 2) : SCHEDULERS;
    options.variants = names.map(variant);
  }
  if (options.json !== null) requireWritable(options.json);
  return options;
}

function variant(word: string): Variant {
  const scheduler = SCHEDULERS.find((name) => name.toLowerCase() === word.trim().toLowerCase());
  if (scheduler !== undefined) return { name: scheduler, torrc: [`Schedulers ${scheduler}`] };
  const torrc = word.split(";").map((line) => line.trim()).filter(Boolean);
  if (torrc.length > 0 && torrc.every((line) => TORRC_LINE.test(line))) return { name: word, torrc };
  throw new UsageError(
    `"${word}" is no scheduler (${SCHEDULERS.join(", ")}), nor torrc lines such as "KISTSchedRunInterval 2 msec"`,
  );
}

function rate(word: string): string {
  const number = word.match(RATE)?.[1];
  if (number !== undefined && Number(number) > 0) return word;
  throw new UsageError(`--rate takes a rate as tc does, such as 40mbit, not "${word}"`);
}

/** By opening it: whether root may write somewhere no mode tells. Leaves no empty file. */
function requireWritable(path: string): void {
  const there = existsSync(path);
  try {
    closeSync(openSync(path, "a", 0o644));
  } catch (error) {
    throw new UsageError(`--json ${path} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
  if (!there) rmSync(path);
}
