// Processes that the target started and that the preload library did not get into: a cleared
// environment, a static or setuid program, another libc. They leave no trace in any ring, so that
// without this look a measurement could be blind and seem complete.

import { readdirSync, readFileSync } from "node:fs";

/** A process younger than this may be about to exec. */
const GRACE_MS = 80;
/** One that the library is in has a ring after this long, or never will. */
const LATE_MS = 2000;
/** How long one look lasts at the most; the next one goes on with it. */
const LOOK_MS = 2;
const NAMES_SHOWN = 5;
/** Names that are told apart: a program may give itself any number of them. */
const NAMES_MOST = 64;

interface Seen {
  readonly sinceMs: number;
  /** When it was looked at and seemed not to be measured; -1: never. */
  suspectMs: number;
  isJudged: boolean;
}

interface Thread {
  readonly pid: number;
  readonly tid: number;
}

export class Bystanders {
  readonly #seen = new Map<number, Seen>();
  readonly #names = new Set<string>();
  #count = 0;
  /** Processes of the present walk, and threads that it has yet to come to, each process's first one first. */
  readonly #present = new Set<number>();
  readonly #ahead: Thread[] = [];
  /** The last one that was made before that walk began. */
  #newest = "";
  #allJudged = false;

  /**
   * Looks at `root` and all its descendants, at each once when it is old enough: each walk over them is
   * as many looks as it takes, and there is none where no process was made since the last one.
   */
  look(root: number, nowMs: number): void {
    if (this.#ahead.length === 0 && !this.#begin(root)) return;
    const untilMs = performance.now() + LOOK_MS;
    const ahead = this.#ahead;
    const present = this.#present;
    for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
      const { pid, tid } = next;
      if (tid === pid) {
        if (present.has(pid)) continue;
        present.add(pid);
        for (const other of threadsOf(pid)) if (other !== pid) ahead.push({ pid, tid: other });
        this.#meet(pid, nowMs);
      }
      for (const child of childrenOf(next)) ahead.push({ pid: child, tid: child });
      if (performance.now() >= untilMs) break;
    }
    if (ahead.length === 0) this.#end();
  }

  /** False if nothing can have come since the last walk. */
  #begin(root: number): boolean {
    const newest = newestPid();
    if (this.#allJudged && newest !== "" && newest === this.#newest) return false;
    this.#newest = newest;
    this.#present.clear();
    this.#ahead.push({ pid: root, tid: root });
    return true;
  }

  #end(): void {
    this.#allJudged = true;
    for (const [pid, { isJudged }] of this.#seen) {
      if (!this.#present.has(pid)) this.#seen.delete(pid);
      else if (!isJudged) this.#allJudged = false;
    }
  }

  #meet(pid: number, nowMs: number): void {
    const seen = this.#seen.get(pid);
    if (seen === undefined) this.#seen.set(pid, { sinceMs: nowMs, suspectMs: -1, isJudged: false });
    else if (!seen.isJudged && nowMs - seen.sinceMs >= GRACE_MS) this.#judge(pid, seen, nowMs);
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

  #judge(pid: number, seen: Seen, nowMs: number): void {
    try {
      const state = stateOf(readFileSync(`/proc/${pid}/maps`, "latin1"));
      if (state === "measured") seen.isJudged = true;
      if (state === "measured" || (state === "starting" && nowMs - seen.sinceMs < LATE_MS)) return;
      if (seen.suspectMs < 0) seen.suspectMs = nowMs;
      // On a busy machine an exec may take long: it is seen so twice.
      if (nowMs - seen.suspectMs < GRACE_MS) return;
      seen.isJudged = true;
      const name = readFileSync(`/proc/${pid}/comm`, "latin1").trim().replace(/[^\x21-\x7e]/g, "?");
      this.#count++;
      if (this.#names.size < NAMES_MOST) this.#names.add(name);
    } catch {
      // It ended, or is another user's.
      seen.isJudged = true;
    }
  }
}

/** What the memory map of a process says about it. */
function stateOf(maps: string): "measured" | "starting" | "unmeasured" {
  // Its own ring, or the one that it shares with its parent. A process that has ended, but was not
  // waited for, has no memory.
  if (maps === "" || maps.includes("/memfd:kqtime")) return "measured";
  if (maps.includes("/libkqtime-preload")) return "starting";
  // glibc's loader maps what is preloaded before libc; musl's is its libc.
  return /\/ld-linux/.test(maps) && !/\/libc[.-]/.test(maps) ? "starting" : "unmeasured";
}

/** The process or thread that was made last, as far as this pid namespace sees them; "" if it is not told. */
function newestPid(): string {
  try {
    return readFileSync("/proc/loadavg", "latin1").trim().split(" ").at(-1)!;
  } catch {
    return "";
  }
}

/** Those that this thread has made. */
function childrenOf({ pid, tid }: Thread): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${tid}/children`, "latin1").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}

function threadsOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}
