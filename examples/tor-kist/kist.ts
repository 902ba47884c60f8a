// Where do a relay's bytes wait, in Tor or in the kernel? Compares schedulers of Tor (or any other
// torrc lines) on a relay with several OR links behind one shaped device, in a private network, and
// prints the relay's outbound kernel queue time, the throughput of the streams and the round trip
// of a probe among them. Reproduces the measurement that the KIST scheduler was made for (Jansen et
// al., "Never Been KIST", USENIX Security 2014).
//
// `npx bun run kist --help` tells the options. The variants' runs take turns in an order that the seed
// decides; each figure is the median of a variant's runs with the lowest and the highest.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, release } from "node:os";
import { Scope } from "../../test/lib/process.ts";
import { seeded, shuffled } from "../../tools/bench/stats.ts";
import { HELP, parse, UsageError, type Options } from "./options.ts";
import { prepare, runOnce, type Result } from "./run.ts";
import { table } from "./table.ts";

const PROGRAMS = ["tor", "tor-gencert", "ip", "tc", "nsenter"];
const SETTLE_MS = 5000;
const SIGNAL_MS = 100;

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

/** Tor itself judges the variants' lines: a relay that cannot read them would end in its turn. */
function requireTorrc(options: Options, scope: Scope): void {
  const file = scope.path("variant.torrc");
  const folder = scope.path("variant");
  mkdirSync(folder, { mode: 0o700 });
  for (const { name, torrc } of options.variants) {
    writeFileSync(file, ["SocksPort 0", `DataDirectory ${folder}`, ...torrc, ""].join("\n"));
    const { exitCode, stdout } = Bun.spawnSync(
      ["tor", "--hush", "--defaults-torrc", "/dev/null", "-f", file, "--verify-config"],
    );
    if (exitCode === 0) continue;
    const reason = stdout.toString().match(/(?:Failed to parse\/validate config|\[err\]): (.*)/)?.[1];
    throw new UsageError(`Tor refuses "${name}": ${reason ?? `exit ${exitCode}`}`);
  }
}

async function compare(options: Options, scope: Scope): Promise<number> {
  const load = loadavg()[0];
  const results = await measure(options, scope);
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

/** One line: what failed, and what the program that failed said last. DEBUG=1 tells all. */
function tell(error: unknown): void {
  const whole = error instanceof Error ? error.message : String(error);
  const lines = whole.split("\n").map((line) => line.trim()).filter(Boolean);
  const last = lines.length > 1 && !lines.at(-1)!.startsWith("---") ? `: ${lines.at(-1)}` : "";
  console.error(`kist: ${lines[0] ?? "failed"}${last}`);
  if (process.env.DEBUG && error instanceof Error) console.error(`${error.stack}`);
}

/** Returns the exit code, after all that was started has ended and the namespaces are gone. */
export async function main(argv: readonly string[]): Promise<number> {
  let scope: Scope | undefined;
  let compared: Promise<number> | undefined;
  let code: number;
  let signalled: number | null = null;
  const ended = Promise.withResolvers<number>();
  // Each time, not once: a second Ctrl-C must not end this before its namespaces.
  const stop = (status: number) => () => {
    if (signalled === null) console.error("kist: ending what it started");
    signalled ??= status;
    ended.resolve(status);
  };
  try {
    const options = parse(argv);
    if (options === null) {
      console.log(HELP);
      return 0;
    }
    requireMachine();
    process.on("SIGINT", stop(130));
    process.on("SIGTERM", stop(143));
    process.on("SIGHUP", stop(129));
    scope = new Scope();
    requireTorrc(options, scope);
    compared = compare(options, scope);
    code = await Promise.race([compared, ended.promise]);
  } catch (error) {
    // A Ctrl-C reaches the programs, too: that one has ended by it may be known before the signal.
    if (scope !== undefined) await Promise.race([ended.promise, Bun.sleep(SIGNAL_MS)]);
    if (signalled === null) tell(error);
    code = error instanceof UsageError ? 2 : 1;
  }
  if (scope !== undefined) {
    const end = scope.end();
    // After a signal, its programs having ended under it, it fails, which is of no interest; but
    // what it was just about to write must not come after the folder's removal.
    await Promise.race([
      Promise.allSettled([end, compared]), end.catch(() => {}).then(() => Bun.sleep(SETTLE_MS)),
    ]);
    try {
      if (!process.env.KQTIME_E2E_KEEP) rmSync(scope.folder, { recursive: true, force: true });
      await end;
    } catch (error) {
      tell(error);
      code = 1;
    }
  }
  return signalled ?? code;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
