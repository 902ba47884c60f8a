// Builds the libraries, the scripted collector and the program of the tests of the C API into a
// temporary folder, and runs the program.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Entry, Ring, SlotRecord } from "../preload/ringdump.ts";

const FOLDER = import.meta.dir;
/** Of the program that uses the API. */
export const SOURCES = ["program.c", "lives.c", "processes.c"];
export const ROOT = join(FOLDER, "..", "..");

/** What a compiler may take on a machine that does other things too. */
export const BUILD_MS = 60_000;

export const canCompile =
  process.platform === "linux" && Bun.which(process.env.CC ?? "cc") !== null;

export interface Start {
  pid: number;
  ppid: number;
  sid: number;
  argv: number;
  arg1: string;
  cwd: string;
  fds: Record<string, string>;
  environment: string[];
  handled: string;
  policy: number;
  nice: number;
  umask: number;
  processors: number;
  /** Resources whose soft limit is below the hard one. */
  limited: string;
  [argument: `arg${number}`]: string;
}

export interface Request {
  type: number;
  handle: number;
  flags: number;
  writes: number;
  text: string;
}

/** What the scripted collectors of one run have seen, one after the other. */
export interface Seen {
  starts: Start[];
  requests: Request[];
  rings: Ring[];
  records: (SlotRecord & { session: number })[];
  entries: Entry[];
  losses: number[];
  /** How often one found that nobody listens, and how often one came to its end. */
  alone: number;
  ends: number;
  bad: number;
}

export interface Ran {
  code: number;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  script?: string;
  env?: Record<string, string | undefined>;
  program?: string;
  prefix?: string[];
  preload?: string | null;
  log?: string;
  stdin?: "pipe";
}

function check(argv: string[], env: Record<string, string | undefined> = {}): void {
  const built = Bun.spawnSync(argv, { env: { ...process.env, ...env }, stderr: "pipe" });
  if (built.exitCode !== 0) throw new Error(built.stderr.toString());
}

/** Temporary folder with everything built. */
export class Bench {
  readonly folder = mkdtempSync(join(tmpdir(), "kqtime-capi-"));
  readonly library = join(this.folder, "libkqtime-preload.so");
  readonly log = join(this.folder, "log");
  readonly seen = join(this.folder, "seen");

  constructor() {
    const env = { KQTIME_BUILD_DIR: this.folder, KQTIME_DEBUG: "" };
    check(["sh", join(ROOT, "tools", "build-native.sh")], env);
    check([...cc(), "-o", join(this.folder, "collector"), join(FOLDER, "collector.c")]);
    this.compile("program");
  }

  compile(output: string, ...flags: string[]): string {
    const path = join(this.folder, output);
    const sources = SOURCES.map((name) => join(FOLDER, name));
    check([
      ...cc(), ...flags, "-I", join(ROOT, "c"), "-o", path, ...sources,
      "-L", this.folder, "-lkqtime", "-ldl",
    ]);
    return path;
  }

  /** The environment of a program under the preload library, with the scripted collector. */
  environment({ script = "", env = {}, preload = this.library }: RunOptions = {}) {
    return {
      ...process.env,
      LD_LIBRARY_PATH: this.folder,
      LD_PRELOAD: preload ?? undefined,
      KQTIME_SESSION: undefined,
      KQTIME_COLLECTOR: join(this.folder, "collector"),
      CAPI_OUTPUT: this.seen,
      CAPI_SCRIPT: script,
      ...env,
    };
  }

  command(scenario: string, options: RunOptions = {}): string[] {
    const { prefix = [], program = join(this.folder, "program"), log = this.log } = options;
    return [...prefix, program, scenario, log];
  }

  run(scenario: string, options: RunOptions = {}): Ran {
    rmSync(this.seen, { force: true });
    const child = Bun.spawnSync(this.command(scenario, options), {
      cwd: this.folder,
      env: this.environment(options),
      stdout: "pipe",
      stderr: "pipe",
      timeout: 60_000,
    });
    return {
      code: child.exitCode,
      signal: child.signalCode == null ? null : String(child.signalCode),
      stdout: child.stdout.toString(),
      stderr: child.stderr.toString(),
    };
  }

  /** Runs a scenario that asks to go on. */
  steps(scenario: string, options: RunOptions = {}): Steps {
    rmSync(this.seen, { force: true });
    return new Steps(this.command(scenario, options), this.folder, this.environment(options));
  }

