// Where a gzip member of a log ends, told before it is decompressed. Where one was torn (its writer was
// killed inside a write) and others follow, inflate would take their bytes for the rest of it: what it
// makes of them may even look like lines. The member's length stands in its header, and where it ends
// the next one has to begin; if none does, it was torn where the next header stands.
//
// A length and a signature may also be lies, or part of the compressed data. What they say is believed
// where nothing contradicts it, and members without them are decompressed to their own end.

import {
  MEMBER_HEADER_BYTES, MEMBER_SIGNATURE, memberBytes, nextMember,
} from "../ffi/zlib.ts";

/** More than the longest member that a log writes: so much has to be at hand. */
export const MEMBER_BYTES_MOST = 2 << 20;
/** Bytes behind the announced end that tell whether another member begins there. */
export const LOOK_AHEAD_BYTES = MEMBER_HEADER_BYTES + MEMBER_SIGNATURE.length;
/** RFC 1952, section 2.3.1: ID1, ID2 and the only method. */
const MAGIC_BYTES = 3;

/** The length that the header at `from` announces; 0 if it is not one of a log, or cannot be true. */
export function announcedBytes(bytes: Uint8Array, from: number, to: number): number {
  if (to - from < MEMBER_HEADER_BYTES) return 0;
  for (let i = 0; i < MEMBER_SIGNATURE.length; i++) if (bytes[from + i] !== MEMBER_SIGNATURE[i]) return 0;
  const length = memberBytes(bytes, from);
  return length <= MEMBER_BYTES_MOST ? length : 0;
}

/**
 * Where the member at `from` ends, Infinity if only decompressing it can tell. At hand, up to `to`, are
 * its announced bytes and `LOOK_AHEAD_BYTES` more, or all that there are.
 * @param doubted it stands in what a damaged member claimed: the next header counts, whatever its length
 */
export function memberEnd(bytes: Uint8Array, from: number, to: number, doubted: boolean): number {
  const length = announcedBytes(bytes, from, to);
  const end = from + length;
  const isFollowed = length > 0 && mayBegin(bytes, end, to);
  if (isFollowed && !doubted) return end;
  // A header may be torn itself.
  const latest = length > 0 ? end : from + MEMBER_HEADER_BYTES;
  const next = nextMember(bytes, from + 1, Math.min(to, latest + MEMBER_SIGNATURE.length));
  if (next >= 0) return next;
  return isFollowed ? end : Infinity;
}

/** Whether the input ends at `at`, or a gzip member may begin there. */
function mayBegin(bytes: Uint8Array, at: number, to: number): boolean {
  if (at > to) return false;
  for (let i = 0; i < MAGIC_BYTES && at + i < to; i++) {
    if (bytes[at + i] !== MEMBER_SIGNATURE[i]) return false;
  }
  return true;
}
