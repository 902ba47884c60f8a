// Clocks of the kernel (clock_gettime(2)), as numbers.

import type { Library } from "bun:ffi";
import { bind } from "./library.ts";

const CLOCK_REALTIME = 0;
const CLOCK_BOOTTIME = 7;
/** Of a process's clock, the bits below the pid (the kernel's include/linux/posix-timers_types.h). */
const CPUCLOCK_SCHED = 2;
const TWO_TO_32 = 2 ** 32;

const symbols = {
  /** clockid_t clock, struct timespec *time → 0, or -1 if there is no such clock */
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

/**
 * Nanoseconds on a processor of all threads of a process so far, of those that have ended too; 0 where
 * nobody has this pid (clock_getcpuclockid(3)). /proc has either its threads, without those that ended, or
 * ticks of 10 ms, of which an idle collector takes one in a second or two.
 */
export function processorNs(pid: number): number {
  return read((~pid << 3) | CPUCLOCK_SCHED, 0);
}

/** 0 where there is no such clock. */
function read(which: number, baseSec: number): number {
  clock ??= bind("libc.so.6", symbols).symbols;
  if (clock.clock_gettime(which, time) !== 0) return 0;
  const seconds = timeWords[1]! * TWO_TO_32 + timeWords[0]!;
  return (seconds - baseSec) * 1e9 + timeWords[2]!;
}
