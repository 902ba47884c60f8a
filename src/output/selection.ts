// Which calls have a line in the log, where one of each would be too much: those that waited long
// enough, and of them one in N. The books and histograms do not know of it and stay exact.
//
// Each line is kept with the probability 1/N, whatever became of the others: so no rhythm of the
// traffic can meet one of the choice, and sums of the lines times N are unbiased. The generator is
// seeded, and the seed is in the log and in a recording, for the same choice in a replay.

import type { CallSink } from "../match/merge.ts";
import { timePairs } from "./books.ts";

export interface LineSelection {
  /** A call that waited for less has no line; 0: all have. */
  readonly minNs: number;
  /** One line in so many is written; 1: all are. */
  readonly sample: number;
  /** Of the generator; a u32. */
  readonly seed: number;
}

const STATES = 2 ** 32;

/**
 * Says yes once in `n` times, each time on its own. Drawn is how many times it says no before: a
 * chance of one in `n` itself would be a whole number of the generator's states, and few for a large
 * `n`. The generator is Marsaglia's xorshift of 128 bits: its period outlasts any measurement.
 */
export class Chance {
  #x: number;
  #y = 0x9e3779b9 | 0;
  #z = 0x243f6a88 | 0;
  #w = 0xb7e15162 | 0;
  readonly #logNo: number;
  #left: number;

  constructor(n: number, seed: number) {
    this.#x = seed | 0;
    this.#logNo = Math.log1p(-1 / n);
    // Seeds that are neighbours begin alike.
    for (let i = 0; i < 32; i++) this.#draw();
    this.#left = this.gap();
  }

  next(): boolean {
    if (this.#left > 0) {
      this.#left--;
      return false;
    }
    this.#left = this.gap();
    return true;
  }

  /** Draws a number of times to say no, from the geometric distribution. */
  gap(): number {
    return Math.floor(Math.log((this.#draw() + 0.5) / STATES) / this.#logNo);
  }

  #draw(): number {
    const t = this.#x ^ (this.#x << 11);
    this.#x = this.#y;
    this.#y = this.#z;
    this.#z = this.#w;
    this.#w = this.#w ^ (this.#w >>> 19) ^ t ^ (t >>> 8);
    return this.#w >>> 0;
  }
}

/** Lets the lines through that are to be written. */
export class SelectedLines implements CallSink {
  readonly #sink: CallSink;
  readonly #minNs: number;
  readonly #chance: Chance | null;

  constructor(sink: CallSink, { minNs, sample, seed }: LineSelection) {
    this.#sink = sink;
    this.#minNs = minNs;
    this.#chance = sample > 1 ? new Chance(sample, seed) : null;
  }

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
    if (endNs - startNs < this.#minNs || this.#chance?.next() === false) return;
    this.#sink.call(
      direction, startNs, endNs, firstNs, inorderNs, bytes, off, pid, fd, sock, lport, rport, name,
    );
  }

  /** How long such bytes waited is not known: where a least time is asked for, they have no line. */
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
    if (this.#minNs > 0 || this.#chance?.next() === false) return;
    this.#sink.miss(
      direction, startNs, endNs, bytes, off, pid, fd, sock, lport, rport, reason, name,
    );
  }
}

/** The KQTIME-META line, the first of such a log, so that nobody takes its lines for all calls. */
export function writeMeta(selection: LineSelection, startNs: number, baseSec: number): Uint8Array {
  const { minNs, sample, seed } = selection;
  const pairs = [
    timePairs(startNs, startNs, baseSec),
    `log_min_ns=${minNs}`,
    `log_sample=${sample}`,
    `log_seed=${seed}`,
  ];
  return new TextEncoder().encode(`KQTIME-META;${pairs.join(",")};NULL;\n`);
}
