// Hostile inputs, any number of them, from a seed:
//
//     bun tools/fuzz.ts [--inputs N] [--seed N] [--time SECONDS]
//     [frames|rings|logs|recordings|messages…]
//
// Each fuzzer runs in a process of its own, so that a crash or a hang is a finding too. What is found
// is said with its seed and number, made as small as it can be, and kept in test/fuzz/cases, whose
// files the tests run. So is memory that grows, which no single input shows. Exits 1 on a finding.
// --time ends each fuzzer after so long.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FUZZERS, sharesOf } from "../test/fuzz/fuzzers.ts";
import { type Finding, fuzz, INPUT_MOST_MS, inputOf } from "../test/fuzz/harness.ts";

const CASES = join(import.meta.dir, "../test/fuzz/cases");
const LOOK_EVERY_MS = 250;
/** Inputs between two looks at the clock and the memory. */
const PIECE = 250;
/** Fewer pieces do not tell growth from a start. */
const PIECES_JUDGED = 12;
/** What the second half of a run may have more than the first: the garbage collector's doing. */
const GROWTH_MB = 48;
/** Without another input for so long, it hangs. */
const HANG_MS = 4 * INPUT_MOST_MS;

class UsageError extends Error {}

interface Options {
  inputs: number;
  seed: number;
  seconds: number;
  names: string[];
  /** Where a child tells how far it is; null: this is the parent. */
  progress: string | null;
}

function parse(argv: readonly string[]): Options {
  const options: Options = { inputs: 10_000_000, seed: 1, seconds: Infinity, names: [], progress: null };
  const words = [...argv];
  const count = (name: string): number => {
    const number = Number(words.shift());
    if (Number.isSafeInteger(number) && number > 0) return number;
    throw new UsageError(`${name} takes a whole number`);
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--inputs") options.inputs = count(word);
    else if (word === "--seed") options.seed = count(word);
    else if (word === "--time") options.seconds = count(word);
    else if (word === "--child") options.progress = words.shift() ?? null;
    else if (word in FUZZERS) options.names.push(word);
    else throw new UsageError(`unknown "${word}"; there are ${Object.keys(FUZZERS).join(", ")}`);
  }
  if (options.names.length === 0) options.names = Object.keys(FUZZERS);
  return options;
}

/** What a child tells when it has ended by itself. */
interface Told {
  inputs: number;
  past: number;
  slowestMs: number;
  seconds: number;
  /** Resident memory after each piece. */
  residentMb: number[];
  findings: (Omit<Finding, "input"> & { input: string })[];
}

async function child(name: string, options: Options): Promise<void> {
  const fuzzer = await FUZZERS[name]!.open();
  const shared = new Float64Array(Bun.mmap(options.progress!, { shared: true }).buffer, 0, 2);
  const beganMs = performance.now();
  const { inputs: count, seed, seconds } = options;
  const told: Told = { inputs: 0, past: 0, slowestMs: 0, seconds: 0, residentMb: [], findings: [] };
  for (let from = 0; from < count && told.findings.length === 0; from += PIECE) {
    if (performance.now() - beganMs >= seconds * 1000) break;
    const { inputs, past, slowestMs, findings } = await fuzz(fuzzer, {
      seed,
      from,
      count: Math.min(PIECE, count - from),
      step: (number) => void (shared[0] = number + 1),
    });
    told.inputs += inputs;
    told.past += past;
    told.slowestMs = Math.max(told.slowestMs, slowestMs);
    told.residentMb.push(Math.round(process.memoryUsage.rss() / 1e6));
    for (const finding of findings) {
      told.findings.push({ ...finding, input: Buffer.from(finding.input).toString("base64") });
    }
  }
  told.seconds = (performance.now() - beganMs) / 1000;
  fuzzer.close?.();
  console.log(JSON.stringify(told));
}

/** The fuzzer that runs now. */
let running: Bun.Subprocess | null = null;

