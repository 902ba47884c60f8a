// One line of a log as numbers. There is one object, filled again for each line: at a million lines
// a second an object for each would cost more than reading them.

/** What has no value on this line. */
export const ABSENT = -1;

export const Direction = { Out: 0, In: 1 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/**
 * The fields of a line. Times are ns relative to `baseSec`, which is fixed by the first line read
 * (exact within 104 days of it). A line of the ancestor's or of parsed data has fewer fields:
 * what is not there is ABSENT, and of times NaN.
 */
export class LogLine {
  /** Unix seconds that the times are relative to. */
  baseSec = 0;
  /**
   * The log's start, which `+30s` counts from: that of the first line read. It is the run's own where
   * the log begins with KQTIME-META.
   */
  logStartNs = 0;
  /** Call (out), arrival of the last byte (in), or when the buffers were looked at. */
  startNs = 0;
  /** Departure of the last byte (out), return of the call (in). */
  endNs = 0;
  /** `endNs - startNs`, exact: the time in the kernel. Below zero only in the ancestor's logs. */
  waitNs = 0;
  /** Departure or arrival of the call's first byte; NaN if not there. */
  firstNs = Number.NaN;
  /** Inbound: when the last byte had become contiguous; NaN if not there. */
  inorderNs = Number.NaN;
  direction: Direction = Direction.Out;
  fd = ABSENT;
  bytes = ABSENT;
  off = ABSENT;
  pid = ABSENT;
  sock = ABSENT;
  lport = ABSENT;
  rport = ABSENT;
  /** Code of a KQTIME-MISS line, see reasons.ts. */
  reason = ABSENT;
  /** Buffer statistics: bytes in send queues, of one socket or summed over all of the line. */
  sndLen = ABSENT;
  rcvLen = ABSENT;
  sndSize = ABSENT;
  rcvSize = ABSENT;
  /** Buffer statistics of one socket: bytes of `sndLen` that were not sent yet. */
  unsent = ABSENT;
  /** … age of the oldest byte that was not sent, not read, ns. */
  sndAgeNs = ABSENT;
  rcvAgeNs = ABSENT;
  /** … what the kernel knows of the connection: µs; bytes; segments; bytes a second. */
  rttUs = ABSENT;
  rttvarUs = ABSENT;
  minRttUs = ABSENT;
  mss = ABSENT;
  cwnd = ABSENT;
  deliveryBytesPerSec = ABSENT;
  busyUs = ABSENT;
  rwndLimitedUs = ABSENT;
  sndbufLimitedUs = ABSENT;
  retrans = ABSENT;
  /** The line is of parsed data: a start and a value, nothing else. */
  parsed = false;
  /**
   * The times as they were written, exact however far from the base: whole Unix seconds, and the ns
   * beyond. `first…` and `inorder…` hold nothing where `firstNs` and `inorderNs` are NaN.
   */
  startSec = 0;
  startFractionNs = 0;
  endSec = 0;
  endFractionNs = 0;
  firstSec = 0;
  firstFractionNs = 0;
  inorderSec = 0;
  inorderFractionNs = 0;
  /** Where the name stands: `buffer[nameFrom … nameTo)`, valid during the visit. */
  buffer: Uint8Array = new Uint8Array(0);
  nameFrom = 0;
  nameTo = 0;

  /** The name as text; for names that repeat use a `NameTable`. */
  name(): string {
    return decoder.decode(this.buffer.subarray(this.nameFrom, this.nameTo));
  }
}

const decoder = new TextDecoder();

/** Who is told of each line. The `line` is valid during the call only. */
export interface LogVisitor {
  /** KQTIME-OUT, KQTIME-IN: a call with a time. */
  call(line: LogLine): void;
  /** KQTIME-MISS: bytes without a time. */
  miss(line: LogLine): void;
  /**
   * KQTIME-STATS: `sndLen` and `rcvLen` summed over all sockets of a moment, which may take several
   * lines with the same `start`. Parsed data has a line for each sum: then the other is ABSENT.
   */
  queues(line: LogLine): void;
  /** One socket of the moment whose `queues` comes next; `fd`, of kqtime's own logs `sock`. */
  socketQueues(line: LogLine): void;
  /**
   * KQTIME-BOOKS, KQTIME-LOSS: rare and long, as text without the newline; of `line` only the base
   * holds. False: damaged.
   */
  text(kind: "books" | "loss", text: string, line: LogLine): boolean;
}
