// The processor time of another process: its CPU clock (clock_getcpuclockid(3)), which counts what
// threads that have ended took as well, to the nanosecond. /proc has either its threads, without those
// that ended, or ticks of 10 ms, of which an idle collector takes one in a second or two.

import { dlopen, type Library } from "bun:ffi";

const symbols = {
  /** clockid_t clock, struct timespec *time → 0, or -1 if there is no such process */
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" },
} as const;

/** The kernel's CPUCLOCK_SCHED: of a clock's number, the bits below the process's. */
const SCHEDULED = 2;

let libc: Library<typeof symbols>["symbols"] | null = null;
const time = new BigInt64Array(new ArrayBuffer(16));

/** Nanoseconds on a CPU of all threads of a process so far; 0 when it has ended. */
export function cpuNs(pid: number): number {
  libc ??= dlopen("libc.so.6", symbols).symbols;
  if (libc.clock_gettime((~pid << 3) | SCHEDULED, time) !== 0) return 0;
  return Number(time[0]! * 1_000_000_000n + time[1]!);
}