/** Runs one fuzzer to its end, whatever that is; returns whether nothing was found. */
async function run(name: string, inputs: number, { seed, seconds }: Options, folder: string): Promise<[boolean, number]> {
  const progress = join(folder, name);
  writeFileSync(progress, new Uint8Array(16));
  const shared = new Float64Array(Bun.mmap(progress, { shared: true }).buffer, 0, 2);
  const argv = [process.execPath, import.meta.path, "--child", progress, "--inputs", String(inputs)];
  argv.push("--seed", String(seed), ...(seconds === Infinity ? [] : ["--time", String(seconds)]), name);
  const process_ = Bun.spawn(argv, { stdout: "pipe", stderr: "inherit", env: { ...process.env, TMPDIR: folder } });
  running = process_;
  let hangs = false;
  let last = -1;
  let sinceMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    if (shared[0] !== last) [last, sinceMs] = [shared[0]!, nowMs];
    else if (nowMs - sinceMs > HANG_MS && last > 0) {
      hangs = true;
      process_.kill("SIGKILL");
    }
  }, LOOK_EVERY_MS);
  const text = await new Response(process_.stdout).text();
  await process_.exited;
  clearInterval(timer);
  if (text === "") {
    const number = shared[0]! - 1;
    const why = hangs ? "hangs" : `ends the process (${process_.signalCode ?? process_.exitCode})`;
    const fuzzer = await FUZZERS[name]!.open();
    keep({ fuzzer: name, seed, number, why, input: number < 0 ? new Uint8Array() : inputOf(fuzzer, seed, number) });
    return [false, Math.max(number, 0)];
  }
  const told = JSON.parse(text) as Told;
  const fuzzer = await FUZZERS[name]!.open();
  const share = ((100 * told.past) / Math.max(1, told.inputs)).toFixed(1);
  const rate = Math.round(told.inputs / told.seconds);
  console.log(
    `${name}: ${told.inputs} inputs in ${told.seconds.toFixed(0)} s, ${rate} a second; past the first check ` +
      `(${fuzzer.past}): ${share} %; slowest ${told.slowestMs.toFixed(0)} ms; ` +
      `memory: ${memoryText(told.residentMb)}; ${told.findings.length} found`,
  );
  for (const found of told.findings) keep({ ...found, input: Buffer.from(found.input, "base64") });
  const grows = memoryGrows(told.residentMb);
  if (grows) console.log(`${name}: seed ${seed}: the memory grows: more than ${GROWTH_MB} MB in the second half`);
  return [told.findings.length === 0 && !grows, told.inputs];
}

/** The most that there was in each half of a run. */
function halves(residentMb: readonly number[]): { first: number; second: number } {
  const half = residentMb.length >> 1;
  const most = (part: readonly number[]) => part.reduce((sofar, each) => Math.max(sofar, each), 0);
  return { first: most(residentMb.slice(0, half)), second: most(residentMb.slice(half)) };
}

function memoryGrows(residentMb: readonly number[]): boolean {
  const { first, second } = halves(residentMb);
  return residentMb.length >= PIECES_JUDGED && second > first + GROWTH_MB;
}

function memoryText(residentMb: readonly number[]): string {
  const { first, second } = halves(residentMb);
  if (residentMb.length >= PIECES_JUDGED) return `at most ${first} MB in the first half, ${second} MB in the second`;
  return `at most ${second} MB, too few inputs to tell whether it grows`;
}

function keep({ fuzzer, seed, number, why, input }: Finding): void {
  const folder = join(CASES, fuzzer);
  const file = join(folder, `${seed}-${number}.bin`);
  console.log(`${fuzzer}: seed ${seed}, input ${number}: ${why}`);
  console.log(`  least input, ${input.length} bytes: ${Buffer.from(input.subarray(0, 200)).toString("hex")}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, input);
  console.log(`  kept as ${file}`);
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2));
  if (options.progress !== null) {
    readFileSync(options.progress);
    await child(options.names[0]!, options);
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), "kqtime-fuzz-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    process.on(signal, () => {
      running?.kill("SIGKILL");
      remove();
      process.exit(code);
    });
  }
  let whole = 0;
  let clean = true;
  try {
    for (const [name, inputs] of sharesOf(options.names, options.inputs)) {
      const [ok, count] = await run(name, inputs, options, folder);
      clean &&= ok;
      whole += count;
    }
  } finally {
    remove();
  }
  console.log(`${whole} inputs, seed ${options.seed}: ${clean ? "nothing found" : "SOMETHING WAS FOUND, see above"}`);
  return clean ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    console.error(`fuzz: ${error.message}`);
    process.exit(2);
  },
);
