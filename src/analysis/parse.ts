// A log as the ancestor's parser printed it: a line a sample, `<start> KIND <value>`, the start in
// Unix seconds with six decimals. KQTIME-OUT and KQTIME-IN: ms in the kernel. KQLEN-OUT and KQLEN-IN:
// bytes in all send queues, in all receive queues. Values are exact where the ancestor's had twelve
// digits of a floating-point difference.

import { ascii, type LineBuffer } from "../output/line.ts";
import { Direction, type LogLine, type LogVisitor } from "./log-line.ts";
import type { TextOutput } from "./text-output.ts";

const ZERO = 48;
const DOT = 46;
const MINUS = 45;
const NEWLINE = 10;
const KINDS = [ascii(" KQTIME-OUT "), ascii(" KQTIME-IN ")];
const QUEUES = [ascii(" KQLEN-OUT "), ascii(" KQLEN-IN ")];
/** Two lines of at most 17 + 7, 12 and 17 + 8 bytes, with room to spare. */
const LINES_BYTES = 256;

export class ParsedOutput implements LogVisitor {
  samples = 0;

  constructor(private readonly output: TextOutput) {}

  call(line: LogLine): void {
    this.output.room(LINES_BYTES);
    const { text } = this.output;
    putStart(text, line);
    text.put(KINDS[line.direction]!);
    putDecimal(text, line.waitNs);
    this.samples++;
  }

  queues(line: LogLine): void {
    this.output.room(LINES_BYTES);
    if (line.sndLen >= 0) this.#length(line, Direction.Out, line.sndLen);
    if (line.rcvLen >= 0) this.#length(line, Direction.In, line.rcvLen);
  }

  miss(): void {}

  socketQueues(): void {}

  text(): boolean {
    return true;
  }

  #length(line: LogLine, direction: Direction, bytes: number): void {
    const { text } = this.output;
    putStart(text, line);
    text.put(QUEUES[direction]!);
    putDecimal(text, bytes * 1e6);
    this.samples++;
  }
}

/** Unix seconds, rounded to six decimals. */
function putStart(text: LineBuffer, line: LogLine): void {
  let sec = line.startSec;
  let micro = Math.floor((line.startFractionNs + 500) / 1000);
  if (micro === 1e6) {
    micro = 0;
    sec++;
  }
  text.putInteger(sec);
  putSix(text, micro);
}

/** Millionths as a decimal with one digit or more behind the point, and a newline. */
function putDecimal(text: LineBuffer, millionths: number): void {
  let value = millionths;
  if (value < 0) {
    text.bytes[text.length++] = MINUS;
    value = -value;
  }
  const whole = Math.floor(value / 1e6);
  text.putInteger(whole);
  putSix(text, value - whole * 1e6);
  const first = text.length - 5;
  while (text.length > first && text.bytes[text.length - 1] === ZERO) text.length--;
  text.bytes[text.length++] = NEWLINE;
}

/** A point and six digits. */
function putSix(text: LineBuffer, value: number): void {
  const { bytes } = text;
  const at = text.length;
  let rest = value | 0;
  for (let place = 6; place > 0; place--) {
    const tenth = (rest / 10) | 0;
    bytes[at + place] = ZERO + rest - tenth * 10;
    rest = tenth;
  }
  bytes[at] = DOT;
  text.length = at + 7;
}
