// What was lost on the way, as the KQTIME-LOSS lines of an input tell it.

import { LOSS_KEYS } from "../output/losses.ts";
import type { Losses } from "../output/summary.ts";

export class LossCounts {
  readonly #counts = new Map<string, number>();

  /** Whether the input tells it at all. */
  get isKnown(): boolean {
    return this.#counts.size > 0;
  }

  /** @param text `KQTIME-LOSS;start=…,end=…,key=N,…;`: what was lost up to there. False: damaged */
  add(text: string): boolean {
    const pairs = text.split(";")[1];
    if (pairs === undefined) return false;
    for (const pair of pairs.split(",")) {
      const parts = pair.match(/^(\w+)=(-?\d+(?:\.\d+)?)$/);
      if (parts === null) return false;
      const key = parts[1]!;
      if (key !== "start" && key !== "end") {
        this.#counts.set(key, (this.#counts.get(key) ?? 0) + Number(parts[2]));
      }
    }
    return true;
  }

  /** The sums over the input. */
  get sums(): Losses {
    const of = (key: keyof Losses): number => this.#counts.get(key) ?? 0;
    return Object.fromEntries(LOSS_KEYS.map((key) => [key, of(key)])) as unknown as Losses;
  }
}
