// Descriptors that measured programs hand to the collector. It writes to them between two rounds of
// reading records: one that could make it wait, or that needs rights which the program has not, is
// refused.

import { fstatSync, writeSync } from "node:fs";
import { isMemory, openFlags } from "../ffi/libc.ts";
import { reasonOf } from "../output/open-file.ts";

/** Devices that may be logs: /dev/null and /dev/full (null(4), full(4)), as `st_rdev` has them. */
const DEVICES: readonly number[] = [(1 << 8) | 3, (1 << 8) | 7];

/** Why a descriptor cannot be a log; null if it can. */
export function whyNoLog(fd: number): string | null {
  const flags = openFlags(fd);
  if (flags === null || !flags.writable) return "it is not open for writing";
  const stat = fstatSync(fd);
  if (stat.isFile() || (stat.isCharacterDevice() && DEVICES.includes(stat.rdev))) return null;
  if (!stat.isFIFO()) return "a log is a file or a pipe";
  return flags.nonBlocking ? null : "the pipe may block: open it with O_NONBLOCK";
}

/** Writes a text to memory of the program's; the reason why not, or null. */
export function writeToMemory(fd: number, text: string): string | null {
  if (fd < 0 || !isMemory(fd)) return "a snapshot is written to memory (memfd_create)";
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    return null;
  } catch (error) {
    return `the snapshot cannot be written: ${reasonOf(error)}`;
  }
}