  /** Runs a scenario that must succeed without a word on stderr, and waits for the collectors. */
  async sees(scenario: string, options: RunOptions = {}): Promise<Seen & { stdout: string }> {
    rmSync(this.log, { force: true });
    const ran = this.run(scenario, options);
    if (ran.code !== 0 || ran.stderr !== "") throw new Error(`${scenario}: ${JSON.stringify(ran)}`);
    return { ...(await this.ended()), stdout: ran.stdout };
  }

  /** What the collectors have seen, when all that were started have ended. */
  async ended(): Promise<Seen> {
    const deadline = Date.now() + 10_000;
    for (;;) {
      const seen = this.look();
      if (seen.starts.every(({ pid }) => !isRunning(pid))) return this.look();
      if (Date.now() > deadline) throw new Error(`a collector has not ended: ${JSON.stringify(seen)}`);
      await Bun.sleep(5);
    }
  }

  look(): Seen {
    const seen: Seen = {
      starts: [], requests: [], rings: [], records: [], entries: [], losses: [],
      alone: 0, ends: 0, bad: 0,
    };
    if (!existsSync(this.seen)) return seen;
    let session = -1;
    for (const line of readFileSync(this.seen, "utf8").split("\n").slice(0, -1)) {
      const parsed = JSON.parse(line);
      if (parsed.what === "start") session++;
      parsed.session = session;
      if (parsed.what === "start") seen.starts.push(parsed);
      else if (parsed.what === "request") seen.requests.push(parsed);
      else if (parsed.what === "ring") seen.rings.push(parsed);
      else if (parsed.what === "record") seen.records.push(parsed);
      else if (parsed.what === "entry") seen.entries.push(parsed);
      else if (parsed.what === "losses") {
        parsed.losses.forEach((count: number, i: number) => {
          seen.losses[i] = (seen.losses[i] ?? 0) + count;
        });
      } else if (parsed.what === "alone") seen.alone++;
      else if (parsed.what === "end") seen.ends++;
      else seen.bad++;
    }
    return seen;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A program that says a line, and waits for a byte before it goes on. */
export class Steps {
  readonly #child;
  readonly #stderr: Promise<string>;
  readonly #words;

  constructor(argv: string[], cwd: string, env: Record<string, string | undefined>) {
    this.#child = Bun.spawn(argv, { cwd, env, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.#stderr = new Response(this.#child.stderr).text();
    this.#words = this.#child.stdout.getReader();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Its next words. */
  async says(): Promise<string> {
    const { value } = await this.#words.read();
    return value === undefined ? "" : Buffer.from(value).toString();
  }

  async goOn(): Promise<string> {
    this.#child.stdin.write("x");
    await this.#child.stdin.flush();
    return this.says();
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Lets it come to its end; what it said on stderr. */
  async ends(): Promise<{ code: number; stderr: string }> {
    await this.#child.stdin.end();
    return { code: await this.#child.exited, stderr: await this.#stderr };
  }
}

/** A process that nobody has reaped yet is none. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

function cc(): string[] {
  return [process.env.CC ?? "cc", "-std=gnu11", "-O1", "-w", "-pthread"];
}

/** What the records say is measured: the calls after REGISTER, as "KIND off+bytes name". */
export function measured(records: SlotRecord[]): string[] {
  const parts = new Map<number, Uint8Array>();
  const names = new Map<string, string>();
  const calls: string[] = [];
  for (const record of records) {
    const key = `${record.ring} ${record.entry} ${record.gen}`;
    if (record.kind === "NAME") {
      const name = parts.get(record.group) ?? new Uint8Array(record.bytes);
      const part = Buffer.from(record.tag, "hex").subarray(0, record.bytes - record.off);
      name.set(part, record.off);
      parts.set(record.group, name);
    } else if (record.kind === "REGISTER") {
      const name = parts.get(record.group);
      names.set(key, record.bytes === 0xffffffff ? "NULL" : Buffer.from(name ?? []).toString());
    } else if (record.kind === "DEREGISTER") {
      names.delete(key);
    } else if ((record.kind === "OUT" || record.kind === "IN") && names.has(key)) {
      calls.push(`${record.kind} ${record.off}+${record.bytes} ${names.get(key)}`);
    }
  }
  return calls;
}
