// A window of a log's time. What `+30s` means is known when the log's first line has been read.

import type { LogLine } from "./log-line.ts";
import { type Moment, momentNs } from "./moments.ts";

export class Window {
  #begun = false;
  #sinceNs = Number.NEGATIVE_INFINITY;
  #untilNs = Number.POSITIVE_INFINITY;

  constructor(
    readonly since: Moment | null,
    readonly until: Moment | null,
  ) {}

  /** There is none: all of the log is meant. */
  get whole(): boolean {
    return this.since === null && this.until === null;
  }

  /** Whether `timeNs`, relative to the line's base, is within. */
  holds(line: LogLine, timeNs: number): boolean {
    if (!this.#begun) {
      this.#begun = true;
      if (this.since !== null) this.#sinceNs = boundNs(this.since, line);
      if (this.until !== null) this.#untilNs = boundNs(this.until, line);
    }
    return timeNs >= this.#sinceNs && timeNs < this.#untilNs;
  }
}

function boundNs(moment: Moment, { baseSec, logStartNs }: LogLine): number {
  return momentNs(moment, baseSec, logStartNs);
}
