// Which of the target's processes are still alive. A ring's pid is vouched for by the kernel; pids
// inside records are the target's own word and count only in the same pid namespace.

import { readdirSync, readFileSync } from "node:fs";
import { processExists } from "../ffi/libc.ts";

export class Processes {
  /** Start times in clock ticks since boot, which tell a reused pid; 0 where /proc did not say. */
  readonly #startOf = new Map<number, number>();
  /** Of the first of them all. */
  #firstTicks = Infinity;

  add(pid: number): void {
    if (pid <= 0 || this.#startOf.has(pid)) return;
    const { startTicks } = stat(pid);
    this.#startOf.set(pid, startTicks);
    this.#firstTicks = Math.min(this.#firstTicks, startTicks);
  }

  has(pid: number): boolean {
    return this.#startOf.has(pid);
  }

  /** Whether the process runs: it exists, is the same one, and is no zombie. */
  isAlive(pid: number): boolean {
    const start = this.#startOf.get(pid);
    if (start === undefined || !processExists(pid)) return false;
    const now = stat(pid);
    if (hasEnded(now)) return false;
    return start === 0 || now.startTicks === 0 || now.startTicks === start;
  }

  /**
   * Whether a process has the memfd of this inode mapped. A forked child that executes another
   * program has lost it; a pid of another pid namespace, or one that a target made up, never had.
   */
  maps(pid: number, inode: number): boolean {
    const text = mapsOf(pid);
    return text !== null && mapped(inode).test(text);
  }

  /** Of these memfds' inodes, all that live and have them mapped, known or not. Looks at every process. */
  findMapping(inodes: ReadonlySet<number>): Map<number, number[]> {
    const found = new Map<number, number[]>();
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      const now = stat(pid);
      if (now.startTicks < this.#firstTicks || hasEnded(now)) continue;
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
    const text = mapsOf(pid);
    // Empty: it is just ending, which `isAlive` sees.
    return text !== null && text !== "" && !mapped(inode).test(text);
  }

  remove(pid: number): void {
    this.#startOf.delete(pid);
  }

  all(): IterableIterator<number> {
    return this.#startOf.keys();
  }
}

/** Null where it may not be read. */
function mapsOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/maps`, "latin1");
  } catch {
    return null;
  }
}

function mapped(inode: number | string): RegExp {
  return new RegExp(`^\\S+ rw-s \\S+ \\S+ ${inode} +/memfd:kqtime`, "gm");
}

interface Stat {
  state: string;
  threads: number;
  startTicks: number;
}

/** What is left waits for its parent. A zombie with more than one thread has only ended its first. */
function hasEnded({ state, threads }: Stat): boolean {
  return state === "X" || (state === "Z" && threads <= 1);
}

/** State, threads and start time of /proc/PID/stat (proc(5), fields 3, 20 and 22). */
function stat(pid: number): Stat {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return { state: "", threads: 0, startTicks: 0 };
  }
  // The command may hold spaces and parentheses: the fields begin after the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[0] ?? "", threads: Number(fields[17]), startTicks: Number(fields[19] ?? 0) || 0,
  };
}
