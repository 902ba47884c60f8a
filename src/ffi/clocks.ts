// Clocks of the kernel (clock_gettime(2)), as numbers.

import type { Library } from "bun:ffi";
import { bind } from "./library.ts";

const CLOCK_REALTIME = 0;
const CLOCK_BOOTTIME = 7;
const TWO_TO_32 = 2 ** 32;

const symbols = {
  /** clockid_t clock, struct timespec *time */
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" },
} as const;

let clock: Library<typeof symbols>["symbols"] | null = null;
const time = new Float64Array(new ArrayBuffer(16));
const timeWords = new Uint32Array(time.buffer);

/** CLOCK_REALTIME in nanoseconds since `baseSec` (Unix seconds). */
export function realtimeNs(baseSec: number): number {
  return read(CLOCK_REALTIME, baseSec);
}

/** Nanoseconds since the start of the machine, those of its sleep included. */
export function boottimeNs(): number {
  return read(CLOCK_BOOTTIME, 0);
}

function read(which: number, baseSec: number): number {
  clock ??= bind("libc.so.6", symbols).symbols;
  clock.clock_gettime(which, time);
  const seconds = timeWords[1]! * TWO_TO_32 + timeWords[0]!;
  return (seconds - baseSec) * 1e9 + timeWords[2]!;
}
