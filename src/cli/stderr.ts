// kqtime's own words to the user. Where they go may be full or closed (`2>&1 | true`): that must
// change neither the measurement nor the exit code, which is the command's.

import { writeSync } from "node:fs";
import { printable } from "../output/name.ts";
import { errnoOf } from "../output/open-file.ts";

export const STDERR = 2;
const SLOW_READER_MS = 1000;
const SLOW_READER_STEP_MS = 2;

/** Waits for the reader, as any program does; while something is measured, see mid-run.ts. */
export function tell(text: string): void {
  tellBytes(new TextEncoder().encode(text));
}

export function tellBytes(bytes: Uint8Array): void {
  const deadline = performance.now() + SLOW_READER_MS;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(STDERR, bytes, at);
    } catch (error) {
      // A pipe that the command has made non-blocking.
      if (errnoOf(error) !== "EAGAIN" || performance.now() >= deadline) return;
      Bun.sleepSync(SLOW_READER_STEP_MS);
    }
  }
}

/** One line for the user. */
export function warn(message: string): void {
  tell(warning(message));
}

/** It may hold names of files, which may hold anything. */
export function warning(message: string): string {
  return `kqtime: ${printable(message.replaceAll("\n", " "))}\n`;
}
