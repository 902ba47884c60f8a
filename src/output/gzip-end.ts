// What stands at the end of a compressed log that is appended to. A run that was killed, or ran out
// of disk, inside a write leaves the head of a gzip member there; whatever follows it, zcat would
// never reach. Its lines are read back and written again as a whole member in its place.

import { constants, inflateRawSync } from "node:zlib";
import {
  lastMember,
  MEMBER_HEADER_BYTES,
  MEMBER_SIGNATURE,
  memberBytes,
  type MemberEncoder,
} from "../ffi/zlib.ts";
import type { FileSink } from "./sink.ts";

/** More than the longest member that a log writes. */
const LOOK_BACK_BYTES = 2 * 1024 * 1024;
/** Long enough for a write that another run has begun to show progress. */
const SETTLE_MS = 300;
const NEWLINE = 10;

/** Length of the unfinished head of a member at the end of `tail`, 0 if it ends well. */
export function tornBytes(tail: Uint8Array): number {
  const at = lastMember(tail);
  let rest = tail.length;
  if (at >= 0) {
    rest = tail.length - at - memberBytes(tail, at);
    if (rest < 0) return tail.length - at;
  }
  // A header cut short, after a whole member or in a file that has nothing else.
  if (rest === 0 || rest >= MEMBER_HEADER_BYTES) return 0;
  const head = tail.subarray(tail.length - rest);
  const compared = Math.min(rest, MEMBER_SIGNATURE.length);
  for (let i = 0; i < compared; i++) if (head[i] !== MEMBER_SIGNATURE[i]) return 0;
  return rest;
}

/** The whole lines that can be read from the unfinished head of a member. */
export function salvage(head: Uint8Array): Uint8Array {
  let text: Uint8Array;
  try {
    const finishFlush = constants.Z_SYNC_FLUSH;
    text = inflateRawSync(head.subarray(MEMBER_HEADER_BYTES), { finishFlush });
  } catch {
    return new Uint8Array(0);
  }
  return new Uint8Array(text.subarray(0, text.lastIndexOf(NEWLINE) + 1));
}

/** Makes the file end in a whole member. What is not kqtime's is left as it is. Never throws. */
export function repairEnd(sink: FileSink, encoder: MemberEncoder): void {
  try {
    let tail = sink.readEnd(LOOK_BACK_BYTES);
    if (tornBytes(tail) === 0) return;
    const size = sink.fileBytes;
    Bun.sleepSync(SETTLE_MS);
    if (sink.fileBytes !== size) return;
    tail = sink.readEnd(LOOK_BACK_BYTES);
    const torn = tornBytes(tail);
    if (torn === 0) return;
    const lines = salvage(tail.subarray(tail.length - torn));
    sink.truncate(size - torn);
    if (lines.length > 0) sink.write(encoder.output, encoder.encode(lines, lines.length), 0);
  } catch (error) {
    sink.report("repair", `the log's end is damaged and cannot be repaired: ${String(error)}`);
  }
}
