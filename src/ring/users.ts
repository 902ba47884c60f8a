// Which processes use a ring: its maker, as the kernel vouches for it, and forked children without one
// of their own. The kernel tells who has ended; all else must be looked for in /proc, which is slow: so
// it goes round, for a small share of the time, however many processes there are.

import { hasEnded, Processes } from "./processes.ts";
import type { Ring } from "./ring.ts";

/** How often children that outlived the maker of their ring are looked into, ms. */
const MAPS_EVERY_MS = 250;
/** How often the makers are. */
const MAKERS_EVERY_MS = 1000;
/** Of the time since the look before. */
const LOOK_SHARE = 0.01;
/** However long that is ago: records and packets wait meanwhile, ms. */
const LOOK_MOST_MS = 10;

/** Children looked into in a round: each costs the kernel a list of all its memory. */
const FORKED_A_ROUND = 32;

/** All processes are searched for users of rings: so many times as long as that took, they are not. */
const SEARCH_PAUSES = 10;

export class Users {
  readonly #processes: Processes;
  readonly #rings: readonly Ring[];
  #lookedAtMs = -Infinity;
  #searchAtMs = -Infinity;
  /** Which ring's turn it is. */
  #next = 0;

  /** Told that who used a ring has ended, or executed another program. */
  onEnd: (ring: Ring, pid: number) => void = () => {};

  /** @param rings Those in use; changed by the caller only. */
  constructor(rings: readonly Ring[], processes = new Processes()) {
    this.#rings = rings;
    this.#processes = processes;
  }

  /** Pids of those that live: sharing a ring's memory, as the kernel says. */
  pids(): number[] {
    const pids = new Set<number>();
    for (const ring of this.#rings) {
      for (const pid of ring.users) if (this.#processes.maps(pid, ring.inode)) pids.add(pid);
    }
    return [...pids];
  }

  add(ring: Ring, pids: readonly number[]): void {
    for (const pid of pids) {
      this.#processes.add(pid);
      ring.users.add(pid);
    }
  }

  /**
   * A process has made a ring. It uses no other one: it is a forked child and leaves the inherited one,
   * or executed another program.
   */
  made(ring: Ring, pid: number): void {
    for (const other of this.#rings) if (other !== ring) other.users.delete(pid);
    this.#processes.add(pid);
  }

  /** A pid is the target's own word: only the kernel's maps prove that the child shares the ring. */
  lookIntoForked(): void {
    let looks = 0;
    for (const ring of this.#rings) {
      for (const child of ring.forked) {
        if (looks >= FORKED_A_ROUND) return;
        ring.forked.delete(child);
        if (ring.users.has(child) || this.#hasOwnRing(child, ring.table)) continue;
        looks++;
        if (this.#processes.maps(child, ring.inode)) this.add(ring, [child]);
        else if (hasEnded(child)) this.onEnd(ring, child);
      }
    }
  }

  /** Notices who has ended, or left for a program that is not measured. */
  look(nowMs: number): void {
    this.lookIntoForked();
    const passedMs = Math.min(nowMs - this.#lookedAtMs, LOOK_MOST_MS / LOOK_SHARE);
    const untilMs = performance.now() + passedMs * LOOK_SHARE;
    this.#lookedAtMs = nowMs;
    for (const pid of this.#processes.takeEnded(untilMs)) {
      for (const ring of this.#rings) {
        if (!ring.users.delete(pid)) continue;
        this.onEnd(ring, pid);
        // Its children may have executed something else long ago.
        if (ring.pid === pid) ring.lookAtMs = nowMs;
      }
    }
    const count = this.#rings.length;
    for (let n = 0; n < count && (n === 0 || performance.now() < untilMs); n++) {
      const ring = this.#rings[this.#next++ % count]!;
      // Of a new one the kernel has just said who made it.
      if (ring.lookAtMs === Infinity) ring.lookAtMs = nowMs + MAKERS_EVERY_MS;
      else if (nowMs >= ring.lookAtMs) this.#lookInto(ring, nowMs, untilMs);
    }
    this.#next %= Math.max(1, count);
  }

  #lookInto(ring: Ring, nowMs: number, untilMs: number): void {
    if (ring.users.has(ring.pid)) {
      ring.lookAtMs = nowMs + MAKERS_EVERY_MS;
      // Its maker may have executed a program that is not measured, and live on as that.
      if (this.#processes.hasLeft(ring.pid, ring.inode)) {
        ring.users.delete(ring.pid);
        this.onEnd(ring, ring.pid);
      }
      return;
    }
    ring.lookAtMs = nowMs + MAPS_EVERY_MS;
    for (let left = ring.users.size; left > 0; left--) {
      // Who was looked at goes to the end.
      const child = ring.users.values().next().value!;
      ring.users.delete(child);
      if (this.#processes.maps(child, ring.inode)) ring.users.add(child);
      else if (hasEnded(child)) this.onEnd(ring, child);
      if (left > 1 && performance.now() >= untilMs) {
        ring.lookAtMs = nowMs;
        return;
      }
    }
  }

  /**
   * Searches users whom nobody announced: who forks tells of it afterwards and may have been killed
   * before that, and some ways to fork tell nobody. False: it is not time for that.
   */
  search(lonely: readonly Ring[], nowMs: number): boolean {
    if (nowMs < this.#searchAtMs) return false;
    const startMs = performance.now();
    const tables = new Set(lonely.map((ring) => ring.table));
    const owners = new Map<number, Set<number>>();
    for (const { pid, table } of this.#rings) {
      if (!tables.has(table)) continue;
      const own = owners.get(pid);
      if (own === undefined) owners.set(pid, new Set([table]));
      else own.add(table);
    }
    // Who has a ring of its own in each of these tables need not be looked into.
    const found = this.#processes.findMapping(
      new Set(lonely.map((ring) => ring.inode)), (pid) => owners.get(pid)?.size === tables.size,
    );
    if (found === null) return false;
    for (const ring of lonely) {
      const pids = found.get(ring.inode) ?? [];
      this.add(ring, pids.filter((pid) => owners.get(pid)?.has(ring.table) !== true));
    }
    this.#searchAtMs = nowMs + (performance.now() - startMs) * (1 + SEARCH_PAUSES);
    return true;
  }

  close(): void {
    this.#processes.close();
  }

  #hasOwnRing(pid: number, table: number): boolean {
    return this.#rings.some((ring) => ring.pid === pid && ring.table === table);
  }
}
