// Starts kqtime for the end-to-end tests, and checks what holds for every measurement.
//
// With KQTIME_E2E_BARE=1 the target runs by itself, and only what does not need a measurement is
// checked: to tell a broken test bed from a broken kqtime.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IN, OUT, type Direction } from "./calllog.ts";
import { readLog, type KQTimeLog } from "./kqlog.ts";
import type { Exit, Running, Scope, StartOptions } from "./process.ts";

export const ROOT = join(import.meta.dir, "..", "..");
export const BARE = process.env.KQTIME_E2E_BARE === "1";

export const BUN = join(ROOT, "node_modules", ".bin", "bun");

export interface Quantities {
  count: number;
  min: number;
  mean: number;
  p50: number;
  p99: number;
  max: number;
}

export interface DirectionSummary {
  sockets: number;
  calls: number;
  bytesCalled: number;
  bytesMatched: number;
  bytesUnmatched: Record<string, number>;
  coverage: number | null;
  callNs: Quantities;
  byteNs: Quantities;
  bytesRetransmitted: number;
  bytesUnexplained: number;
  bytesInFlight?: number;
  oldestUnsentNs?: number | null;
  oldestUnreadNs?: number | null;
  bytesUnread?: number;
  reassemblyNs?: Quantities;
}

export interface Summary {
  version: string;
  target: { command: string[]; exitCode: number | null; signal?: string | null; pids: number[] };
  startUnixNs: string;
  durationNs: number;
  directions: { out: DirectionSummary; in: DirectionSummary };
  labels: { label: string; out: DirectionSummary; in: DirectionSummary }[];
  sockets: { sock: number; pid: number; lport: number; rport: number }[];
  socketsRest: { count: number; out: DirectionSummary; in: DirectionSummary };
  datagram: { sockets: number; calls: number; bytes: number };
  losses: Record<string, number>;
  booksBalance: boolean;
  warnings: string[];
}

export interface MeasureOptions extends StartOptions {
  /** Options of `kqtime run`. */
  options?: readonly string[];
}

/** Times of the tests count from here: a Number of nanoseconds since 1970 would be too coarse. */
export const BASE_SEC = Math.floor(Date.now() / 1000);

let measurements = 0;

/** A target under `kqtime run`, with its log and its summary in the scope's folder. */
export class Measurement {
  readonly logPath: string;
  readonly jsonPath: string;
  readonly running: Running;

  constructor(scope: Scope, command: readonly string[], options: MeasureOptions = {}) {
    const number = measurements++;
    this.logPath = scope.path(`kqtime-${number}.log`);
    this.jsonPath = scope.path(`kqtime-${number}.json`);
    const { options: words = [], ...start } = options;
    const log = words.includes("--log") ? [] : ["--log", this.logPath];
    const given = words.indexOf("--log");
    if (given >= 0) this.logPath = words[given + 1];
    const json = words.includes("--json") ? [] : ["--json", this.jsonPath];
    this.running = BARE
      ? scope.start(command, start)
      : scope.start(
          [
            BUN, "run", "kqtime", "run", "--quiet", ...log, ...json,
            ...words, "--", ...command,
          ],
          { cwd: ROOT, ...start },
        );
  }

  /** Waits for the end of the target and of its measurement. */
  finish(timeoutMs?: number): Promise<Exit> {
    return this.running.exit(timeoutMs);
  }

  summary(): Summary {
    return JSON.parse(readFileSync(this.jsonPath, "utf8")) as Summary;
  }

  log(baseSec = BASE_SEC): KQTimeLog {
    return readLog(this.logPath, baseSec);
  }
}

/** A kqtime command that is not a measurement. */
export function kqtime(scope: Scope, words: readonly string[], options: StartOptions = {}): Running {
  return scope.start([BUN, "run", "kqtime", ...words], { cwd: ROOT, ...options });
}

export function directionOf(summary: Summary, direction: Direction): DirectionSummary {
  return direction === OUT ? summary.directions.out : summary.directions.in;
}

export interface CompleteOptions {
  /** Bytes at least called in a direction. */
  out?: number;
  in?: number;
  /** Reasons for which bytes may be unmatched all the same: no byte without one of these. */
  allow?: readonly string[];
}

