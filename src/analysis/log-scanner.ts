// The lines of a log, byte by byte: numbers are read where they stand, without a string or an object
// for a line. Every line ends in a newline, which no rule below accepts as part of anything else, so
// that no bounds have to be checked.
//
// Understood are kqtime's lines (README, "The log"), those of its ancestor, which have fewer keys,
// and parsed data (`<start> KQTIME-OUT <ms>`). A line that is none of them is damaged; if another one
// begins in its middle, that one is read.

import {
  COMMA, DOT, endOfLine, EQUALS, exponentAt, four, LETTER_E, LETTER_K, MINUS, NEWLINE, NINE, RETURN,
  SEMICOLON, SPACE, starts, startsLine, ZERO,
} from "./log-bytes.ts";
import { LineChoices } from "./line-choice.ts";
import * as Key from "./log-keys.ts";
import { ABSENT, Direction, LogLine, type LogVisitor } from "./log-line.ts";

/** Histograms of a KQTIME-BOOKS line take 250 kB at the very most. */
const TEXT_BYTES_MOST = 1 << 20;

const POWERS = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1];

export class LogScanner {
  /** Lines understood, of any kind. */
  lines = 0;
  /** Lines that are none, or are cut. */
  damaged = 0;
  /** Whole lines of a kind that this version does not know: `KQTIME-…;`. */
  unknown = 0;
  readonly choices = new LineChoices();
  readonly line = new LogLine();
  readonly #visitor: LogVisitor;
  #based = false;
  /** Of the value read last: digits behind the point, as ns. */
  #fractionNs = 0;
  /** Of the pairs read last. */
  #startSec = 0;
  #startNs = 0;
  #endSec = 0;
  #endNs = 0;
  #seen = 0;
  /** The lines of buffer statistics that have the same start, summed. */
  readonly #moment = {
    open: false, startSec: 0, startNs: 0, endSec: 0, endNs: 0, sndLen: 0, rcvLen: 0,
  };

  constructor(visitor: LogVisitor) {
    this.#visitor = visitor;
  }

  /** Scans whole lines: `bytes[limit - 1]` is a newline. */
  scan(bytes: Uint8Array, from: number, limit: number): void {
    this.line.buffer = bytes;
    let at = from;
    while (at < limit) {
      const next = this.#one(bytes, at);
      at = next > at ? next : this.#recover(bytes, at, limit);
    }
  }

  /** Reads the line at `at`; returns where the next one begins, or `at` if it is damaged. */
  #one(bytes: Uint8Array, at: number): number {
    const first = bytes[at]!;
    if (first === NEWLINE) return at + 1;
    if (first !== LETTER_K) return this.#parsedLine(bytes, at);
    if (four(bytes, at) !== Key.KQTI) return at;
    switch (four(bytes, at + 4)) {
      case Key.ME_OUT:
        return starts(bytes, at + 8, "UT;") ? this.#callLine(bytes, at, at + 11, Direction.Out) : at;
      case Key.ME_IN:
        return starts(bytes, at + 8, "N;") ? this.#callLine(bytes, at, at + 10, Direction.In) : at;
      case Key.ME_MISS:
        if (starts(bytes, at + 8, "ISS;")) return this.#missLine(bytes, at, at + 12);
        return starts(bytes, at, Key.META) ? this.#textLine(bytes, at, "meta") : at;
      case Key.ME_STATS:
        return starts(bytes, at + 8, "TATS;") ? this.#statsLine(bytes, at, at + 13) : at;
      case Key.ME_BOOKS:
        return starts(bytes, at, Key.BOOKS) ? this.#textLine(bytes, at, "books") : at;
      case Key.ME_LOSS:
        return starts(bytes, at, Key.LOSS) ? this.#textLine(bytes, at, "loss") : at;
      default:
        return this.#unknownLine(bytes, at);
    }
  }

  #callLine(bytes: Uint8Array, at: number, from: number, direction: Direction): number {
    this.#clear();
    const { line } = this;
    const pairs = this.#pairs(bytes, from);
    if (pairs < 0 || this.#seen !== 3) return at;
    const next = this.#lastField(bytes, pairs + 1);
    if (next < 0) return at;
    this.#setTimes();
    line.direction = direction;
    this.lines++;
    this.#visitor.call(line);
    return next;
  }

  #missLine(bytes: Uint8Array, at: number, from: number): number {
    this.#clear();
    const { line } = this;
    const pairs = this.#pairs(bytes, from);
    if (pairs < 0 || this.#seen !== 3 || line.reason < 0) return at;
    const next = this.#lastField(bytes, pairs + 1);
    if (next < 0) return at;
    this.#setTimes();
    this.lines++;
    this.#visitor.miss(line);
    return next;
  }

  /** Twice over its groups: first whether all are whole, then each, so that none counts in vain. */
  #statsLine(bytes: Uint8Array, at: number, from: number): number {
    const { line } = this;
    const moment = this.#moment;
    this.#clear();
    const head = this.#pairs(bytes, from);
    if (head < 0 || this.#seen !== 3) return at;
    const startSec = this.#startSec;
    const startNs = this.#startNs;
    const endSec = this.#endSec;
    const endNs = this.#endNs;
    let to = head + 1;
    while (bytes[to] !== NEWLINE && bytes[to] !== RETURN) {
      to = this.#pairs(bytes, to) + 1;
      if (to === 0) return at;
    }
    const next = endOfLine(bytes, to);
    if (next < 0) return at;
    if (moment.open && (moment.startSec !== startSec || moment.startNs !== startNs)) this.finish();
    if (!moment.open) Object.assign(moment, { open: true, startSec, startNs, sndLen: 0, rcvLen: 0 });
    moment.endSec = endSec;
    moment.endNs = endNs;
    for (let group = head + 1; group < to; ) {
      this.#clear();
      this.#clearSocket();
      group = this.#pairs(bytes, group) + 1;
      this.#setMoment();
      if (line.sndLen > 0) moment.sndLen += line.sndLen;
      if (line.rcvLen > 0) moment.rcvLen += line.rcvLen;
      this.#visitor.socketQueues(line);
    }
    this.#clearSocket();
    this.lines++;
    return next;
  }

  /** Tells of the moment of buffer statistics whose lines have been read; call after the last line. */
  finish(): void {
    const { line } = this;
    const moment = this.#moment;
    if (!moment.open) return;
    moment.open = false;
    this.#clear();
    this.#setMoment();
    line.sndLen = moment.sndLen;
    line.rcvLen = moment.rcvLen;
    this.#visitor.queues(line);
  }

  #setMoment(): void {
    const moment = this.#moment;
    this.#startSec = moment.startSec;
    this.#startNs = moment.startNs;
    this.#endSec = moment.endSec;
    this.#endNs = moment.endNs;
    this.#setTimes();
  }

  #textLine(bytes: Uint8Array, at: number, kind: "books" | "loss" | "meta"): number {
    const newline = bytes.indexOf(NEWLINE, at);
    const to = bytes[newline - 1] === RETURN ? newline - 1 : newline;
    if (to - at > TEXT_BYTES_MOST || bytes[to - 1] !== SEMICOLON) return at;
    this.finish();
    const text = new TextDecoder().decode(bytes.subarray(at, to));
    if (!(kind === "meta" ? this.choices.add(text) : this.#visitor.text(kind, text))) return at;
    this.lines++;
    return newline + 1;
  }

  /** `KQTIME-WORD;…;`, from a later version: nothing is wrong with it. */
  #unknownLine(bytes: Uint8Array, at: number): number {
    if (!starts(bytes, at, "KQTIME-")) return at;
    let to = at + 7;
    while (bytes[to]! >= 65 && bytes[to]! <= 90) to++;
    if (to === at + 7 || bytes[to] !== SEMICOLON) return at;
    const newline = bytes.indexOf(NEWLINE, to);
    if (bytes[newline - 1] !== SEMICOLON && bytes[newline - 1] !== RETURN) return at;
    this.unknown++;
    return newline + 1;
  }

  /** `<start> KQTIME-OUT|KQTIME-IN|KQLEN-OUT|KQLEN-IN <value>`. */
  #parsedLine(bytes: Uint8Array, at: number): number {
    this.#clear();
    const { line } = this;
    let to = this.#number(bytes, at);
    if (to < 0 || bytes[to] !== SPACE) return at;
    this.#startSec = this.#value;
    this.#startNs = this.#fractionNs;
    if (!this.#based) line.baseSec = this.#startSec;
    const kind = four(bytes, to + 1);
    if (kind !== Key.KQTI && kind !== Key.KQLE) return at;
    const from = to + (kind === Key.KQTI ? 8 : 7);
    if (!starts(bytes, to + 5, kind === Key.KQTI ? "ME-" : "N-")) return at;
    const out = starts(bytes, from, "OUT ");
    if (!out && !starts(bytes, from, "IN ")) return at;
    const digits = from + (out ? 4 : 3);
    to = this.#number(bytes, digits);
    if (to < 0) return at;
    let value = this.#value + this.#fractionNs / 1e9;
    if (bytes[to] === LETTER_E) {
      // Python writes what is below 0.0001 so.
      const { exponent, end } = exponentAt(bytes, to + 1);
      value *= 10 ** exponent;
      to = end;
    }
    if (bytes[digits] === MINUS) value = -value;
    const next = endOfLine(bytes, to);
    if (next < 0) return at;
    this.#endSec = this.#startSec;
    this.#endNs = this.#startNs;
    this.#setTimes();
    line.parsed = true;
    line.direction = out ? Direction.Out : Direction.In;
    this.lines++;
    if (kind === Key.KQTI) {
      line.waitNs = Math.round(value * 1e6);
      line.endNs = line.startNs + line.waitNs;
      this.#visitor.call(line);
    } else {
      if (out) line.sndLen = value;
      else line.rcvLen = value;
      this.#visitor.queues(line);
    }
    line.parsed = false;
    return next;
  }

  /** The last field, up to `;` and the end of the line: where the next one begins, or -1. */
  #lastField(bytes: Uint8Array, from: number): number {
    let to = from;
    while (bytes[to]! >= SPACE && bytes[to] !== SEMICOLON) to++;
    if (bytes[to] !== SEMICOLON) return -1;
    this.line.nameFrom = from;
    this.line.nameTo = to;
    return bytes[to + 1] === NEWLINE ? to + 2 : endOfLine(bytes, to + 1);
  }

  #clear(): void {
    const { line } = this;
    this.#seen = 0;
    line.direction = Direction.Out;
    line.firstNs = Number.NaN;
    line.inorderNs = Number.NaN;
    line.fd = line.bytes = line.off = line.pid = line.sock = line.lport = line.rport = ABSENT;
    line.reason = line.sndLen = line.rcvLen = line.sndSize = line.rcvSize = ABSENT;
    line.nameFrom = line.nameTo = 0;
  }

  /** What only KQTIME-STATS has. */
  #clearSocket(): void {
    const { line } = this;
    line.unsent = line.sndAgeNs = line.rcvAgeNs = ABSENT;
    line.rttUs = line.rttvarUs = line.minRttUs = line.mss = line.cwnd = ABSENT;
    line.deliveryBytesPerSec = line.busyUs = line.rwndLimitedUs = line.sndbufLimitedUs = ABSENT;
    line.retrans = ABSENT;
  }

  #setTimes(): void {
    const { line } = this;
    this.#based = true;
    line.startSec = this.#startSec;
    line.startFractionNs = this.#startNs;
    line.startNs = (this.#startSec - line.baseSec) * 1e9 + this.#startNs;
    line.endNs = (this.#endSec - line.baseSec) * 1e9 + this.#endNs;
    line.waitNs = (this.#endSec - this.#startSec) * 1e9 + (this.#endNs - this.#startNs);
  }

  #value = 0;

  /**
   * Digits, maybe with a sign before and a fraction behind; where they end, or -1: also of a number
   * that is too great to be exact, for nothing in a log is.
   */
  #number(bytes: Uint8Array, from: number): number {
    let at = from;
    if (bytes[at] === MINUS) at++;
    const first = at;
    let value = 0;
    let c = bytes[at]!;
    while (c >= ZERO && c <= NINE) {
      value = value * 10 + (c - ZERO);
      c = bytes[++at]!;
    }
    if (at === first || value > Number.MAX_SAFE_INTEGER) return -1;
    let fraction = 0;
    if (c === DOT) {
      const point = ++at;
      c = bytes[at]!;
      while (c >= ZERO && c <= NINE) {
        if (at - point < 9) fraction = fraction * 10 + (c - ZERO);
        c = bytes[++at]!;
      }
      const digits = at - point;
      if (digits === 0) return -1;
      if (digits < 9) fraction *= POWERS[digits]!;
    }
    this.#value = value;
    this.#fractionNs = fraction;
    return at;
  }

  /** `key=number,…;`: fills the line; returns where its `;` stands, or -1. */
  #pairs(bytes: Uint8Array, from: number): number {
    const { line } = this;
    let at = from;
    for (;;) {
      let a = 0;
      let b = 0;
      const key = at;
      let c = bytes[at]!;
      // Letters, digits and `_`.
      while (c !== EQUALS) {
        if (c < ZERO || (c > NINE && c < 65) || c > 122) return -1;
        if (at - key < 4) a = (a << 8) | c;
        else b = (b << 8) | c;
        c = bytes[++at]!;
      }
      const length = at - key;
      if (length === 0) return -1;
      const digits = at + 1;
      at = this.#number(bytes, digits);
      if (at < 0) return -1;
      const value = bytes[digits] === MINUS ? -this.#value : this.#value;
      if (length <= Key.KEY_MOST) {
        switch (a) {
          case Key.START:
            if (b !== Key.START_TAIL) break;
            this.#startSec = value;
            this.#startNs = this.#fractionNs;
            if (!this.#based) line.baseSec = value;
            this.#seen |= 1;
            break;
          case Key.END:
            if (length !== 3) break;
            this.#endSec = value;
            this.#endNs = this.#fractionNs;
            this.#seen |= 2;
            break;
          case Key.FD:
            line.fd = value;
            break;
          case Key.BYTES:
            if (b === Key.BYTES_TAIL) line.bytes = value;
            break;
          case Key.FIRST:
            if (b === Key.FIRST_TAIL) line.firstNs = (value - line.baseSec) * 1e9 + this.#fractionNs;
            break;
          case Key.INORDER:
            if (b === Key.INORDER_TAIL) line.inorderNs = (value - line.baseSec) * 1e9 + this.#fractionNs;
            break;
          case Key.OFF:
            line.off = value;
            break;
          case Key.PID:
            line.pid = value;
            break;
          case Key.SOCK:
            if (b === 0) line.sock = value;
            break;
          case Key.LPORT:
            if (b === Key.LPORT_TAIL) line.lport = value;
            break;
          case Key.RPORT:
            if (b === Key.RPORT_TAIL) line.rport = value;
            break;
          case Key.DIR:
            line.direction = value === 1 ? Direction.In : Direction.Out;
            break;
          case Key.REASON:
            if (b === Key.REASON_TAIL) line.reason = value;
            break;
          case Key.SND:
            if (b === Key.LEN_TAIL) line.sndLen = value;
            else if (b === Key.SIZE_TAIL) line.sndSize = value;
            else if (b === Key.AGE_TAIL && length === Key.AGE_LENGTH) line.sndAgeNs = value;
            break;
          case Key.RCV:
            if (b === Key.LEN_TAIL) line.rcvLen = value;
            else if (b === Key.SIZE_TAIL) line.rcvSize = value;
            else if (b === Key.AGE_TAIL && length === Key.AGE_LENGTH) line.rcvAgeNs = value;
            break;
          case Key.UNSENT:
            if (b === Key.UNSENT_TAIL) line.unsent = value;
            break;
          case Key.RTT:
            if (b === Key.RTT_TAIL) line.rttUs = value;
            break;
          case Key.RTTVAR:
            if (b === Key.RTTVAR_TAIL) line.rttvarUs = value;
            break;
          case Key.MIN_RTT:
            if (b === Key.MIN_RTT_TAIL) line.minRttUs = value;
            break;
          case Key.MSS:
            line.mss = value;
            break;
          case Key.BUSY:
            if (b === Key.BUSY_TAIL) line.busyUs = value;
            break;
          case Key.RWND:
            if (b === Key.LIMITED_TAIL) line.rwndLimitedUs = value;
            break;
          case Key.SNDBUF:
            if (b === Key.LIMITED_TAIL) line.sndbufLimitedUs = value;
            break;
          case Key.CWND:
            if (b === 0) line.cwnd = value;
            break;
          case Key.RETRANS:
            if (b === Key.RETRANS_TAIL) line.retrans = value;
            break;
          case Key.DELIVERY:
            if (b === Key.DELIVERY_TAIL) line.deliveryBytesPerSec = value;
            break;
        }
      }
      c = bytes[at]!;
      if (c === SEMICOLON) return at;
      if (c !== COMMA) return -1;
      at++;
    }
  }

  /** Behind a damaged line: where another one begins in its middle, or the next line. */
  #recover(bytes: Uint8Array, from: number, limit: number): number {
    this.damaged++;
    let newline = bytes.indexOf(NEWLINE, from);
    if (newline < 0 || newline >= limit) newline = limit - 1;
    // The last one: what follows a cut is whole. (One attempt, so that no input makes it slow.)
    for (let at = newline - 1; at > from; at--) {
      at = bytes.lastIndexOf(LETTER_K, at);
      if (at <= from) break;
      if (!startsLine(bytes, at)) continue;
      const next = this.#one(bytes, at);
      if (next > at) return next;
      break;
    }
    return newline + 1;
  }
}
