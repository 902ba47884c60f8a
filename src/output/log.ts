// The log: one line of text for every call that moved bytes, in the ancestor's format with more
// keys. `call` and `miss` are hot: they write bytes into one buffer, and neither allocate nor throw.
//
// Lines go to the kernel in chunks, and at `sync` in any case; what it has taken survives the end
// of this process, however it comes. A `.gz` log is a row of complete gzip members, one a chunk.

import { KQTimeError } from "../errors.ts";
import { MemberEncoder } from "../ffi/zlib.ts";
import { writeBooks } from "./books.ts";
import { MEMBER_TEXT_BYTES, repairEnd, startsAsGzip } from "./gzip-end.ts";
import { ascii, LineBuffer } from "./line.ts";
import { type LossCounters, writeLosses } from "./loss-line.ts";
import { NAME_MAX_BYTES } from "./name.ts";
import { Patience } from "./patience.ts";
import type { QueueRow } from "../match/queue-samples.ts";
import { GROUPS_MOST, queueLines } from "./queue-line.ts";
import type { Rotation } from "./rotation.ts";
import { FileSink } from "./sink.ts";
import type { DirectionStats } from "./stats.ts";

/** Text handed over at once. Larger compresses better and writes less often. */
const CHUNK_BYTES = 256 * 1024;
/** Text kept while the file cannot be written; lines beyond it are shed. */
const QUEUE_BYTES = MEMBER_TEXT_BYTES;
/**
 * The longest line of a call without its name: an inbound one, 12 + 12 bytes of frame, 65 of keys
 * and commas, 4 times of 21 bytes, 7 numbers of 17: 292.
 */
const LINE_BYTES = 320 + NAME_MAX_BYTES;
/**
 * Speed counts. A line of 184 bytes costs 1.4–1.7 µs and 40 bytes of file here; level 3 2.1 µs and
 * 36, level 6 3.8 µs and 32, level 9 7 µs and 31.
 */
const LEVEL = 1;

const OUT = ascii("KQTIME-OUT;start=");
const IN = ascii("KQTIME-IN;start=");
const MISS = ascii("KQTIME-MISS;start=");
const END = ascii(",end=");
const FD = ascii(",fd=");
const BYTES = ascii(",bytes=");
const FIRST = ascii(",first=");
const INORDER = ascii(",inorder=");
const OFF = ascii(",off=");
const PID = ascii(",pid=");
const SOCK = ascii(",sock=");
const LPORT = ascii(",lport=");
const RPORT = ascii(",rport=");
const DIR = ascii(",dir=");
const REASON = ascii(",reason=");
const [NAME, FINISH, NEWLINE] = [ascii(";"), ascii(";\n"), ascii("\n")];

export interface LogOptions {
  /** Unix seconds that all times given to the log are relative to. */
  baseSec: number;
  /** Told once for each kind of failing write, with a sentence for the user. */
  onError: (message: string) => void;
  /** The run's KQTIME-META line (selection.ts): what every file of the log begins with. */
  head?: Uint8Array | null;
  rotation?: Rotation | null;
  /** Goes on in a new file where another program has moved the old one away. */
  follow?: boolean;
  /** With a slow reader, at the end; shared with other outputs. */
  patience?: Patience;
}

const NOTHING = new Uint8Array(0);

export class Log {
  /** Lines that could not be kept, or not be written by the end. */
  linesLost = 0;
  /** Set while the log may cost no time: lines of calls are counted as lost instead of written. */
  shedding = false;
  readonly #text: LineBuffer;
  readonly #sink: FileSink;
  readonly #encoder: MemberEncoder | null;
  readonly #rotation: Rotation | null;
  readonly #follows: boolean;
  readonly #chunkBytes: number;
  /** What every file begins with, as it stands there. */
  #head: Uint8Array = NOTHING;
  /** What comes in the present file before anything else. */
  #lead: Uint8Array = NOTHING;
  /** The length at which the next attempt to rotate is made. */
  #rotateAtBytes = Infinity;
  /** About how long the lines are, as text, that are yet to come of the moment that is written. */
  #momentBytes = 0;
  /** Its first lines are in the file, and the others follow them there: its sums need them all. */
  #isInMoment = false;
  #lines = 0;
  #isEnding = false;
  #closed = false;

