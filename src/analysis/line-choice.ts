// Which calls of a run have lines in its log, where not all have (`--log-min`, `--log-sample`): the
// line KQTIME-META says so, and whoever reads the lines has to know it.

import { formatExact, formatTime } from "../output/units.ts";

export interface LineChoice {
  /** Only calls that waited at least so long, ns; 0: all. */
  readonly minWaitNs: number;
  /** One in so many of them; 1: all. */
  readonly oneIn: number;
}

/** `KQTIME-META;…,log_min_ns=N,log_sample=N,…;NULL;`. Null if it is damaged. */
export function parseLineChoice(text: string): LineChoice | null {
  const pairs = new Map(text.split(";")[1]?.split(",").map((pair) => pair.split("=") as [string, string]));
  const minWaitNs = Number(pairs.get("log_min_ns") ?? 0);
  const oneIn = Number(pairs.get("log_sample") ?? 1);
  return minWaitNs >= 0 && oneIn >= 1 ? { minWaitNs, oneIn } : null;
}

export function choiceText({ minWaitNs, oneIn }: LineChoice): string {
  const parts: string[] = [];
  if (oneIn > 1) parts.push(`one call in ${formatExact(oneIn)}`);
  if (minWaitNs > 0) parts.push(`${oneIn > 1 ? "of those" : "calls"} that waited ${formatTime(minWaitNs)} or more`);
  return (
    `it has lines only for ${parts.join(" ")}: what is made from lines is of these; the run's own books, ` +
    "at the end of its last log, are of all calls"
  );
}
