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

export interface KQTimeLog {
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

/** Throws at the first line that does not keep the format. Times are ns after `baseSec`. */
export function parseLog(text: string, baseSec: number): KQTimeLog {
  const log: KQTimeLog = { calls: [], misses: [], books: [], others: new Map() };
  for (const line of text.split("\n")) {
    if (!line) continue;
    const parts = line.match(LINE);
    if (!parts) {
      const kind = line.slice(0, line.indexOf(";"));
      // The ancestor's line of buffer statistics has one more list of pairs for each socket.
      if (kind !== "KQTIME-STATS") throw new Error(`not a log line: ${line}`);
      log.others.set(kind, (log.others.get(kind) ?? 0) + 1);
      continue;
    }
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
