// The file of the intervals: one summary a line, as JSON, appended. It is opened as the log is, and
// like the log it goes on in a new file where another program has moved the old one away.

import { Patience } from "./patience.ts";
import { FileSink } from "./sink.ts";
import type { Summary } from "./summary.ts";

export class IntervalLog {
  readonly #sink: FileSink;
  readonly #onError: (message: string) => void;
  #isTorn: boolean;
  #lost = 0;

  /** @throws KQTimeError `E_LOG` */
  constructor(path: string, onError: (message: string) => void, patience = new Patience()) {
    this.#sink = FileSink.open(path, onError, patience, "interval log");
    this.#onError = onError;
    this.#isTorn = this.#sink.endsInLine;
  }

  /** Of the file, as in `OpenedFile`. */
  get identity(): string | null {
    return this.#sink.identity;
  }

  write(summary: Summary): void {
    const sink = this.#sink;
    if (sink.follow(() => true)) this.#isTorn = sink.endsInLine;
    sink.retry();
    if (sink.blocked) {
      this.#lost++;
      return;
    }
    const line = new TextEncoder().encode(`${this.#isTorn ? "\n" : ""}${JSON.stringify(summary)}\n`);
    this.#isTorn = false;
    sink.write(line, line.length, 1);
  }

  /** As `close`; a file that was made for nothing is taken away. */
  discard(): void {
    this.close();
    this.#sink.removeEmpty();
  }

  close(): void {
    this.#lost += this.#sink.close();
    if (this.#lost > 0) this.#onError(`${this.#lost} lines of the interval log were not written`);
  }
}
