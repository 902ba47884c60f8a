// Why bytes of a measured call have no time: the closed list that the books, the summary and the
// log's `reason` and `miss<N>` keys share. The numbers stand in logs: append, never reorder.

/** Reason codes, indices into `REASONS` and `DirectionStats.unmatched`. */
export const Reason = {
  /** Calls overlapped in one direction of one socket. */
  concurrent: 0,
  /** The capture lost packets while these bytes passed. */
  captureDrop: 1,
  /** The target's records were lost: as a rule, its ring was full. */
  ringDrop: 2,
  /** The socket is older than the capture; these bytes passed before its numbers were known. */
  noAnchor: 3,
  /** The connection ended before these bytes were sent. */
  closedUnsent: 4,
  /** No packet of this connection was captured: filter, interface or namespace exclude it. */
  filtered: 5,
  /** Addresses were rewritten between the socket and the capture. */
  nat: 6,
  /** The process died or was interrupted inside the call. */
  interrupted: 7,
  /** Urgent data: the stream and the wire number their bytes differently. */
  urgent: 8,
  /** Kernel TLS: the wire carries other bytes than the application wrote. */
  ktls: 9,
  /** The two times are in the wrong order: the clock was set, or a stamp went backwards. */
  clock: 10,
  /** The capture lost nothing, yet no packet carried these bytes. */
  unseen: 11,
  /** They arrived before the socket was accepted, and were not kept. */
  unborn: 12,
  /** The collector's own bounded memory was full. */
  overflow: 13,
  /** The collector learned of the socket after they had passed, though it was there before. */
  late: 14,
} as const;

export type Reason = (typeof Reason)[keyof typeof Reason];

/** Names as they are printed, in the order of the codes. */
export const REASONS: readonly string[] = [
  "concurrent",
  "capture drop",
  "ring drop",
  "no anchor",
  "closed unsent",
  "filtered",
  "nat",
  "interrupted",
  "urgent",
  "ktls",
  "clock",
  "unseen",
  "unborn",
  "overflow",
  "late",
];

/** One line a reason, in the same order: what it means, and what the user can do about it. */
export const REASON_HELP: readonly string[] = [
  "calls of threads, forked twins or programs that share a socket overlapped, or took turns, so that " +
    "their bytes have no provable order; give each socket one reader and one writer",
  "the capture lost packets while these bytes passed; narrow --filter or enlarge the capture buffer",
  "records of these calls were lost, as a rule because the target's ring was full: the losses tell; give it " +
    "more slots (--ring of run)",
  "the socket is older than the capture, and these bytes passed before its numbers were known; " +
    "measure it from its start",
  "the connection was reset or ended before these bytes left; the peer or the program aborted it",
  "no packet of this connection was captured; --filter or --interface excludes it, or it is in another " +
    "network namespace",
  "addresses or ports are rewritten between socket and capture; capture on the inner interface",
  "the process died, or the call was cut off, before its result was known; nothing to be done",
  "urgent data (MSG_OOB) shifts the stream against the wire; nothing to be done",
  "kernel TLS frames the bytes itself; switch it off in the program to measure it",
  "call and packet are in the wrong order: the clock was set during the measurement; repeat it",
  "no packet carried these bytes though none was lost; check the interface and the network namespace",
  "they arrived before accept on a port whose listen was not seen; start the server under kqtime",
  "the collector's memory for waiting calls or packets was full; measure fewer connections at once",
  "the collector learned of the socket after these bytes had passed, for its record was lost, or more " +
    "reached the session's socket than it could take; start fewer processes at once",
];
