// The order in which several logs are read. A shell names rotated files newest first (kqtime.log,
// kqtime.log.1, …); but a run's books stand at its end and count for the calls before them, so that
// calls which come behind the books would be counted twice. Files are therefore read by their time,
// however they are named: those of one log (the same name but for rotation's number or date)
// together, logs in the order of their beginnings.

import { type Stats, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Input } from "./input.ts";

/**
 * Text of each file that is looked at. More than its first line: outbound calls are written when
 * their last byte has left, and may be older than what stands before them.
 */
const HEAD_BYTES = 1 << 16;
const TIMED =
  /KQTIME-(?:OUT|IN|MISS|STATS|BOOKS|LOSS);start=\d+(?:\.\d+)?,end=(\d+(?:\.\d+)?)|^(\d+(?:\.\d+)?) KQ(?:TIME|LEN)-/gm;
const COMPRESSED = /\.(?:gz|xz|zst)$/;
/** `kqtime.log.2`, `kqtime.log-20261123`: the number or date. */
const NUMBERED = /[.-]\d[\d.T_-]*$/;
/** `kqtime-2026-11-23.log`: the date. */
const DATED = /-\d{4}-?\d\d-?\d\d[\dT_-]*(?=\.\w+$)/;

export interface LogOrder {
  readonly paths: readonly string[];
  /** Sentences for the user: what is not read as it was named. */
  readonly problems: readonly string[];
}

interface File {
  readonly path: string;
  readonly family: string;
  /** Unix seconds; Infinity: no line has a time. */
  readonly sec: number;
}

/**
 * The logs in the order of their time, each once. Where one is no regular file (standard input, a
 * pipe), which cannot be looked at beforehand, the order stays as it was.
 * @throws KQTimeError `E_INPUT` if one cannot be read
 */
export function orderLogs(paths: readonly string[]): LogOrder {
  const problems: string[] = [];
  const once = withoutRepeats(paths, problems);
  if (once.length < 2 || once.some((path) => regularFile(path) === null)) return { paths: once, problems };
  const files = once.map((path) => ({ path, family: familyOf(path), sec: headSec(path) }));
  const begins = new Map<string, number>();
  for (const { family, sec } of files) {
    begins.set(family, Math.min(sec, begins.get(family) ?? Number.POSITIVE_INFINITY));
  }
  const named = [...begins.keys()];
  const byTime = (a: File, b: File): number =>
    ascending(begins.get(a.family)!, begins.get(b.family)!) ||
    named.indexOf(a.family) - named.indexOf(b.family) ||
    ascending(a.sec, b.sec);
  const sorted = files.toSorted(byTime).map(({ path }) => path);
  if (sorted.some((path, i) => path !== once[i])) {
    problems.push(`the logs are read in the order of their time: ${shortened(sorted).join(", ")}`);
  }
  return { paths: sorted, problems };
}

function withoutRepeats(paths: readonly string[], problems: string[]): string[] {
  const seen = new Map<string, string>();
  return paths.filter((path) => {
    const stat = regularFile(path);
    if (stat === null) return true;
    const key = `${stat.dev} ${stat.ino}`;
    const first = seen.get(key);
    if (first === undefined) {
      seen.set(key, path);
      return true;
    }
    problems.push(
      first === path
        ? `${path} was named twice: it is read once`
        : `${path} is the same file as ${first}: it is read once`,
    );
    return false;
  });
}

/** Null of anything else, and of what cannot be looked at: whoever reads it tells why. */
export function regularFile(path: string): Stats | null {
  if (path === "-") return null;
  try {
    const stat = statSync(path);
    return stat.isFile() ? stat : null;
  } catch {
    return null;
  }
}

function familyOf(path: string): string {
  const name = basename(path).replace(COMPRESSED, "").replace(NUMBERED, "").replace(DATED, "");
  return join(dirname(path), name);
}

/** The greatest `end` at the file's beginning (of parsed data, the start). */
function headSec(path: string): number {
  const input = new Input(path);
  try {
    const buffer = new Uint8Array(new ArrayBuffer(HEAD_BYTES));
    let length = 0;
    while (length < HEAD_BYTES) {
      const count = input.read(buffer, length, HEAD_BYTES - length);
      if (count === 0) break;
      length += count;
    }
    const text = new TextDecoder("latin1").decode(buffer.subarray(0, length));
    let sec = Number.NEGATIVE_INFINITY;
    for (const found of text.matchAll(TIMED)) sec = Math.max(sec, Number(found[1] ?? found[2]));
    return sec === Number.NEGATIVE_INFINITY ? Number.POSITIVE_INFINITY : sec;
  } finally {
    input.close();
  }
}

/** Both may be Infinity. */
function ascending(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

/** First and last of many. */
function shortened(paths: readonly string[]): string[] {
  return paths.length <= 6 ? [...paths] : [...paths.slice(0, 2), "…", ...paths.slice(-2)];
}
