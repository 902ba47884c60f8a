// Which calls of a run have lines in its log, where not all have (`--log-min`, `--log-sample`): the
// line KQTIME-META says so, and whoever reads the lines has to know it.

import { formatExact, formatTime } from "../output/units.ts";

export interface LineChoice {
  /** Only calls that waited at least so long, ns; 0: all. */
  readonly minWaitNs: number;
  /** One in so many of them; 1: all. */
  readonly oneIn: number;
}

/** As they are written. */
const COUNT = /^(0|[1-9]\d*)$/;

/** What a damaged log can make of it stays within bounds. */
const CHOICES_MOST = 16;

/** Those of an input, as its KQTIME-META lines tell them. */
export class LineChoices {
  /** Each part of an appended log has one, mostly the same. */
  readonly #found = new Map<string, LineChoice>();

  /** @param text `KQTIME-META;…,log_min_ns=N,log_sample=N,…;NULL;`. False: damaged */
  add(text: string): boolean {
    const words = text.split(";")[1]?.split(",").map((pair) => pair.split("=") as [string, string]);
    const pairs = new Map(words);
    const counts = [pairs.get("log_min_ns") ?? "0", pairs.get("log_sample") ?? "1"];
    const [minWaitNs, oneIn] = counts.map(Number) as [number, number];
    if (!counts.every((count) => COUNT.test(count)) || oneIn < 1) return false;
    if (![minWaitNs, oneIn].every(Number.isSafeInteger)) return false;
    if ((minWaitNs > 0 || oneIn > 1) && this.#found.size < CHOICES_MOST) {
      this.#found.set(`${minWaitNs} ${oneIn}`, { minWaitNs, oneIn });
    }
    return true;
  }

  /** Those since the last time. */
  take(): LineChoice[] {
    const found = [...this.#found.values()];
    this.#found.clear();
    return found;
  }
}

/** `one in 10 of the calls that waited 1.00 ms or more`. */
export function chosenCalls({ minWaitNs, oneIn }: LineChoice): string {
  const share = oneIn > 1 ? `one in ${formatExact(oneIn)} of the ` : "";
  const waited = minWaitNs > 0 ? ` that waited ${formatTime(minWaitNs)} or more` : "";
  return `${share}calls${waited}`;
}

export function choiceText(choice: LineChoice): string {
  return (
    `lines only for ${chosenCalls(choice)}: what is made from lines is of these; the run's ` +
    "own books, at the end of its last log, are of all calls"
  );
}
