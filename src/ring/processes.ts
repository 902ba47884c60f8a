// Which of the target's processes are still alive. A ring's pid is vouched for by the kernel; pids
// inside records are the target's own word and count only in the same pid namespace.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { processExists } from "../ffi/libc.ts";
import { ProcessEnds } from "../ffi/process-ends.ts";

export class Processes {
  /** Start times in clock ticks since boot, which tell a reused pid; 0 where /proc did not say. */
  readonly #startOf = new Map<number, number>();
  /** Of the first of them all. */
  #firstTicks = Infinity;
  readonly #ends: ProcessEnds;
  /** Those whose end the kernel does not tell, the one first that was not looked at for longest. */
  readonly #unwatched = new Set<number>();

  /** @param ends An old kernel, and a low limit of descriptors, leave some to be looked at. */
  constructor(ends = new ProcessEnds()) {
    this.#ends = ends;
  }

  add(pid: number): void {
    if (pid <= 0 || this.#startOf.has(pid)) return;
    const { startTicks } = stat(pid);
    this.#startOf.set(pid, startTicks);
    this.#firstTicks = Math.min(this.#firstTicks, startTicks);
    if (!this.#ends.add(pid)) this.#unwatched.add(pid);
  }

  /**
   * Those that have ended, which are forgotten. Who must be looked at for that is until `untilMs` (of
   * `performance.now`), one at the least.
   */
  takeEnded(untilMs: number): number[] {
    const ended: number[] = [];
    this.#ends.take(ended);
    for (let left = this.#unwatched.size; left > 0; left--) {
      const pid = this.#unwatched.values().next().value!;
      this.#unwatched.delete(pid);
      if (this.#isAlive(pid)) this.#unwatched.add(pid);
      else ended.push(pid);
      if (performance.now() >= untilMs) break;
    }
    for (const pid of ended) this.#startOf.delete(pid);
    return ended;
  }

  /** Whether the process runs: it exists, is the same one, and not all of its threads have ended. */
  #isAlive(pid: number): boolean {
    const start = this.#startOf.get(pid);
    if (start === undefined || !processExists(pid)) return false;
    const now = stat(pid);
    if (isOver(now)) return false;
    return start === 0 || now.startTicks === 0 || now.startTicks === start;
  }

  /**
   * Whether a process has the memfd of this inode mapped. A forked child that executes another
   * program has lost it; a pid of another pid namespace, or one that a target made up, never had.
   */
  maps(pid: number, inode: number): boolean {
    if (isOwn(pid)) return false;
    const text = mapsOf(pid);
    return text !== null && mapped(inode).test(text);
  }

  /**
   * Of these memfds' inodes, all that live and have them mapped, known or not. Looks at every process
   * but those that `isOther`. Null: no descriptor is free for that now.
   */
  findMapping(
    inodes: ReadonlySet<number>, isOther: (pid: number) => boolean,
  ): Map<number, number[]> | null {
    const found = new Map<number, number[]>();
    let names: string[];
    try {
      names = readdirSync("/proc");
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EMFILE") throw error;
      return null;
    }
    for (const name of names) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || isOwn(pid) || isOther(pid)) continue;
      if (stat(pid).startTicks < this.#firstTicks) continue;
      for (const [, text] of (mapsOf(pid) ?? "").matchAll(mapped("(\\d+)"))) {
        const inode = Number(text);
        if (!inodes.has(inode)) continue;
        const pids = found.get(inode);
        if (pids === undefined) found.set(inode, [pid]);
        else if (pids.at(-1) !== pid) pids.push(pid);
      }
    }
    return found;
  }

  /** Whether a process is known to have executed a program that does not have the memfd. */
  hasLeft(pid: number, inode: number): boolean {
    // The maker of a ring may have ended before it was announced, and its pid be given anew.
    if (isOwn(pid)) return true;
    const text = mapsOf(pid);
    // Empty: it is just ending, which will be told.
    return text !== null && text !== "" && !mapped(inode).test(text);
  }

  close(): void {
    this.#ends.close();
  }
}

/**
 * Whether it is a thread of this process, by the numbers of the /proc that is read here (which may be
 * another pid namespace's): it has the rings mapped to read them, and is none of the target's.
 */
export function isOwn(pid: number): boolean {
  return existsSync(`/proc/self/task/${pid}`);
}

/** Null where it may not be read; empty of a process that has ended. */
function mapsOf(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/maps`, "latin1");
    return text !== "" ? text : mapsOfThreads(pid);
  } catch {
    return null;
  }
}

/** A process lives on without its first thread: the others know its memory. */
function mapsOfThreads(pid: number): string {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    if (Number(thread) === pid) continue;
    try {
      const text = readFileSync(`/proc/${pid}/task/${thread}/maps`, "latin1");
      if (text !== "") return text;
    } catch {
      // It ended meanwhile.
    }
  }
  return "";
}

function mapped(inode: number | string): RegExp {
  return new RegExp(`^\\S+ rw-s \\S+ \\S+ ${inode} +/memfd:kqtime`, "gm");
}

/** A zombie with threads has ended its first one only. */
function isOver({ state, threads }: ReturnType<typeof stat>): boolean {
  return (state === "Z" || state === "X") && threads <= 1;
}

/** Whether no process lives under this number. */
export function hasEnded(pid: number): boolean {
  return !processExists(pid) || isOver(stat(pid));
}

/** State, number of threads and start time of /proc/PID/stat (proc(5), fields 3, 20 and 22). */
function stat(pid: number): { state: string; threads: number; startTicks: number } {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return { state: "", threads: 0, startTicks: 0 };
  }
  // The command may hold spaces and parentheses: the fields begin after the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[0] ?? "",
    threads: Number(fields[17] ?? 0) || 0,
    startTicks: Number(fields[19] ?? 0) || 0,
  };
}
