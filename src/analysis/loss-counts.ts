// What was lost on the way, as the KQTIME-LOSS lines of an input tell it.

import { LOSS_KEYS } from "../output/losses.ts";
import type { Losses } from "../output/summary.ts";

/** As they are written. */
const TIME = /^\d{1,10}(\.\d{1,9})?$/;
const COUNT = /^(0|[1-9]\d*)$/;

export class LossCounts {
  /** Whether the input tells it at all. */
  isKnown = false;
  /** Of the line that was added last, as it was written: the run's start and end. */
  start = "";
  end = "";
  /** The sums over the input. */
  readonly sums = Object.fromEntries(LOSS_KEYS.map((key) => [key, 0])) as unknown as Losses;

  /** @param text `KQTIME-LOSS;start=…,end=…,key=N,…;`: what was lost up to there. False: damaged */
  add(text: string): boolean {
    const found = new Map<string, string>();
    for (const pair of text.split(";")[1]?.split(",") ?? []) {
      const parts = pair.match(/^(\w+)=(.+)$/);
      if (parts === null) return false;
      const isTime = parts[1] === "start" || parts[1] === "end";
      if (!(isTime ? TIME : COUNT).test(parts[2]!)) return false;
      found.set(parts[1]!, parts[2]!);
    }
    const counts = LOSS_KEYS.map((key) => Number(found.get(key) ?? 0));
    if (found.size === 0 || !counts.every(Number.isSafeInteger)) return false;
    // Only those that are known: others are without end.
    LOSS_KEYS.forEach((key, i) => (this.sums[key] += counts[i]!));
    this.start = found.get("start") ?? "";
    this.end = found.get("end") ?? "";
    this.isKnown = true;
    return true;
  }
}
