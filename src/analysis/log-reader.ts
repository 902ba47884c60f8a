// Reads logs from their first byte to their last and tells a visitor of each line. Memory is one
// buffer, as long as the longest line that is accepted; what is longer is damaged.
//
//     const result = readLogs(["kqtime.log.gz", "-"], visitor);
//     for (const problem of result.problems) warn(problem);

import { KQTimeError } from "../errors.ts";
import { formatExact } from "../output/units.ts";
import { Input } from "./input.ts";
import { choiceText, type LineChoice } from "./line-choice.ts";
import type { LogVisitor } from "./log-line.ts";
import { LogScanner } from "./log-scanner.ts";
import type { Progress } from "./progress.ts";

const BUFFER_BYTES = 1 << 20;
/** Room that a read gets at least. */
const ROOM_BYTES = 1 << 16;
/** A KQTIME-STATS line holds a group for every socket: some 100,000 fit. */
const LINE_BYTES_MOST = 1 << 24;
const NEWLINE = 10;

export interface ReadResult {
  /** Unix seconds that all times given to the visitor were relative to. */
  readonly baseSec: number;
  /** Start of the first line, relative to it. */
  readonly logStartNs: number;
  /** Lines understood. */
  readonly lines: number;
  readonly damaged: number;
  /** Lines of kinds that this version does not know, and those of other programs. */
  readonly unknown: number;
  /** Of the unknown lines, those of other programs. */
  readonly foreign: number;
  /** Bytes of text. */
  readonly textBytes: number;
  /** Which calls have lines, where not all have. */
  readonly lineChoices: readonly LineChoice[];
  /** Sentences for the user: what was damaged, cut or skipped. */
  readonly problems: string[];
}

export interface ReadOptions {
  /** Told of every read. */
  readonly progress?: Progress | undefined;
  /** Called before each input's first line. */
  readonly onInput?: ((name: string) => void) | undefined;
  /** Asked after every buffer: true ends the reading (nobody takes the result any more). */
  readonly stop?: (() => boolean) | undefined;
}

/**
 * Reads `paths` one after another; `-`, or no path at all, is standard input.
 * @throws KQTimeError `E_INPUT` if one cannot be read, or holds lines but none of a log
 */
export function readLogs(
  paths: readonly string[],
  visitor: LogVisitor,
  options: ReadOptions = {},
): ReadResult {
  const scanner = new LogScanner(visitor);
  const reader = new Reader(scanner, options);
  const problems: string[] = [];
  /** With the inputs that have it: the files of a rotated log all do. */
  const choices = new Map<string, { choice: LineChoice; inputs: string[] }>();
  for (const path of paths.length === 0 ? ["-"] : paths) {
    const { lines, damaged, unknown, foreign } = scanner;
    const input = new Input(path);
    try {
      options.onInput?.(input.name);
      reader.read(input);
      scanner.finish();
    } finally {
      input.close();
    }
    problems.push(...input.problems);
    const found = scanner.lines - lines;
    const bad = scanner.damaged - damaged;
    const others = scanner.foreign - foreign;
    const later = scanner.unknown - unknown - others;
    if (found === 0 && later === 0 && bad + others > 0) {
      throw new KQTimeError(
        "E_INPUT",
        "read",
        `${input.name} holds no line of a kqtime log: name a log of kqtime run --log, or what ` +
          "kqtime parse made of one",
      );
    }
    for (const choice of scanner.choices.take()) {
      const key = `${choice.minWaitNs} ${choice.oneIn}`;
      const same = choices.get(key);
      if (same === undefined) choices.set(key, { choice, inputs: [input.name] });
      else same.inputs.push(input.name);
    }
    if (bad > 0) {
      problems.push(`${input.name}: ${lineCount(bad)} damaged and skipped, ${formatExact(found)} read`);
    }
    if (later > 0) {
      const more = `${lineCount(later)} of a kind that this version does not know`;
      problems.push(`${input.name}: ${more}; skipped`);
    }
    if (others > 0) problems.push(`${input.name}: ${lineCount(others)} unknown, not kqtime's; skipped`);
    if (options.stop?.() === true) break;
  }
  for (const { choice, inputs } of choices.values()) {
    const more = inputs.length > 1 ? ` and ${formatExact(inputs.length - 1)} more` : "";
    problems.push(`${inputs[0]}${more}: ${choiceText(choice)}`);
  }
  options.progress?.end();
  return {
    baseSec: scanner.line.baseSec,
    logStartNs: scanner.line.logStartNs,
    lines: scanner.lines,
    damaged: scanner.damaged,
    unknown: scanner.unknown,
    foreign: scanner.foreign,
    textBytes: reader.textBytes,
    lineChoices: [...choices.values()].map(({ choice }) => choice),
    problems,
  };
}

function lineCount(count: number): string {
  return count === 1 ? "1 line" : `${formatExact(count)} lines`;
}

class Reader {
  textBytes = 0;
  // First the ArrayBuffer, then the view: the memory must not move under a library.
  #buffer = new Uint8Array(new ArrayBuffer(BUFFER_BYTES));

  constructor(
    private readonly scanner: LogScanner,
    private readonly options: ReadOptions,
  ) {}

  read(input: Input): void {
    const { progress, stop } = this.options;
    // The part of a line that waits for its rest: `buffer[0 … held)`.
    let held = 0;
    /** Within a line that is longer than any: it is skipped to its end. */
    let skipping = false;
    progress?.begin(input);
    for (;;) {
      if (this.#buffer.length - held < ROOM_BYTES) {
        if (this.#buffer.length >= LINE_BYTES_MOST) {
          if (!skipping) this.scanner.damaged++;
          skipping = true;
          held = 0;
        } else {
          const longer = new Uint8Array(new ArrayBuffer(this.#buffer.length * 2));
          longer.set(this.#buffer.subarray(0, held));
          this.#buffer = longer;
        }
      }
      const buffer = this.#buffer;
      // One byte stays free for the newline that a last line may lack.
      const count = input.read(buffer, held, buffer.length - held - 1);
      this.textBytes += count;
      progress?.step(input);
      let end = held + count;
      if (count === 0) {
        if (held === 0) return;
        buffer[end++] = NEWLINE;
      }
      const newline = buffer.lastIndexOf(NEWLINE, end - 1);
      // Nothing held has one, so that no byte is looked at twice.
      if (newline < held) {
        held = skipping ? 0 : end;
        continue;
      }
      let from = 0;
      if (skipping) {
        from = buffer.indexOf(NEWLINE) + 1;
        skipping = false;
      }
      this.scanner.scan(buffer, from, newline + 1);
      held = end - newline - 1;
      if (held > 0) buffer.copyWithin(0, newline + 1, end);
      if (count === 0 || stop?.() === true) return;
    }
  }
}
