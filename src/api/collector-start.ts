// Starts the collector as a child: a session of its own, nothing of this process's descriptors or
// preload libraries. It says on descriptor 3 whether it captures, and how to join it.

import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { basename, join } from "node:path";
import type { Readable } from "node:stream";
import { KQTimeError } from "../errors.ts";
import { Env } from "../ring/layout.ts";
import { ROOT } from "../session/paths.ts";

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
  const child = spawn(program, words, {
    cwd: "/",
    env: collectorEnvironment(program),
    stdio: ["ignore", "ignore", "ignore", "pipe"],
    detached: true,
  });
  // It outlives this program by what it takes to end the log well.
  child.unref();
  const status = child.stdio[3] as Readable;
  const failed = (text: string): KQTimeError =>
    new KQTimeError("E_COLLECTOR", "collect", `the collector cannot be started: ${text}`);
  return new Promise((resolve, reject) => {
    let said = "";
    const fail = (error: KQTimeError): void => {
      clearTimeout(timer);
      status.destroy();
      reject(error);
    };
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      fail(failed(`${program} has said nothing for ${START_MS / 1000} s`));
    }, START_MS);
    child.once("error", (error) => fail(failed(`${program}: ${error.message}`)));
    status.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.length < STATUS_MAX && !said.endsWith("\n")) return;
      const ready = READY.exec(said);
      if (ready === null) {
        fail(failed(said.replace(/^error /, "").trim()));
        return;
      }
      clearTimeout(timer);
      status.destroy();
      resolve({ slots: Number(ready[2]), token: ready[3]!, socket: ready[4]! });
    });
    status.once("end", () => {
      if (!said.endsWith("\n")) {
        fail(failed(`${program} ended without a word; \`kqtime doctor\` tells what is missing`));
      }
    });
  });
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
  throw new KQTimeError(
    "E_COLLECTOR",
    "collect",
    `there is no collector at ${own}, and no kqtime in PATH: set KQTIME_COLLECTOR to bin/kqtime of ` +
      "the kqtime package",
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
