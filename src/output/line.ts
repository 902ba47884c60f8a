// Text of the log, written digit by digit into one buffer: at a million lines a second, strings
// would cost more than everything else that the collector does.

const ZERO = 48;
const MINUS = 45;
const DOT = 46;
/** The digits of 000 … 999: a division for every three digits instead of one for each. */
const GROUPS = new Uint8Array(3000);
for (let i = 0; i < 1000; i++) {
  GROUPS[i * 3] = ZERO + Math.floor(i / 100);
  GROUPS[i * 3 + 1] = ZERO + (Math.floor(i / 10) % 10);
  GROUPS[i * 3 + 2] = ZERO + (i % 10);
}

/** Ten digits, as from 2001 to 2286, and the dot. */
const SECOND_BYTES = 11;

/** The ASCII bytes of a literal, made once. */
export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** A fixed buffer with a cursor. The caller proves that what it writes fits. */
export class LineBuffer {
  readonly bytes: Uint8Array;
  length = 0;
  readonly baseSec: number;
  /** The seconds that were put last, and their text. */
  #second = NaN;
  readonly #secondText = new Uint8Array(SECOND_BYTES);

  constructor(capacityBytes: number, baseSec: number) {
    // First the ArrayBuffer, then the view: the memory must not move under libz.
    this.bytes = new Uint8Array(new ArrayBuffer(capacityBytes));
    this.baseSec = baseSec;
  }

  /** Bytes that still fit. */
  get room(): number {
    return this.bytes.length - this.length;
  }

  put(text: Uint8Array): void {
    const bytes = this.bytes;
    const count = text.length;
    let at = this.length;
    for (let i = 0; i < count; i++) bytes[at++] = text[i]!;
    this.length = at;
  }

  /**
   * A whole number, |value| < 2^53, in at most 17 bytes; greater ones, which sums of such can be, in
   * more. What is not a number becomes 0.
   */
  putInteger(value: number): void {
    if (!(value >= 0)) {
      if (!(value < 0)) {
        value = 0;
      } else {
        this.bytes[this.length++] = MINUS;
        value = -value;
      }
    }
    if (value < 1e9) {
      this.#putSmall(value >>> 0);
      return;
    }
    const upper = Math.floor(value / 1e9);
    if (upper < 1e9) this.#putSmall(upper);
    else this.putInteger(upper);
    // Of an inexact one it could be below zero, or have ten digits.
    this.#putNine(Math.min(Math.max(value - upper * 1e9, 0), 999_999_999));
  }

  /**
   * A time relative to the base as Unix seconds with nine decimals, rounded to whole nanoseconds,
   * in at most 21 bytes. What is not a number becomes the base itself.
   */
  putTime(relativeNs: number): void {
    let wholeNs = Math.round(relativeNs);
    if (!(wholeNs - wholeNs === 0)) wholeNs = 0;
    const sec = Math.floor(wholeNs / 1e9);
    const nsec = wholeNs - sec * 1e9;
    this.#putSecond(this.baseSec + sec);
    this.#putNine(nsec >>> 0);
  }

  /** Unix seconds and the dot behind them: as a rule those that were put last. */
  #putSecond(sec: number): void {
    const text = this.#secondText;
    if (sec === this.#second) {
      this.put(text);
      return;
    }
    const from = this.length;
    this.putInteger(sec);
    this.bytes[this.length++] = DOT;
    if (this.length - from !== text.length) return;
    for (let i = 0; i < text.length; i++) text[i] = this.bytes[from + i]!;
    this.#second = sec;
  }

  /** 0 … 2^32-1 without leading zeros. */
  #putSmall(value: number): void {
    if (value < 1000) {
      this.#putGroup(value);
    } else if (value < 1000000) {
      const upper = (value / 1000) >>> 0;
      this.#putGroup(upper);
      this.#putThree(value - upper * 1000);
    } else if (value < 1000000000) {
      const upper = (value / 1000000) >>> 0;
      const rest = value - upper * 1000000;
      const middle = (rest / 1000) >>> 0;
      this.#putGroup(upper);
      this.#putThree(middle);
      this.#putThree(rest - middle * 1000);
    } else {
      const upper = (value / 1000000000) >>> 0;
      this.bytes[this.length++] = ZERO + upper;
      this.#putNine(value - upper * 1000000000);
    }
  }

  /** 0 … 999,999,999 in exactly nine digits. */
  #putNine(value: number): void {
    const upper = (value / 1000000) >>> 0;
    const rest = value - upper * 1000000;
    const middle = (rest / 1000) >>> 0;
    this.#putThree(upper);
    this.#putThree(middle);
    this.#putThree(rest - middle * 1000);
  }

  /** 0 … 999 in exactly three digits. */
  #putThree(value: number): void {
    const bytes = this.bytes;
    const at = this.length;
    const from = value * 3;
    bytes[at] = GROUPS[from]!;
    bytes[at + 1] = GROUPS[from + 1]!;
    bytes[at + 2] = GROUPS[from + 2]!;
    this.length = at + 3;
  }

  /** 0 … 999 without leading zeros. */
  #putGroup(value: number): void {
    const bytes = this.bytes;
    let at = this.length;
    const from = value * 3;
    if (value >= 100) bytes[at++] = GROUPS[from]!;
    if (value >= 10) bytes[at++] = GROUPS[from + 1]!;
    bytes[at++] = GROUPS[from + 2]!;
    this.length = at;
  }
}
