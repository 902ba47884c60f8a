// Reads the fields of a socket table's entry from a private copy of its words. The copy comes from
// another process: nothing in it is trusted beyond its type.

import { Constant, DirectionWord, EntryWord } from "../ring/layout.ts";
import type { ClockSteps } from "./clock-steps.ts";
import type { Progress } from "./connection.ts";

const NS_PER_SECOND = 1_000_000_000n;

let baseOf = NaN;
let baseHigh = 0;
let baseLow = 0;

/**
 * Nanoseconds since `baseSec` (Unix seconds) of a 64-bit count of nanoseconds since the epoch,
 * given as two halves. Exact within ±104 days of the base.
 */
export function relativeNs(low: number, high: number, baseSec: number): number {
  if (baseSec !== baseOf) {
    const base = BigInt(baseSec) * NS_PER_SECOND;
    baseHigh = Number(base >> 32n);
    baseLow = Number(base & 0xffffffffn);
    baseOf = baseSec;
  }
  return (high - baseHigh) * 4294967296 + (low - baseLow);
}

/** One address word: network order in memory, so its bytes are swapped. */
function swap(word: number): number {
  return (
    ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0
  );
}

export interface Identity {
  flags: number;
  local: Uint32Array;
  remote: Uint32Array;
  lport: number;
  rport: number;
  birthNs: number;
  pid: number;
  fd: number;
  /** Of the socket's file, 0 if unknown: the same in every process that has it. */
  inode: number;
}

/** A count of bytes, as a number. */
export function readCount(words: Uint32Array, at: number): number {
  return words[at]! + words[at + 1]! * 4294967296;
}

export function readInode(words: Uint32Array): number {
  return words[EntryWord.inode]! + words[EntryWord.inode + 1]! * 4294967296;
}

export function readIdentity(words: Uint32Array, baseSec: number): Identity {
  const local = new Uint32Array(4);
  const remote = new Uint32Array(4);
  for (let w = 0; w < 4; w++) {
    local[w] = swap(words[EntryWord.laddr + w]!);
    remote[w] = swap(words[EntryWord.raddr + w]!);
  }
  const ports = words[EntryWord.lport]!;
  return {
    flags: words[EntryWord.type]! >>> 16,
    local,
    remote,
    lport: ports & 0xffff,
    rport: ports >>> 16,
    birthNs: relativeNs(words[EntryWord.birthNs]!, words[EntryWord.birthNs + 1]!, baseSec),
    pid: words[EntryWord.birthPid]!,
    fd: words[EntryWord.birthFd]! | 0,
    inode: readInode(words),
  };
}

/** What both directions have moved, and the calls in progress. */
export function readProgress(
  words: Uint32Array,
  baseSec: number,
  clock: ClockSteps,
  { outProgress, inProgress }: { outProgress: Progress; inProgress: Progress },
): void {
  readDirection(words, EntryWord.out, baseSec, clock, outProgress);
  readDirection(words, EntryWord.in, baseSec, clock, inProgress);
}

function readDirection(
  words: Uint32Array,
  at: number,
  baseSec: number,
  clock: ClockSteps,
  progress: Progress,
): void {
  progress.active = words[at + DirectionWord.calls]! & Constant.callsActiveMask;
  progress.off =
    words[at + DirectionWord.off]! + words[at + DirectionWord.off + 1]! * 4294967296;
  progress.callNs = clock.steady(
    relativeNs(words[at + DirectionWord.callNs]!, words[at + DirectionWord.callNs + 1]!, baseSec),
  );
}