/**
 * What a flawless measurement looks like: a list of what is wrong with this one. Coverage of
 * exactly 1 in each direction that moved bytes, nothing unexplained, nothing lost, the books
 * balanced, and the log telling the same as the summary.
 */
export function flaws(measurement: Measurement, options: CompleteOptions = {}): string[] {
  const found: string[] = [];
  const summary = measurement.summary();
  const log = measurement.log();
  if (!summary.booksBalance) found.push("the books do not balance");
  for (const warning of summary.warnings) found.push(`warning: ${warning}`);
  for (const [name, count] of Object.entries(summary.losses)) {
    if (count !== 0) found.push(`losses.${name} is ${count}`);
  }
  for (const direction of [OUT, IN] as const) {
    const word = direction === OUT ? "out" : "in";
    const books = directionOf(summary, direction);
    const least = options[word] ?? 0;
    if (books.bytesCalled < least) {
      found.push(`${word}: ${books.bytesCalled} bytes called, at least ${least} are known`);
    }
    let allowed = 0;
    for (const [reason, bytes] of Object.entries(books.bytesUnmatched)) {
      if (options.allow?.includes(reason)) allowed += bytes;
      else if (bytes !== 0) found.push(`${word}: ${bytes} bytes ${reason}`);
    }
    const known = books.bytesCalled - allowed - (books.bytesInFlight ?? 0);
    if (books.bytesMatched !== known) {
      found.push(`${word}: ${books.bytesMatched} bytes matched of ${known}`);
    }
    if (allowed === 0 && books.coverage !== (books.bytesCalled === 0 ? null : 1)) {
      found.push(`${word}: coverage ${books.coverage} of ${books.bytesCalled} bytes`);
    }
    if (books.bytesUnexplained !== 0) found.push(`${word}: ${books.bytesUnexplained} unexplained`);
    const lines = log.calls.filter((line) => line.direction === direction);
    const bytes = lines.reduce((sum, line) => sum + line.bytes, 0);
    if (bytes !== books.bytesMatched) {
      found.push(`${word}: the log has ${bytes} bytes, the summary ${books.bytesMatched}`);
    }
    if (allowed === 0 && lines.length !== books.calls) {
      found.push(`${word}: the log has ${lines.length} lines, the summary ${books.calls} calls`);
    }
  }
  if (log.misses.length && !options.allow) found.push(`${log.misses.length} misses: ${log.misses[0].text}`);
  found.push(...timeFlaws(log), ...booksFlaws(measurement));
  return found;
}

/** No time may run backwards, whatever was lost. */
export function timeFlaws(log: KQTimeLog): string[] {
  const found: string[] = [];
  let wrong = 0;
  for (const line of log.calls) {
    const backwards = line.direction === OUT
      ? line.endNs < line.startNs || line.firstNs < line.startNs
      : line.endNs < line.startNs || line.inorderNs < line.startNs
        || line.endNs < line.inorderNs || line.endNs < line.firstNs;
    if (backwards && wrong++ < 3) found.push(`negative time: ${line.text}`);
  }
  if (wrong > 3) found.push(`negative time in ${wrong} lines`);
  return found;
}

/** The sums that must agree, lossless or not. */
export function booksFlaws(measurement: Measurement): string[] {
  const found: string[] = [];
  const summary = measurement.summary();
  const log = measurement.log();
  for (const direction of [OUT, IN] as const) {
    const word = direction === OUT ? "out" : "in";
    const books = directionOf(summary, direction);
    const unmatched = Object.values(books.bytesUnmatched).reduce((sum, bytes) => sum + bytes, 0);
    const accounted = books.bytesMatched + unmatched + (books.bytesInFlight ?? 0);
    if (accounted !== books.bytesCalled) {
      found.push(`${word}: ${books.bytesCalled} bytes called, ${accounted} accounted for`);
    }
    const sums = { called: 0, matched: 0, inflight: 0 };
    for (const line of log.books) {
      if (line.direction !== direction) continue;
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += line.values[key] ?? 0;
    }
    if (sums.called !== books.bytesCalled || sums.matched !== books.bytesMatched) {
      found.push(
        `${word}: KQTIME-BOOKS say ${sums.matched} of ${sums.called}, ` +
          `the summary ${books.bytesMatched} of ${books.bytesCalled}`,
      );
    }
  }
  return found;
}
