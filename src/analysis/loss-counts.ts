// What was lost on the way, as the KQTIME-LOSS lines of an input tell it. Several logs may be of one
// session, each with what that had lost until the log's end: it counts once. Logs of earlier versions do
// not tell their session; each counts.

import { LOSS_KEYS } from "../output/losses.ts";
import type { Losses } from "../output/summary.ts";

/** As they are written. */
const TIME = /^\d{1,10}(\.\d{1,9})?$/;
const COUNT = /^(0|[1-9]\d*)$/;

/** Sessions that are told apart; a damaged log can have any number. */
const SESSIONS_MOST = 4096;

export class LossCounts {
  /** Whether the input tells it at all. */
  isKnown = false;
  /** Of the line that was added last, as it was written: the run's start and end. */
  start = "";
  end = "";
  /** The sums over the input. */
  readonly sums = noLosses();
  /** What is in the sums of each session. */
  readonly #sessions = new Map<number, Losses>();

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
    const known = this.#knownOf(Number(found.get("session") ?? 0));
    LOSS_KEYS.forEach((key, i) => {
      const before = key === "logLines" ? 0 : known[key];
      known[key] = Math.max(before, counts[i]!);
      this.sums[key] += known[key] - before;
    });
    this.start = found.get("start") ?? "";
    this.end = found.get("end") ?? "";
    this.isKnown = true;
    return true;
  }

  #knownOf(session: number): Losses {
    const known = this.#sessions.get(session);
    if (known !== undefined) return known;
    const none = noLosses();
    if (session > 0 && this.#sessions.size < SESSIONS_MOST) this.#sessions.set(session, none);
    return none;
  }
}

function noLosses(): Losses {
  return Object.fromEntries(LOSS_KEYS.map((key) => [key, 0])) as unknown as Losses;
}
