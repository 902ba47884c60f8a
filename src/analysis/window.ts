// A window of a log's time. What `+30s` means is known when the log's first line has been read.

import type { LogLine } from "./log-line.ts";
import { type Moment, momentNs } from "./moments.ts";

/** What has been read of a log knows where it begins. */
export type LogStart = Pick<LogLine, "baseSec" | "logStartNs">;

export class Window {
  #begun = false;
  #sinceNs = 0;
  #untilNs = 0;

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
      [this.#sinceNs, this.#untilNs] = this.boundsNs(line);
    }
    return timeNs >= this.#sinceNs && timeNs < this.#untilNs;
  }

  /** [since, until), relative to the log's base. */
  boundsNs({ baseSec, logStartNs }: LogStart): [number, number] {
    const { since, until } = this;
    return [
      since === null ? Number.NEGATIVE_INFINITY : momentNs(since, baseSec, logStartNs),
      until === null ? Number.POSITIVE_INFINITY : momentNs(until, baseSec, logStartNs),
    ];
  }
}
