// Tells which of many processes have ended, at a price that does not grow with their number: a pidfd
// of each, and one epoll over them. (Their state in /proc costs 20 µs each, and shows a process whose
// first thread has ended like one that has.)
//
// Source: pidfd_open(2), since Linux 5.3; epoll(7).

import type { Library } from "bun:ffi";
import { closeSync, readFileSync } from "node:fs";
import { openLibc } from "./library.ts";

/** The same number on all machines. */
const SYS_PIDFD_OPEN = 434;
const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const EPOLLONESHOT = 0x40000000;
const EVENTS_A_CALL = 256;
/** struct epoll_event is packed on x86-64 alone. */
const EVENT_WORDS = process.arch === "x64" ? 3 : 4;
const DATA_WORD = process.arch === "x64" ? 1 : 2;
/** Of the descriptors that this process may have, … */
const SHARE_OF_DESCRIPTORS = 0.5;
/** … and as many as these are left for all else: some 16, and those that messages come with. */
const LEFT_DESCRIPTORS = 32;

const symbols = {
  /** long number, pid_t pid, unsigned int flags → long */
  syscall: { args: ["i64", "i32", "u32"], returns: "i32" },
  /** int flags → int */
  epoll_create1: { args: ["i32"], returns: "i32" },
  /** int epoll, int operation, int fd, struct epoll_event *event → int */
  epoll_ctl: { args: ["i32", "i32", "i32", "buffer"], returns: "i32" },
  /** int epoll, struct epoll_event *events, int most, int timeout → int */
  epoll_wait: { args: ["i32", "buffer", "i32", "i32"], returns: "i32" },
} as const;

type Libc = Library<typeof symbols>["symbols"];
let loaded: Libc | undefined;

function libc(): Libc {
  loaded ??= openLibc(symbols);
  return loaded;
}

export class ProcessEnds {
  readonly #most: number;
  readonly #fds = new Map<number, number>();
  readonly #events = new Uint32Array(new ArrayBuffer(EVENTS_A_CALL * EVENT_WORDS * 4));
  /** -1: none yet. */
  #epoll = -1;

  /** @param most Processes that are watched at a time. */
  constructor(most = mostOf(descriptorLimit())) {
    this.#most = most;
  }

  /** Watches a process; false if its end must be found out otherwise. */
  add(pid: number): boolean {
    if (this.#fds.size >= this.#most) return false;
    if (this.#epoll < 0) this.#epoll = libc().epoll_create1(EPOLL_CLOEXEC);
    if (this.#epoll < 0) return false;
    const fd = libc().syscall(SYS_PIDFD_OPEN, pid, 0);
    if (fd < 0) return false;
    this.#remove(pid);
    const event = new Uint32Array(new ArrayBuffer(EVENT_WORDS * 4));
    event[0] = EPOLLIN | EPOLLONESHOT;
    event[DATA_WORD] = pid;
    if (libc().epoll_ctl(this.#epoll, EPOLL_CTL_ADD, fd, event) !== 0) {
      closeSync(fd);
      return false;
    }
    this.#fds.set(pid, fd);
    return true;
  }

  /** Adds those that have ended to `pids`, all of their threads, waited for or not; they are removed. */
  take(pids: number[]): void {
    if (this.#fds.size === 0) return;
    for (let count = EVENTS_A_CALL; count === EVENTS_A_CALL; ) {
      count = libc().epoll_wait(this.#epoll, this.#events, EVENTS_A_CALL, 0);
      for (let i = 0; i < count; i++) {
        const pid = this.#events[i * EVENT_WORDS + DATA_WORD]!;
        this.#remove(pid);
        pids.push(pid);
      }
    }
  }

  close(): void {
    for (const fd of this.#fds.values()) closeSync(fd);
    this.#fds.clear();
    if (this.#epoll >= 0) closeSync(this.#epoll);
    this.#epoll = -1;
  }

  #remove(pid: number): void {
    const fd = this.#fds.get(pid);
    if (fd === undefined) return;
    this.#fds.delete(pid);
    // With its last descriptor it leaves the epoll, too.
    closeSync(fd);
  }
}

/** How many of so many descriptors are for processes; below 1: none. */
export function mostOf(limit: number): number {
  return Math.min(limit * SHARE_OF_DESCRIPTORS, limit - LEFT_DESCRIPTORS);
}

/** How many descriptors this process may have (getrlimit(2), RLIMIT_NOFILE). */
function descriptorLimit(): number {
  try {
    const limits = readFileSync("/proc/self/limits", "latin1");
    return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0);
  } catch {
    return 0;
  }
}
