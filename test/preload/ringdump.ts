// Compiles the fixtures of the preload library and runs them under ringdump, a collector that
// only prints: these tests are about the library alone.

import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FOLDER = import.meta.dir;
const ROOT = join(FOLDER, "..", "..");

export interface Direction {
  active: number;
  started: number;
  group: number;
  off: number;
  asked: number;
}

export interface Ring {
  ring: number;
  id: string;
  table: string;
  pid: number;
  slots: number;
  entries: number;
  comm: string;
  seals: number;
}

export interface SlotRecord {
  ring: number;
  kind: string;
  flags: number;
  entry: number;
  gen: number;
  time: string;
  off: number;
  bytes: number;
  fd: number;
  pid: number;
  group: number;
  tag: string;
}

export interface Entry {
  ring: number;
  entry: number;
  gen: number;
  state: number;
  type: number;
  family: number;
  flags: number;
  inode: number;
  lport: number;
  rport: number;
  laddr: string;
  raddr: string;
  pid: number;
  fd: number;
  queuedOut: number;
  queuedIn: number;
  out: Direction;
  in: Direction;
}

export interface Run {
  code: number;
  stdout: string;
  stderr: string;
  rings: Ring[];
  records: SlotRecord[];
  entries: Entry[];
  /** Sums over all rings, by the index of kq_loss. */
  losses: number[];
}

/** What a compiler may take on a machine that does other things too. */
export const BUILD_MS = 60_000;

export const canCompile =
  process.platform === "linux" && Bun.which(process.env.CC ?? "cc") !== null;

/** Temporary folder with the compiled library and fixtures; `using` removes it. */
export class Bench {
  readonly folder = mkdtempSync(join(tmpdir(), "kqtime-preload-"));
  readonly library: string;

  constructor() {
    const built = Bun.spawnSync(["sh", join(ROOT, "tools", "build-native.sh")], {
      env: { ...process.env, KQTIME_BUILD_DIR: this.folder },
      stderr: "pipe",
    });
    if (built.exitCode !== 0) throw new Error(built.stderr.toString());
    this.library = join(this.folder, "libkqtime-preload.so");
  }

  compile(name: string, output = name, ...flags: string[]): string {
    const path = join(this.folder, output);
    const built = Bun.spawnSync(
      [
        process.env.CC ?? "cc", "-std=gnu11", "-O1", "-w", "-pthread", ...flags, "-o", path,
        join(FOLDER, `${name}.c`),
      ],
      { stderr: "pipe" },
    );
    if (built.exitCode !== 0) throw new Error(built.stderr.toString());
    return path;
  }

  /** Runs a command under ringdump, with the library or another one, and reads what that printed. */
  run(
    options: string[], command: string[], env: Record<string, string> = {}, library = this.library,
  ): Run {
    const output = join(this.folder, `out-${Math.random().toString(36).slice(2)}`);
    const child = Bun.spawnSync(
      [join(this.folder, "ringdump"), ...options, library, output, ...command],
      {
        stdout: "pipe",
        stderr: "pipe",
        cwd: this.folder,
        timeout: 60_000,
        env: { ...process.env, LD_PRELOAD: undefined, ...env },
      },
    );
    const run: Run = {
      code: child.exitCode,
      stdout: child.stdout.toString(),
      stderr: child.stderr.toString(),
      rings: [],
      records: [],
      entries: [],
      losses: [],
    };
    for (const line of readFileSync(output, "utf8").split("\n")) {
      if (line === "") continue;
      const parsed = JSON.parse(line);
      if (parsed.what === "ring") run.rings.push(parsed);
      else if (parsed.what === "record") run.records.push(parsed);
      else if (parsed.what === "entry") run.entries.push(parsed);
      else if (parsed.what === "losses") {
        parsed.losses.forEach((count: number, index: number) => {
          run.losses[index] = (run.losses[index] ?? 0) + count;
        });
      }
    }
    rmSync(output);
    return run;
  }

  /** Runs a scenario of a fixture, which must end well and has nothing to complain of. */
  scenario(
    program: string, name: string, options: string[] = [], env: Record<string, string> = {},
  ): Run {
    const run = this.run(options, [`./${program}`, name], env);
    expect(run.stderr).toBe("");
    expect(run.code).toBe(0);
    return run;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function ofKind(run: Run, ...kinds: string[]): SlotRecord[] {
  return run.records.filter((record) => kinds.includes(record.kind));
}

export function transfers(run: Run): SlotRecord[] {
  return ofKind(run, "IN", "OUT");
}

/** Records of several rings in one order: each ring is printed when its records are found. */
export function inTime(records: SlotRecord[]): SlotRecord[] {
  return records.toSorted((a, b) => (BigInt(a.time) < BigInt(b.time) ? -1 : 1));
}

/** Do the records of each socket and direction cover its offsets without hole or overlap? */
export function isContiguous(records: SlotRecord[]): boolean {
  const ends = new Map<string, number>();
  const sorted = [...records].sort((a, b) => a.off - b.off);
  for (const record of sorted) {
    const key = `${record.entry}.${record.gen}.${record.kind}`;
    if ((ends.get(key) ?? 0) !== record.off) return false;
    ends.set(key, record.off + record.bytes);
  }
  return true;
}

/** The records of one kind on one descriptor, as their byte counts. */
export function bytesOn(run: Run, kind: string, fd: number): number[] {
  return ofKind(run, kind)
    .filter((record) => record.fd === fd)
    .map((record) => record.bytes);
}

/** The numbers that a scenario told. */
export function numbers(text: string): number[] {
  return text.trim().split(/\s+/).map(Number);
}

export const LOOPBACK = "00000000000000000000ffff7f000001";
export const LOSS = {
  ringFull: 0, noMemory: 1, tableFull: 2, fdRange: 3, noAddress: 4, noRing: 5, stale: 6, left: 7,
  noClock: 8,
};
export const SLOT = { overlap: 1, refused: 4, ktls: 8, urgent: 16 };
export const ENTRY = { connected: 1, accepted: 2, adopted: 4, ktls: 8, urgent: 16, waits: 256 };
export const STATE = { connecting: 2, open: 3 };
