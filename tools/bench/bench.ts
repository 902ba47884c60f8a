// What every benchmark is given, and the few things that all of them do with kqtime and its lab.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Running, Scope } from "../../test/lib/process.ts";
import type { Report } from "./report.ts";

export const ROOT = join(import.meta.dir, "..", "..");
export const KQTIME = join(ROOT, "bin", "kqtime");
export const PRELOAD = join(ROOT, "build", "libkqtime-preload.so");

export interface Bench {
  readonly report: Report;
  /** Decides every order that is drawn. */
  readonly random: () => number;
  readonly quick: boolean;
  /** How many times the variants of a comparison take turns; null: as many as the bench likes. */
  readonly pairs: number | null;
  /** A congestion control of this kernel (tcp(7)): cubic, bbr, … */
  readonly congestion: string;
}

/** What is read of the summary that `kqtime run --json` writes. */
export interface BenchSummary {
  readonly directions: Record<
    "out" | "in",
    {
      readonly coverage: number | null;
      readonly calls: number;
      readonly bytesCalled: number;
      readonly bytesMatched: number;
      readonly bytesInFlight?: number;
      readonly bytesUnmatched: Record<string, number>;
    }
  >;
  readonly losses: Record<string, number>;
  readonly booksBalance: boolean;
  readonly warnings: readonly string[];
}

export function readSummary(path: string): BenchSummary {
  return JSON.parse(readFileSync(path, "utf8")) as BenchSummary;
}

/**
 * Of nothing, everything is covered: a session that has seen no calls in one of the directions has
 * measured something else than the load.
 * @throws Error
 */
export function requireCalls(summary: BenchSummary, what: string): void {
  const { out, in: inbound } = summary.directions;
  if (out.calls > 0 && inbound.calls > 0) return;
  throw new Error(`${what}: kqtime has measured ${out.calls} calls out and ${inbound.calls} in`);
}

/** What a load says that it moved. @throws Error if that is nothing */
export function requireLoad(amount: number, what: string): number {
  if (amount > 0) return amount;
  throw new Error(`${what}: the load has moved nothing (${amount})`);
}

/** What iperf3's receiving end counted, Gbit/s. @throws Error if that is nothing */
export function iperfRate(report: string, what: string): number {
  const { end } = JSON.parse(readFileSync(report, "utf8")) as {
    end: { sum_received?: { bits_per_second: number } };
  };
  return requireLoad((end.sum_received?.bits_per_second ?? 0) / 1e9, what);
}

/** Records, packets and lines that a session lost, all counters together. */
export function lossOf(summary: BenchSummary): number {
  return Object.values(summary.losses).reduce((sum, count) => sum + count, 0);
}

/** What keeps a session from being whole, but for `expected` reasons, in words; may be empty. */
export function gapsOf(summary: BenchSummary, expected: readonly string[]): string {
  const gaps: string[] = [];
  for (const direction of ["out", "in"] as const) {
    const { bytesUnmatched, bytesCalled } = summary.directions[direction];
    for (const [reason, bytes] of Object.entries(bytesUnmatched)) {
      if (bytes === 0 || expected.includes(reason)) continue;
      gaps.push(`${direction}: ${bytes} of ${bytesCalled} bytes "${reason}"`);
    }
  }
  for (const [name, count] of Object.entries(summary.losses)) {
    if (count > 0) gaps.push(`${name} ${count}`);
  }
  return [...gaps, ...summary.warnings].join("; ");
}

/** Resident memory of a process now and at its highest, bytes; null when it has ended. */
export function memoryOf(pid: number): { now: number; peak: number } | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const bytes = (name: string) =>
      Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(status)![1]) * 1024;
    return { now: bytes("VmRSS"), peak: bytes("VmHWM") };
  } catch {
    return null;
  }
}

/** Compiles a file into the scope's folder. */
export async function compile(
  scope: Scope, source: string, name: string, options: readonly string[] = [],
): Promise<string> {
  const output = scope.path(name);
  const compiler = (process.env.CC ?? "cc").split(/\s+/).filter(Boolean);
  await scope.run([
    ...compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", source, "-o", output,
    ...options,
  ]);
  return output;
}

export function compileHook(scope: Scope): Promise<string> {
  return compile(scope, join(import.meta.dir, "hook.c"), "hook", ["-ldl"]);
}

/** An iperf3 server that stays for the whole bench. */
export async function iperfServer(scope: Scope, prefix: readonly string[]): Promise<Running> {
  const server = scope.start(["iperf3", "--server", "--forceflush"], { prefix });
  await server.says(/Server listening/);
  return server;
}

/** The words that measure a command and write the summary to `json`. */
export function kqtimeRun(json: string, command: readonly string[]): string[] {
  return [KQTIME, "run", "--quiet", "--json", json, "--", ...command];
}
