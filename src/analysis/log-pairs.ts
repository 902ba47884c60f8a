// The pairs of a log's line, `key=number,…;`, read where they stand into the one `LogLine`. They are
// apart from the lines that hold them (log-scanner.ts) as the hot part of reading.

import { COMMA, DOT, EQUALS, MINUS, NINE, SEMICOLON, ZERO } from "./log-bytes.ts";
import * as Key from "./log-keys.ts";
import { ABSENT, Direction, LogLine } from "./log-line.ts";

/**
 * No number of a log's is greater, for all are exact; nor is a moment (year 2242), so that ns of it
 * fit 64 bits.
 */
export const NUMBER_LIMIT = 2 ** 53;
const SECONDS_LIMIT = 2 ** 33;

const PORT_MOST = 65535;

const POWERS = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1];

export class PairReader {
  readonly line = new LogLine();
  protected based = false;
  /** Of the number read last: its whole part, and the digits behind the point, as ns. */
  protected value = 0;
  protected fractionNs = 0;
  /** Without such digits. */
  protected isWhole = true;
  /** Of the pairs read last. */
  protected startSec = 0;
  protected startNs = 0;
  protected endSec = 0;
  protected endNs = 0;
  protected seen = 0;

  protected clear(): void {
    const { line } = this;
    this.seen = 0;
    line.direction = Direction.Out;
    line.firstNs = Number.NaN;
    line.inorderNs = Number.NaN;
    line.fd = line.bytes = line.off = line.pid = line.sock = line.lport = line.rport = ABSENT;
    line.reason = line.sndLen = line.rcvLen = line.sndSize = line.rcvSize = ABSENT;
    line.nameFrom = line.nameTo = 0;
  }

  /** What only KQTIME-STATS has. */
  protected clearSocket(): void {
    const { line } = this;
    line.unsent = line.sndAgeNs = line.rcvAgeNs = ABSENT;
    line.rttUs = line.rttvarUs = line.minRttUs = line.mss = line.cwnd = ABSENT;
    line.deliveryBytesPerSec = line.busyUs = line.rwndLimitedUs = line.sndbufLimitedUs = ABSENT;
    line.retrans = ABSENT;
  }

  protected setTimes(): void {
    const { line } = this;
    line.startSec = this.startSec;
    line.startFractionNs = this.startNs;
    line.startNs = (this.startSec - line.baseSec) * 1e9 + this.startNs;
    if (!this.based) line.logStartNs = line.startNs;
    this.based = true;
    line.endSec = this.endSec;
    line.endFractionNs = this.endNs;
    line.endNs = (this.endSec - line.baseSec) * 1e9 + this.endNs;
    line.waitNs = (this.endSec - this.startSec) * 1e9 + (this.endNs - this.startNs);
  }

  /** Digits, maybe with a sign before and a fraction behind; where they end, or -1. */
  protected number(bytes: Uint8Array, from: number): number {
    let at = from;
    if (bytes[at] === MINUS) at++;
    const first = at;
    let value = 0;
    let c = bytes[at]!;
    while (c >= ZERO && c <= NINE) {
      value = value * 10 + (c - ZERO);
      c = bytes[++at]!;
    }
    if (at === first || !(value < NUMBER_LIMIT)) return -1;
    let fraction = 0;
    this.isWhole = c !== DOT;
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
    this.value = value;
    this.fractionNs = fraction;
    return at;
  }

  /** Whether the number read last, whose digits begin at `from`, can be Unix seconds. */
  protected isMoment(bytes: Uint8Array, from: number): boolean {
    return this.value < SECONDS_LIMIT && bytes[from] !== MINUS;
  }

