// Reads a KQTIME log the way that a stranger would: fields split by `;`, the second one pairs of
// key=number split by `,`. It is on purpose no part of src/: a mistake in the writer must not find
// the same mistake here.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { IN, OUT, type Direction } from "./calllog.ts";

export interface CallLine {
  direction: Direction;
  startNs: number;
  endNs: number;
  /** Departure or arrival of the call's first byte. */
  firstNs: number;
  /** Inbound: when the last byte became contiguous. */
  inorderNs: number;
  fd: number;
  bytes: number;
  offset: number;
  pid: number;
  sock: number;
  lport: number;
  rport: number;
  name: string;
  text: string;
}

export interface MissLine {
  direction: Direction;
  bytes: number;
  offset: number;
  pid: number;
  sock: number;
  lport: number;
  rport: number;
  reason: number;
  text: string;
}

export interface BooksLine {
  direction: Direction;
  name: string;
  values: Record<string, number>;
}

/** The queue lengths of all sockets at one moment: a group of numbers each. */
export interface StatsLine {
  startNs: number;
  endNs: number;
  sockets: Record<string, number>[];
}

export interface KQTimeLog {
  stats: StatsLine[];
  calls: CallLine[];
  misses: MissLine[];
  books: BooksLine[];
  /** Lines of other kinds, by kind. */
  others: Map<string, number>;
}

const LINE = /^(KQ[A-Z-]+);([^;]*);([^;]*);$/;

function timeOf(text: string, baseSec: number): number {
  const parts = text.match(/^(-?\d+)\.(\d{9})$/);
  if (!parts) throw new Error(`not a time with nine decimals: ${text}`);
  return (Number(parts[1]) - baseSec) * 1e9 + Number(parts[2]);
}

function statsOf(line: string, baseSec: number): StatsLine {
  const [head, ...groups] = line.split(";").slice(1, -1);
  const pairs = (text: string): [string, string][] =>
    text.split(",").map((pair) => {
      const found = pair.match(/^([a-zA-Z_]+)=(-?[0-9]+([.][0-9]+)?)$/);
      if (!found) throw new Error(`not key=number: ${pair} in ${line}`);
      return [found[1], found[2]];
    });
  const frame = Object.fromEntries(pairs(head));
  const sockets = groups.map((group) =>
    Object.fromEntries(pairs(group).map(([key, value]) => [key, Number(value)])));
  if (Number(frame.num_fds) !== sockets.length) throw new Error(`another num_fds: ${line}`);
  return { startNs: timeOf(frame.start, baseSec), endNs: timeOf(frame.end, baseSec), sockets };
}

/** Throws at the first line that does not keep the format. Times are ns after `baseSec`. */
export function parseLog(text: string, baseSec: number): KQTimeLog {
  const log: KQTimeLog = { calls: [], misses: [], books: [], stats: [], others: new Map() };
  for (const line of text.split("\n")) {
    if (!line) continue;
    // The ancestor's line of buffer statistics has one more list of pairs for each socket.
    if (line.startsWith("KQTIME-STATS;")) {
      log.stats.push(statsOf(line, baseSec));
      continue;
    }
    const parts = line.match(LINE);
    if (!parts) throw new Error(`not a log line: ${line}`);
    const [, kind, pairs, name] = parts;
    const raw: Record<string, string> = {};
    for (const pair of pairs.split(",")) {
      const [key, value, more] = pair.split("=");
      if (more !== undefined || !key || !/^-?\d+(\.\d+)?$/.test(value ?? "")) {
        throw new Error(`not key=number: ${pair} in ${line}`);
      }
      raw[key] = value;
    }
    const number = (key: string): number => {
      if (raw[key] === undefined) throw new Error(`no ${key} in ${line}`);
      return Number(raw[key]);
    };
    const time = (key: string): number => {
      if (raw[key] === undefined) throw new Error(`no ${key} in ${line}`);
      return timeOf(raw[key], baseSec);
    };
    if (kind === "KQTIME-OUT" || kind === "KQTIME-IN") {
      const direction = kind === "KQTIME-OUT" ? OUT : IN;
      log.calls.push({
        direction,
        startNs: time("start"), endNs: time("end"), firstNs: time("first"),
        inorderNs: direction === IN ? time("inorder") : 0,
        fd: number("fd"), bytes: number("bytes"), offset: number("off"), pid: number("pid"),
        sock: number("sock"), lport: number("lport"), rport: number("rport"), name, text: line,
      });
    } else if (kind === "KQTIME-MISS") {
      log.misses.push({
        direction: number("dir") === 0 ? OUT : IN,
        bytes: number("bytes"), offset: number("off"), pid: number("pid"), sock: number("sock"),
        lport: number("lport"), rport: number("rport"), reason: number("reason"), text: line,
      });
    } else if (kind === "KQTIME-BOOKS") {
      const values: Record<string, number> = {};
      for (const key of Object.keys(raw)) values[key] = Number(raw[key]);
      log.books.push({ direction: number("dir") === 0 ? OUT : IN, name, values });
    } else {
      log.others.set(kind, (log.others.get(kind) ?? 0) + 1);
    }
  }
  return log;
}

export function readLog(path: string, baseSec: number): KQTimeLog {
  const file = readFileSync(path);
  const text = path.endsWith(".gz") ? gunzipSync(file).toString() : file.toString();
  return parseLog(text, baseSec);
}
