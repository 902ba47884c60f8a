// The lines of a log, byte by byte: numbers are read where they stand, without a string or an object
// for a line. Every line ends in a newline, which no rule below accepts as part of anything else, so
// that no bounds have to be checked.
//
// Understood are kqtime's lines (README, "The log"), those of its ancestor, which have fewer keys,
// and parsed data (`<start> KQTIME-OUT <ms>`). A line that begins as one of them and does not go on so,
// or that is part of one, is damaged; if another one begins in its middle, that one is read. Whole
// lines of kinds that a later version may write, and text of other programs, are unknown.

import {
  behindUnknown, endOfLine, exponentAt, four, isForeign, LETTER_E, LETTER_K, MINUS, NEWLINE, RETURN,
  SEMICOLON, SPACE, starts, startsLine,
} from "./log-bytes.ts";
import { LineChoices } from "./line-choice.ts";
import * as Key from "./log-keys.ts";
import { Direction, type LogVisitor } from "./log-line.ts";
import { NUMBER_LIMIT, PairReader } from "./log-pairs.ts";

/** Histograms of a KQTIME-BOOKS line take 250 kB at the very most. */
const TEXT_BYTES_MOST = 1 << 20;
/** A time of parsed data is below 2^53 ns, as all are that can be told exactly. */
const WAIT_LIMIT_MS = 2 ** 53 / 1e6;

