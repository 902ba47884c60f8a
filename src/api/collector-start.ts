// Starts the collector as a child: a session of its own, nothing of this process's descriptors or
// preload libraries. It says on descriptor 3 whether it captures, and how to join it.

import { spawn } from "node:child_process";
import { accessSync, closeSync, constants } from "node:fs";
import { basename, join } from "node:path";
import { KQTimeError } from "../errors.ts";
import { makePipe } from "../ffi/descriptors.ts";
import { Env } from "../ring/layout.ts";
import { ROOT } from "../session/paths.ts";

/** How the user calls kqtime: a package that is installed in a project is not in PATH. */
export const COMMAND = /\/node_modules\//.test(`${ROOT}/`) ? "bunx kqtime" : "kqtime";

const START_MS = 10_000;
/** `ready PID SLOTS TOKEN SOCKETPATH`; the path comes last, because it may hold spaces. */
const READY = /^ready (\d+) (\d+) ([0-9a-f]+) (.+)\n$/;
const STATUS_MAX = 4096;

export interface CollectorOptions {
  readonly interface: string | undefined;
  readonly filter: string | undefined;
}

/** How a process joins a collector. */
export interface CollectorAddress {
  readonly socket: string;
  readonly token: string;
  readonly slots: number;
}

/** @throws KQTimeError `E_COLLECTOR` in the collector's own words, or that there is none */
export async function startCollector(options: CollectorOptions): Promise<CollectorAddress> {
  const program = findCollector();
  const words = ["collect"];
  if (options.interface !== undefined) words.push("--interface", options.interface);
  if (options.filter !== undefined) words.push("--filter", options.filter);
  const pipe = makePipe(STATUS_MAX);
  let failure: Error | null = null;
  try {
    const child = spawn(program, words, {
      cwd: "/",
      env: collectorEnvironment(program),
      stdio: ["ignore", "ignore", "ignore", pipe.write],
      detached: true,
    });
    child.once("error", (error) => (failure = error));
    // It outlives this program by what it takes to end the log well.
    child.unref();
    // Ends a collector that hangs; one that has spoken is left alone.
    const timer = setTimeout(() => child.kill("SIGKILL"), START_MS);
    closeSync(pipe.write);
    const said = await readAll(pipe.read);
    clearTimeout(timer);
    const ready = READY.exec(said);
    if (ready !== null) return { slots: Number(ready[2]), token: ready[3]!, socket: ready[4]! };
    const why = said.replace(/^error /, "").trim();
    throw cannotStart(why === "" ? `${program}: ${reasonOf(failure)}` : why, failure);
  } finally {
    closeSync(pipe.read);
  }
}

function reasonOf(failure: Error | null): string {
  if (failure !== null) return failure.message;
  return `it ended without a word; \`${COMMAND} doctor\` tells what is missing`;
}

function cannotStart(why: string, cause: unknown = undefined): KQTimeError {
  const text = `the collector cannot be started: ${why}`;
  return new KQTimeError("E_COLLECTOR", "collect", text, undefined, { cause });
}

/** What is written into a pipe until its other end is closed. */
async function readAll(fd: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of Bun.file(fd).stream()) text += decoder.decode(chunk, { stream: true });
  return text;
}

/**
 * KQTIME_COLLECTOR, this package's own program, or `kqtime` of the PATH.
 * @throws KQTimeError `E_COLLECTOR`
 */
function findCollector(): string {
  const named = process.env["KQTIME_COLLECTOR"];
  if (named !== undefined && named !== "") return named;
  const own = ownCollector();
  if (isProgram(own)) return own;
  const found = Bun.which("kqtime");
  if (found !== null) return found;
  throw cannotStart(
    `${own} is not there, and no kqtime in PATH: set KQTIME_COLLECTOR to bin/kqtime of the kqtime ` +
      "package",
  );
}

function ownCollector(): string {
  return join(ROOT, "bin", "kqtime");
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function collectorEnvironment(program: string): Record<string, string> {
  const environment: Record<string, string> = {};
  const not = ["LD_PRELOAD", Env.socket, Env.token, Env.slots] as readonly string[];
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !not.includes(name)) environment[name] = value;
  }
  // The Bun that runs this program runs the collector too, wherever it lies. (A compiled program
  // is none that could.)
  if (program === ownCollector() && /^bun(-|$)/.test(basename(process.execPath))) {
    environment["KQTIME_BUN"] ??= process.execPath;
  }
  return environment;
}