  private constructor(sink: FileSink, encoder: MemberEncoder | null, options: LogOptions) {
    const { baseSec, rotation = null, follow = false } = options;
    this.#sink = sink;
    this.#encoder = encoder;
    this.#rotation = rotation;
    this.#follows = follow;
    // Small enough to fill a file well.
    this.#chunkBytes = Math.min(CHUNK_BYTES, (rotation?.sizeBytes ?? Infinity) / 4);
    this.#text = new LineBuffer(QUEUE_BYTES, baseSec);
  }

  /**
   * Opens `path` for appending, compressed if it ends in `.gz`.
   * @throws KQTimeError `E_LOG` if it cannot be opened, `E_LIBRARY` without libz.
   */
  static open(path: string, options: LogOptions): Log {
    // libz first: without it no empty file is left behind.
    const encoder = path.endsWith(".gz") ? new MemberEncoder(QUEUE_BYTES, LEVEL) : null;
    let sink: FileSink;
    try {
      sink = FileSink.open(path, options.onError, options.patience ?? new Patience());
    } catch (error) {
      encoder?.close();
      throw error;
    }
    return Log.#on(sink, encoder, path, options);
  }

  /**
   * A log that was opened by somebody else: `fd`, which it closes.
   * @param path for messages
   * @throws KQTimeError as `open` does; the descriptor is closed then
   */
  static adopt(fd: number, path: string, compressed: boolean, options: LogOptions): Log {
    const sink = FileSink.adopt(fd, path, options.onError);
    let encoder: MemberEncoder | null = null;
    try {
      if (compressed) encoder = new MemberEncoder(QUEUE_BYTES, LEVEL);
    } catch (error) {
      sink.close();
      throw error;
    }
    const log = Log.#on(sink, encoder, path, options);
    // gzip takes an empty file for a damaged one, and a handle may be freed without a line.
    if (encoder !== null && sink.fileBytes === 0) {
      sink.write(encoder.output, encoder.encode(log.#text.bytes, 0), 0);
    }
    return log;
  }

  static #on(
    sink: FileSink,
    encoder: MemberEncoder | null,
    path: string,
    options: LogOptions,
  ): Log {
    const log = new Log(sink, encoder, options);
    const refuse = (why: string): never => {
      log.close();
      throw new KQTimeError("E_LOG", "open", `log "${path}" ${why}`);
    };
    if (encoder !== null && !startsAsGzip(sink)) {
      refuse(
        "is no gzip file, and a compressed log cannot be appended to it: " +
          "name another file, or one without .gz",
      );
    }
    if (log.#rotation !== null && !sink.isRegular) {
      refuse("is no regular file, and cannot be rotated");
    }
    const head = options.head ?? NOTHING;
    log.#head = head;
    if (encoder !== null && head.length > 0) {
      log.#head = encoder.output.slice(0, encoder.encode(head, head.length));
    }
    log.#arrive();
    return log;
  }

  /** Makes sure that what comes can be read in the file that was opened. */
  #arrive(): void {
    const sink = this.#sink;
    this.#lead = this.#head;
    if (this.#encoder !== null) {
      sink.share();
      repairEnd(sink, this.#encoder);
    } else if (sink.endsInLine) {
      this.#lead = new Uint8Array([...NEWLINE, ...this.#head]);
    }
    if (sink.putFirst(this.#lead)) this.#lead = NOTHING;
    if (!this.#isEnding) this.#rotateAtBytes = this.#rotation?.sizeBytes ?? Infinity;
  }

  /** Of the file, to tell it from others; null for a device. */
  get identity(): string | null {
    return this.#sink.identity;
  }

  /** Lines that the kernel has taken; those since the last chunk are not among them yet. */
  get linesWritten(): number {
    return this.#sink.linesWritten;
  }

  /** Lines that are lost, and those that a failing write leaves waiting: not in the file by now. */
  get linesMissing(): number {
    const failed = this.#sink.linesFailed;
    return this.linesLost + (failed > 0 ? failed + this.#lines : 0);
  }

  /** Why lines are missing, in words; null if writing never failed. */
  get failure(): string | null {
    return this.#sink.failure;
  }

  /**
   * A call with a time. Out (0): `startNs` is the call's entry, `endNs` and `firstNs` the
   * departures of its last and its first byte, `inorderNs` is not used. In (1): `startNs` and
   * `firstNs` are the arrivals of the last and the first byte that it returned, `inorderNs` is
   * when the last byte had no gap before it any more, `endNs` is its return. Times in ns relative
   * to the base; `bytes` those matched; `off` the stream offset; `name` from `encodeName`.
   */
  call(
    direction: 0 | 1,
    startNs: number,
    endNs: number,
    firstNs: number,
    inorderNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    sock: number,
    lport: number,
    rport: number,
    name: Uint8Array,
  ): void {
    if (!this.#begin()) return;
    const text = this.#text;
    text.put(direction === 0 ? OUT : IN);
    text.putTime(startNs);
    text.put(END);
    text.putTime(endNs);
    text.put(FD);
    text.putInteger(fd);
    text.put(BYTES);
    text.putInteger(bytes);
    text.put(FIRST);
    text.putTime(firstNs);
    if (direction === 1) {
      text.put(INORDER);
      text.putTime(inorderNs);
    }
    this.#putPlace(off, pid, sock, lport, rport);
    this.#finish(name);
  }

  /** Bytes of a call without a time; `reason` is a `Reason`. */
  miss(
    direction: 0 | 1,
    startNs: number,
    endNs: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    sock: number,
    lport: number,
    rport: number,
    reason: number,
    name: Uint8Array,
  ): void {
    if (!this.#begin()) return;
    const text = this.#text;
    text.put(MISS);
    text.putTime(startNs);
    text.put(END);
    text.putTime(endNs);
    text.put(FD);
    text.putInteger(fd);
    text.put(BYTES);
    text.putInteger(bytes);
    this.#putPlace(off, pid, sock, lport, rport);
    text.put(DIR);
    text.putInteger(direction);
    text.put(REASON);
    text.putInteger(reason);
    this.#finish(name);
  }

  /** The queues of all sockets at one moment (see queue-line.ts). */
  queues(startNs: number, endNs: number, rows: readonly QueueRow[]): void {
    let lines = Math.ceil(rows.length / GROUPS_MOST);
    for (const line of queueLines(this.#text.baseSec, startNs, endNs, rows)) {
      this.#momentBytes = line.length * lines--;
      if (this.shedding) this.linesLost++;
      else this.#putLine(line);
    }
    this.#momentBytes = 0;
    if (this.#isInMoment) this.#flush();
    this.#isInMoment = false;
  }

  /** The books of a label at the end, with its histograms (see books.ts); not for the hot path. */
  books(
    direction: 0 | 1,
    startNs: number,
    endNs: number,
    stats: DirectionStats,
    name: Uint8Array,
  ): void {
    // They stand together, at the end of the last file: what waits may have to go to the one before.
    if (!this.#isEnding && this.#rotation !== null) this.sync();
    this.#isEnding = true;
    this.#putLine(writeBooks(direction, startNs, endNs, stats, name, this.#text.baseSec));
  }

  /** What was lost on the way (see loss-line.ts): the last line. `logLines` is this log's own. */
  losses(startNs: number, endNs: number, session: number, losses: LossCounters): void {
    this.sync();
    const counters = { ...losses, logLines: this.linesMissing };
    this.#putLine(writeLosses(startNs, endNs, session, counters, this.#text.baseSec));
  }

  /**
   * Hands everything so far to the kernel: it is readable, and decompressible, whatever becomes
   * of this process. (No fsync: waiting for the disk would lose records.)
   */
  sync(): void {
    if (this.#closed) return;
    if (this.#follows && this.#sink.follow((sink) => this.#encoder === null || startsAsGzip(sink))) {
      this.#arrive();
    }
    this.#sink.retry();
    this.#flush();
  }

  /** As `close`, of a run that is refused: a file that was made for it is taken away. */
  discard(): void {
    this.close();
    this.#sink.removeEmpty();
  }

  /** Writes what can be written, counts the rest as lost, and closes. Never throws. */
  close(): void {
    if (this.#closed) return;
    this.#sink.hurry();
    this.sync();
    // A slow reader that has caught up has yet to get what came meanwhile.
    if (this.#lines > 0 && this.#sink.drain()) this.sync();
    this.#closed = true;
    this.linesLost += this.#lines + this.#sink.close();
    this.#lines = 0;
    this.#encoder?.close();
    // No room any more: a line given later is counted as lost.
    this.#text.length = QUEUE_BYTES;
  }

  #putLine(line: Uint8Array): void {
    if (this.#text.room < line.length) this.#flush();
    if (this.#closed || this.#text.room < line.length) {
      this.linesLost++;
      return;
    }
    this.#text.put(line);
    this.#lines++;
  }

  #putPlace(off: number, pid: number, sock: number, lport: number, rport: number): void {
    const text = this.#text;
    text.put(OFF);
    text.putInteger(off);
    text.put(PID);
    text.putInteger(pid);
    text.put(SOCK);
    text.putInteger(sock);
    text.put(LPORT);
    text.putInteger(lport);
    text.put(RPORT);
    text.putInteger(rport);
  }

  /** Makes room for a line; false, and one more lost, if there is none. */
  #begin(): boolean {
    if (this.#text.length < this.#chunkBytes && !this.shedding) return true;
    return this.#makeRoom();
  }

  #makeRoom(): boolean {
    if (!this.shedding) {
      if (this.#sink.slow) this.#sink.retry();
      this.#flush();
      if (this.#text.room >= LINE_BYTES) return true;
      this.#sink.lost();
    }
    this.linesLost++;
    return false;
  }

  #finish(name: Uint8Array): void {
    const text = this.#text;
    text.put(NAME);
    text.put(name);
    text.put(FINISH);
    this.#lines++;
  }

  #flush(): void {
    const sink = this.#sink;
    const text = this.#text;
    const encoder = this.#encoder;
    if (sink.blocked || this.#lines === 0 || this.#closed) return;
    if (encoder === null) {
      this.#begins(text.length);
      sink.write(text.bytes, text.length, this.#lines);
    } else {
      const member = encoder.encode(text.bytes, text.length);
      if (member === 0) {
        sink.report("libz", "libz failed to compress the log; lines are lost");
        this.linesLost += this.#lines;
      } else {
        this.#begins(member);
        sink.write(encoder.output, member, this.#lines);
      }
    }
    text.length = 0;
    this.#lines = 0;
  }

  /** Before a write of `bytes`: rotates if it is time, and begins a file as it should. */
  #begins(bytes: number): void {
    const sink = this.#sink;
    if (this.#rotation === null && this.#head.length + this.#lead.length === 0) return;
    const { isRegular, fileBytes } = sink;
    const ahead = (bytes * this.#momentBytes) / this.#text.length;
    const isFull = !this.#isInMoment && fileBytes + this.#lead.length + bytes + ahead > this.#rotateAtBytes;
    this.#isInMoment ||= ahead > 0;
    if (this.#rotation !== null && fileBytes > 0 && isFull) {
      const { sizeBytes, files } = this.#rotation;
      if (sink.rotate(files)) {
        this.#rotateAtBytes = sizeBytes;
        this.#lead = this.#head;
        if (this.#encoder !== null) sink.share();
      } else {
        this.#rotateAtBytes = fileBytes + sizeBytes;
      }
    } else if (isRegular && fileBytes === 0) {
      // New, or another program has copied and emptied it.
      this.#lead = this.#head;
    }
    if (this.#isEnding) this.#rotateAtBytes = Infinity;
    const lead = this.#lead;
    this.#lead = NOTHING;
    if (lead.length > 0) sink.write(lead, lead.length, 0);
  }
}