  /** `key=number,…;`: fills the line; returns where its `;` stands, or -1. */
  protected pairs(bytes: Uint8Array, from: number): number {
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
      at = this.number(bytes, digits);
      if (at < 0) return -1;
      const value = bytes[digits] === MINUS ? -this.value : this.value;
      known: if (length <= Key.KEY_MOST) {
        switch (a) {
          case Key.START:
            if (b !== Key.START_TAIL) break known;
            if (!this.isMoment(bytes, digits)) return -1;
            this.startSec = value;
            this.startNs = this.fractionNs;
            if (!this.based) line.baseSec = value;
            this.seen |= 1;
            break known;
          case Key.END:
            if (length !== 3) break known;
            if (!this.isMoment(bytes, digits)) return -1;
            this.endSec = value;
            this.endNs = this.fractionNs;
            this.seen |= 2;
            break known;
          case Key.FIRST:
            if (b !== Key.FIRST_TAIL) break known;
            if (!this.isMoment(bytes, digits)) return -1;
            line.firstSec = value;
            line.firstFractionNs = this.fractionNs;
            line.firstNs = (value - line.baseSec) * 1e9 + this.fractionNs;
            break known;
          case Key.INORDER:
            if (b !== Key.INORDER_TAIL) break known;
            if (!this.isMoment(bytes, digits)) return -1;
            line.inorderSec = value;
            line.inorderFractionNs = this.fractionNs;
            line.inorderNs = (value - line.baseSec) * 1e9 + this.fractionNs;
            break known;
          case Key.FD:
            line.fd = value;
            // Of a call whose descriptor is not known.
            if (value === -1 && this.isWhole) break known;
            break;
          case Key.BYTES:
            if (b !== Key.BYTES_TAIL) break known;
            line.bytes = value;
            break;
          case Key.OFF:
            line.off = value;
            break;
          case Key.PID:
            line.pid = value;
            break;
          case Key.SOCK:
            if (b !== 0) break known;
            line.sock = value;
            break;
          case Key.LPORT:
            if (b !== Key.LPORT_TAIL) break known;
            if (value > PORT_MOST) return -1;
            line.lport = value;
            break;
          case Key.RPORT:
            if (b !== Key.RPORT_TAIL) break known;
            if (value > PORT_MOST) return -1;
            line.rport = value;
            break;
          case Key.DIR:
            if (value > 1) return -1;
            line.direction = value === 1 ? Direction.In : Direction.Out;
            break;
          case Key.REASON:
            if (b !== Key.REASON_TAIL) break known;
            line.reason = value;
            break;
          case Key.SND:
            if (b === Key.LEN_TAIL) line.sndLen = value;
            else if (b === Key.SIZE_TAIL) line.sndSize = value;
            else if (b === Key.AGE_TAIL && length === Key.AGE_LENGTH) line.sndAgeNs = value;
            else break known;
            break;
          case Key.RCV:
            if (b === Key.LEN_TAIL) line.rcvLen = value;
            else if (b === Key.SIZE_TAIL) line.rcvSize = value;
            else if (b === Key.AGE_TAIL && length === Key.AGE_LENGTH) line.rcvAgeNs = value;
            else break known;
            break;
          case Key.UNSENT:
            if (b !== Key.UNSENT_TAIL) break known;
            line.unsent = value;
            break;
          case Key.RTT:
            if (b !== Key.RTT_TAIL) break known;
            line.rttUs = value;
            break;
          case Key.RTTVAR:
            if (b !== Key.RTTVAR_TAIL) break known;
            line.rttvarUs = value;
            break;
          case Key.MIN_RTT:
            if (b !== Key.MIN_RTT_TAIL) break known;
            line.minRttUs = value;
            break;
          case Key.MSS:
            line.mss = value;
            break;
          case Key.BUSY:
            if (b !== Key.BUSY_TAIL) break known;
            line.busyUs = value;
            break;
          case Key.RWND:
            if (b !== Key.LIMITED_TAIL) break known;
            line.rwndLimitedUs = value;
            break;
          case Key.SNDBUF:
            if (b !== Key.LIMITED_TAIL) break known;
            line.sndbufLimitedUs = value;
            break;
          case Key.CWND:
            if (b !== 0) break known;
            line.cwnd = value;
            break;
          case Key.RETRANS:
            if (b !== Key.RETRANS_TAIL) break known;
            line.retrans = value;
            break;
          case Key.DELIVERY:
            if (b !== Key.DELIVERY_TAIL) break known;
            line.deliveryBytesPerSec = value;
            break;
          default:
            break known;
        }
        // A count: neither kqtime nor its ancestor writes any other number there.
        if (!this.isWhole || bytes[digits] === MINUS) return -1;
      }
      c = bytes[at]!;
      if (c === SEMICOLON) return at;
      if (c !== COMMA) return -1;
      at++;
    }
  }
}
