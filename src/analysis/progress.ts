// How far reading has come, on a terminal and only there, from the second second on.

import { writeSync } from "node:fs";
import { formatBytes } from "../output/units.ts";
import type { Input } from "./input.ts";

const STDERR = 2;
const FIRST_MS = 1000;
const STEP_MS = 200;
const BAR_COLUMNS = 30;
const CLEAR_LINE = "\r\x1b[K";

export class Progress {
  readonly #began = performance.now();
  readonly #show: boolean;
  readonly #write: (text: string) => void;
  #next: number;
  #doneBytes = 0;
  #shown = false;
  #last: Input | null = null;

  /** @param totalBytes of all inputs before decompression, 0 if that is not known */
  constructor(
    private readonly totalBytes: number,
    show = process.stderr.isTTY === true,
    write = (text: string) => void writeSync(STDERR, text),
  ) {
    this.#show = show;
    this.#write = write;
    this.#next = this.#began + FIRST_MS;
  }

  begin(input: Input): void {
    if (this.#last !== null) this.#doneBytes += this.#last.readBytes;
    this.#last = input;
  }

  step(input: Input): void {
    if (!this.#show) return;
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + STEP_MS;
    const bytes = this.#doneBytes + input.readBytes;
    const rate = `${formatBytes((bytes / (now - this.#began)) * 1000)}/s`;
    let text = `${formatBytes(bytes)} read, ${rate}`;
    if (this.totalBytes > 0) {
      const share = Math.min(1, bytes / this.totalBytes);
      const filled = Math.round(share * BAR_COLUMNS);
      const bar = "█".repeat(filled) + "░".repeat(BAR_COLUMNS - filled);
      text = `${bar} ${Math.floor(share * 100)} % of ${formatBytes(this.totalBytes)}, ${rate}`;
    }
    this.#put(CLEAR_LINE + text);
    this.#shown = true;
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#shown) this.#put(CLEAR_LINE);
    this.#shown = false;
  }

  #put(text: string): void {
    try {
      this.#write(text);
    } catch {
      // A terminal that is gone: nobody looks.
    }
  }
}
