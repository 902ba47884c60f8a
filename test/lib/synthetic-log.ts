// A log made up from a seed, as long as wanted: what the tools are tested and timed with.

import { LineBuffer, ascii } from "../../src/output/line.ts";

const OUT = ascii("KQTIME-OUT;start=");
const IN = ascii("KQTIME-IN;start=");
const END = ascii(",end=");
const FD = ascii(",fd=");
const BYTES = ascii(",bytes=");
const FIRST = ascii(",first=");
const INORDER = ascii(",inorder=");
const OFF = ascii(",off=");
const PID = ascii(",pid=4242,sock=");
const LPORT = ascii(",lport=");
const RPORT = ascii(",rport=443;out:443;\n");

/** A generator of 32-bit numbers (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/**
 * Lines of calls, one in three inbound, 20 µs apart from Unix second `baseSec` on; times in the
 * kernel of 10 µs to 1 s, log-uniform. `fill` puts as many whole lines into `text` as fit.
 */
export class SyntheticLog {
  lines = 0;
  readonly #next: () => number;
  #nowNs = 0;

  constructor(seed: number) {
    this.#next = random(seed);
  }

  fill(text: LineBuffer): void {
    while (text.room >= 512) this.#line(text);
  }

  #line(text: LineBuffer): void {
    const next = this.#next;
    this.#nowNs += 20000;
    const waitNs = Math.round(1e4 * 10 ** ((next() / 2 ** 32) * 5));
    const outbound = next() % 3 !== 0;
    const endNs = this.#nowNs + waitNs;
    text.put(outbound ? OUT : IN);
    text.putTime(this.#nowNs);
    text.put(END);
    text.putTime(endNs);
    text.put(FD);
    text.putInteger(3 + (next() % 60));
    text.put(BYTES);
    text.putInteger(1 + (next() % 65536));
    text.put(FIRST);
    text.putTime(outbound ? this.#nowNs + Math.round(waitNs / 2) : this.#nowNs);
    if (!outbound) {
      text.put(INORDER);
      text.putTime(this.#nowNs);
    }
    text.put(OFF);
    text.putInteger(this.lines * 1000);
    text.put(PID);
    text.putInteger(1 + (next() % 100));
    text.put(LPORT);
    text.putInteger(32768 + (next() % 28000));
    text.put(RPORT);
    this.lines++;
  }
}