export class LogScanner extends PairReader {
  /** Lines understood, of any kind. */
  lines = 0;
  /** Lines that are cut, or make no sense. */
  damaged = 0;
  /** Whole lines of a kind that this version does not know (`KQTIME-…;`), and those of others. */
  unknown = 0;
  /** Of them, those that are no line of kqtime's at all. */
  foreign = 0;
  readonly choices = new LineChoices();
  readonly #visitor: LogVisitor;
  /** The lines of buffer statistics that have the same start, summed. */
  readonly #moment = {
    open: false, startSec: 0, startNs: 0, endSec: 0, endNs: 0, sndLen: 0, rcvLen: 0,
  };

  constructor(visitor: LogVisitor) {
    super();
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
        if (starts(bytes, at + 8, "UT;")) return this.#callLine(bytes, at, at + 11, Direction.Out);
        break;
      case Key.ME_IN:
        if (starts(bytes, at + 8, "N;")) return this.#callLine(bytes, at, at + 10, Direction.In);
        break;
      case Key.ME_MISS:
        if (starts(bytes, at + 8, "ISS;")) return this.#missLine(bytes, at, at + 12);
        if (starts(bytes, at, Key.META)) return this.#textLine(bytes, at, "meta");
        break;
      case Key.ME_STATS:
        if (starts(bytes, at + 8, "TATS;")) return this.#statsLine(bytes, at, at + 13);
        break;
      case Key.ME_BOOKS:
        if (starts(bytes, at, Key.BOOKS)) return this.#textLine(bytes, at, "books");
        break;
      case Key.ME_LOSS:
        if (starts(bytes, at, Key.LOSS)) return this.#textLine(bytes, at, "loss");
        break;
    }
    const next = behindUnknown(bytes, at);
    if (next > at) this.unknown++;
    return next;
  }

  #callLine(bytes: Uint8Array, at: number, from: number, direction: Direction): number {
    this.clear();
    const { line } = this;
    const pairs = this.pairs(bytes, from);
    if (pairs < 0 || this.seen !== 3) return at;
    const next = this.#lastField(bytes, pairs + 1);
    if (next < 0) return at;
    this.setTimes();
    line.direction = direction;
    this.lines++;
    this.#visitor.call(line);
    return next;
  }

  #missLine(bytes: Uint8Array, at: number, from: number): number {
    this.clear();
    const { line } = this;
    const pairs = this.pairs(bytes, from);
    if (pairs < 0 || this.seen !== 3 || line.reason < 0) return at;
    const next = this.#lastField(bytes, pairs + 1);
    if (next < 0) return at;
    this.setTimes();
    this.lines++;
    this.#visitor.miss(line);
    return next;
  }

  /** Twice over its groups: first whether all are whole, then each, so that none counts in vain. */
  #statsLine(bytes: Uint8Array, at: number, from: number): number {
    const { line } = this;
    const moment = this.#moment;
    this.clear();
    const head = this.pairs(bytes, from);
    if (head < 0 || this.seen !== 3) return at;
    const startSec = this.startSec;
    const startNs = this.startNs;
    const endSec = this.endSec;
    const endNs = this.endNs;
    let to = head + 1;
    while (bytes[to] !== NEWLINE && bytes[to] !== RETURN) {
      to = this.pairs(bytes, to) + 1;
      if (to === 0) return at;
    }
    const next = endOfLine(bytes, to);
    if (next < 0) return at;
    if (moment.open && (moment.startSec !== startSec || moment.startNs !== startNs)) this.finish();
    if (!moment.open) Object.assign(moment, { open: true, startSec, startNs, sndLen: 0, rcvLen: 0 });
    moment.endSec = endSec;
    moment.endNs = endNs;
    for (let group = head + 1; group < to; ) {
      this.clear();
      this.clearSocket();
      group = this.pairs(bytes, group) + 1;
      this.#setMoment();
      if (line.sndLen > 0) moment.sndLen += line.sndLen;
      if (line.rcvLen > 0) moment.rcvLen += line.rcvLen;
      this.#visitor.socketQueues(line);
    }
    this.clearSocket();
    this.lines++;
    return next;
  }

  /** Tells of the moment of buffer statistics whose lines have been read; call after the last line. */
  finish(): void {
    const { line } = this;
    const moment = this.#moment;
    if (!moment.open) return;
    moment.open = false;
    this.clear();
    this.#setMoment();
    line.sndLen = moment.sndLen;
    line.rcvLen = moment.rcvLen;
    this.#visitor.queues(line);
  }

  #setMoment(): void {
    const moment = this.#moment;
    this.startSec = moment.startSec;
    this.startNs = moment.startNs;
    this.endSec = moment.endSec;
    this.endNs = moment.endNs;
    this.setTimes();
  }

  #textLine(bytes: Uint8Array, at: number, kind: "books" | "loss" | "meta"): number {
    const newline = bytes.indexOf(NEWLINE, at);
    const to = bytes[newline - 1] === RETURN ? newline - 1 : newline;
    if (to - at > TEXT_BYTES_MOST || bytes[to - 1] !== SEMICOLON) return at;
    this.finish();
    this.clear();
    // Both come first; a sum behind them may be greater than what a pair holds.
    this.pairs(bytes, bytes.indexOf(SEMICOLON, at) + 1);
    const timed = this.seen === 3;
    const { line } = this;
    const text = new TextDecoder().decode(bytes.subarray(at, to));
    if (!(kind === "meta" ? this.choices.add(text) : this.#visitor.text(kind, text, line))) return at;
    if (timed) this.setTimes();
    this.lines++;
    return newline + 1;
  }

  /** `<start> KQTIME-OUT|KQTIME-IN|KQLEN-OUT|KQLEN-IN <value>`. */
  #parsedLine(bytes: Uint8Array, at: number): number {
    this.clear();
    const { line } = this;
    let to = this.number(bytes, at);
    if (to < 0 || bytes[to] !== SPACE || !this.isMoment(bytes, at)) return at;
    this.startSec = this.value;
    this.startNs = this.fractionNs;
    if (!this.based) line.baseSec = this.startSec;
    const kind = four(bytes, to + 1);
    if (kind !== Key.KQTI && kind !== Key.KQLE) return at;
    const from = to + (kind === Key.KQTI ? 8 : 7);
    if (!starts(bytes, to + 5, kind === Key.KQTI ? "ME-" : "N-")) return at;
    const out = starts(bytes, from, "OUT ");
    if (!out && !starts(bytes, from, "IN ")) return at;
    const digits = from + (out ? 4 : 3);
    to = this.number(bytes, digits);
    if (to < 0) return at;
    let value = this.value + this.fractionNs / 1e9;
    if (bytes[to] === LETTER_E) {
      // Python writes what is below 0.0001 so.
      const { exponent, end } = exponentAt(bytes, to + 1);
      value *= 10 ** exponent;
      to = end;
    }
    if (!(value < (kind === Key.KQTI ? WAIT_LIMIT_MS : NUMBER_LIMIT))) return at;
    if (bytes[digits] === MINUS) value = -value;
    const next = endOfLine(bytes, to);
    if (next < 0) return at;
    this.endSec = this.startSec;
    this.endNs = this.startNs;
    this.setTimes();
    line.parsed = true;
    line.direction = out ? Direction.Out : Direction.In;
    this.lines++;
    if (kind === Key.KQTI) {
      line.waitNs = Math.round(value * 1e6);
      line.endNs = line.startNs + line.waitNs;
      const endNs = line.startFractionNs + line.waitNs;
      line.endSec = line.startSec + Math.floor(endNs / 1e9);
      line.endFractionNs = endNs - Math.floor(endNs / 1e9) * 1e9;
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

  /** Behind a line that was not read: where another one begins in its middle, or the next line. */
  #recover(bytes: Uint8Array, from: number, limit: number): number {
    let newline = bytes.indexOf(NEWLINE, from);
    if (newline < 0 || newline >= limit) newline = limit - 1;
    if (isForeign(bytes, from, newline)) {
      this.unknown++;
      this.foreign++;
      return newline + 1;
    }
    this.damaged++;
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
