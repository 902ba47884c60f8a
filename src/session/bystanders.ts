// Processes that the target started and that the preload library did not get into (a cleared
// environment, a static or setuid program, another libc), or from which it could not reach the
// collector. They leave no trace in any ring, so that without this look a measurement could be blind
// and seem complete.

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

/** The library mapped as shared (preload/unheard.c); for no access: the session counts it already. */
const MARK = /^\S+ ([r-])--s .*\/libkqtime-preload/m;

interface Seen {
  readonly sinceMs: number;
  /** When it was looked at and seemed not to be measured; -1: never. */
  suspectMs: number;
  isJudged: boolean;
}

/** Processes that are told of in one sentence. */
class Group {
  count = 0;
  readonly #names = new Set<string>();

  add(name: string): void {
    this.count++;
    if (this.#names.size < NAMES_MOST) this.#names.add(name);
  }

  get processes(): string {
    return `${this.count} process${this.count === 1 ? "" : "es"}`;
  }

  get are(): string {
    return this.count === 1 ? "is" : "are";
  }

  get listed(): string {
    const names = [...this.#names];
    return names.slice(0, NAMES_SHOWN).join(", ") + (names.length > NAMES_SHOWN ? ", …" : "");
  }
}

interface Thread {
  readonly pid: number;
  readonly tid: number;
}

export class Bystanders {
  readonly #seen = new Map<number, Seen>();
  readonly #without = new Group();
  readonly #unheard = new Group();
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

  /** A sentence about each kind that was found. */
  warnings(): string[] {
    const sentences: string[] = [];
    const without = this.#without;
    if (without.count > 0) {
      sentences.push(
        `${without.processes} of the command ran without the preload library (${without.listed}) and ` +
          `${without.are} not measured: a cleared environment, a static or setuid program, or sudo`,
      );
    }
    const unheard = this.#unheard;
    if (unheard.count > 0) {
      sentences.push(
        `${unheard.processes} of the command could not reach kqtime (${unheard.listed}) and ` +
          `${unheard.are} not measured: a chroot, mount namespace or sandbox that hides its socket ` +
          "(run kqtime inside it), or no free descriptor",
      );
    }
    return sentences;
  }

  #judge(pid: number, seen: Seen, nowMs: number): void {
    try {
      const state = stateOf(readFileSync(`/proc/${pid}/maps`, "latin1"));
      if (state === "measured") seen.isJudged = true;
      else if (state === "unheard") this.#tell(this.#unheard, pid, seen);
      const isStarting = state === "loading" || state === "loaded";
      if (seen.isJudged || (isStarting && nowMs - seen.sinceMs < LATE_MS)) return;
      if (seen.suspectMs < 0) seen.suspectMs = nowMs;
      // On a busy machine an exec may take long: it is seen so twice.
      if (nowMs - seen.suspectMs < GRACE_MS) return;
      this.#tell(state === "loaded" ? this.#unheard : this.#without, pid, seen);
    } catch {
      // It ended, or is another user's.
      seen.isJudged = true;
    }
  }

  #tell(group: Group, pid: number, seen: Seen): void {
    seen.isJudged = true;
    group.add(readFileSync(`/proc/${pid}/comm`, "latin1").trim().replace(/[^\x21-\x7e]/g, "?"));
  }
}

/** What the memory map of a process says about it. */
function stateOf(maps: string): "measured" | "loading" | "loaded" | "unheard" | "unmeasured" {
  // Its own ring, or the one that it shares with its parent. A process that has ended, but was not
  // waited for, has no memory.
  if (maps === "" || maps.includes("/memfd:kqtime")) return "measured";
  const mark = MARK.exec(maps)?.[1];
  if (mark !== undefined) return mark === "r" ? "unheard" : "measured";
  if (maps.includes("/libkqtime-preload")) return "loaded";
  // glibc's loader maps what is preloaded before libc; musl's is its libc.
  return /\/ld-linux/.test(maps) && !/\/libc[.-]/.test(maps) ? "loading" : "unmeasured";
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
