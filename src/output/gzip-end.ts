// What stands at the end of a compressed log that is appended to. A run that was killed, or ran out
// of disk, inside a write leaves the head of a gzip member there; whatever follows it, zcat would
// never reach. Its lines are read back and written again as a whole member in its place.
//
// The log may be one that a measured program handed over, made to cost time: the work is bounded by
// what a log writes, and nothing is waited for. An end that is not understood within these bounds is
// left as it is, and a new member follows it.

import { constants, inflateRawSync } from "node:zlib";
import {
  lastMember,
  MEMBER_HEADER_BYTES,
  MEMBER_SIGNATURE,
  memberBytes,
  type MemberEncoder,
} from "../ffi/zlib.ts";
import type { FileSink } from "./sink.ts";

/** Text of the longest member that a log writes. */
export const MEMBER_TEXT_BYTES = 1024 * 1024;
/** More than that member itself. */
const LOOK_BACK_BYTES = 2 * 1024 * 1024;
const NEWLINE = 10;
/** RFC 1952, section 2.3.1: ID1 and ID2. */
const GZIP_MAGIC_BYTES = 2;

/** Whether a compressed log may follow: an empty file, a pipe, or one that begins as gzip does. */
export function startsAsGzip(sink: FileSink): boolean {
  let start: Uint8Array;
  try {
    start = sink.readStart(GZIP_MAGIC_BYTES);
  } catch {
    // It may be written but not read.
    return true;
  }
  return start.every((byte, i) => byte === MEMBER_SIGNATURE[i]);
}

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

/**
 * The whole lines that can be read from the unfinished head of a member; null if no log wrote it: it
 * is damaged, or longer than any.
 */
export function salvage(head: Uint8Array): Uint8Array | null {
  let text: Uint8Array;
  try {
    text = inflateRawSync(head.subarray(MEMBER_HEADER_BYTES), {
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: MEMBER_TEXT_BYTES,
    });
  } catch {
    return null;
  }
  return new Uint8Array(text.subarray(0, text.lastIndexOf(NEWLINE) + 1));
}

/** Makes the file end in a whole member. What is not kqtime's is left as it is. Never throws. */
export function repairEnd(sink: FileSink, encoder: MemberEncoder): void {
  try {
    if (tornBytes(sink.readEnd(LOOK_BACK_BYTES)) === 0) return;
    // While another run writes this log, what looks torn may be a write under way.
    sink.alone(() => {
      const size = sink.fileBytes;
      const tail = sink.readEnd(LOOK_BACK_BYTES);
      const torn = tornBytes(tail);
      if (torn === 0) return;
      const lines = salvage(tail.subarray(tail.length - torn));
      if (lines === null) return;
      sink.truncate(size - torn);
      if (lines.length > 0) sink.write(encoder.output, encoder.encode(lines, lines.length), 0);
    });
  } catch (error) {
    sink.report("repair", `the log's end is damaged and cannot be repaired: ${String(error)}`);
  }
}
