// Processes that the target started and that the preload library did not get into: a cleared
// environment, a static or setuid program, another libc. They leave no trace in any ring, so that
// without this look a measurement could be blind and seem complete.

import { readFileSync } from "node:fs";

/** A process younger than this may not have a ring yet, or may be about to exec. */
const GRACE_MS = 80;
/** On a busy machine it may even be loading, or in the library's constructor, for as long as this. */
const PATIENCE_MS = 3000;
const INTERPRETER = /\/ld(-[^/\n]*)?\.so[^/\n]*$/m;
/** Linked after what is preloaded. */
const LIBC = /\/libc[.-][^/\n]*$/m;
const LAUNCHER = "kqtime-launch";
const PRELOAD = "/libkqtime-preload.so";
const NAMES_SHOWN = 5;
/** Names that are told apart: a program may give itself any number of them. */
const NAMES_MOST = 64;

export class Bystanders {
  /** First seen, ms; -1 once it is judged. */
  readonly #seen = new Map<number, number>();
  readonly #names = new Set<string>();
  #count = 0;

  /** Looks at `root` and all its descendants, at each once when it is old enough. */
  look(root: number, nowMs: number): void {
    const stack = [root];
    const present = new Set<number>();
    for (let pid = stack.pop(); pid !== undefined; pid = stack.pop()) {
      if (present.has(pid)) continue;
      present.add(pid);
      stack.push(...childrenOf(pid));
      const since = this.#seen.get(pid);
      if (since === undefined) this.#seen.set(pid, nowMs);
      else if (since >= 0 && nowMs - since >= GRACE_MS) this.#judge(pid, nowMs - since);
    }
    for (const pid of this.#seen.keys()) if (!present.has(pid)) this.#seen.delete(pid);
  }

  /** One sentence about what was found, or null. */
  warning(): string | null {
    const count = this.#count;
    if (count === 0) return null;
    const names = [...this.#names];
    const listed = names.slice(0, NAMES_SHOWN).join(", ") + (names.length > NAMES_SHOWN ? ", …" : "");
    return (
      `${count} process${count === 1 ? "" : "es"} of the command ran without the preload library ` +
      `(${listed}) and ${count === 1 ? "is" : "are"} not measured: a cleared environment, ` +
      "a static or setuid program, or sudo"
    );
  }

  #judge(pid: number, ageMs: number): void {
    try {
      const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
      // Its own ring, or the one that it shares with its parent. A process that has ended, but was
      // not waited for, has no memory.
      const isKnown = maps === "" || maps.includes("/memfd:kqtime");
      if (!isKnown && ageMs < PATIENCE_MS && isStarting(maps)) return;
      this.#seen.set(pid, -1);
      if (isKnown) return;
      const name = readFileSync(`/proc/${pid}/comm`, "latin1").trim().replace(/[^\x21-\x7e]/g, "?");
      this.#count++;
      if (this.#names.size < NAMES_MOST) this.#names.add(name);
    } catch {
      // It ended, or is another user's.
      this.#seen.set(pid, -1);
    }
  }
}

/** Of a process without a ring: whether it may have one yet. */
function isStarting(maps: string): boolean {
  if (maps.includes(PRELOAD) || maps.includes(LAUNCHER)) return true;
  return INTERPRETER.test(maps) && !LIBC.test(maps);
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}
