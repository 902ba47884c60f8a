// Processes that have ended while others go on with their sockets: a call in which one was killed would
// count as under way for ever, and whatever overlaps with it as concurrent. The target's memory tells
// how many calls are under way and the sum of their pids (kq_direction.calls); told who is gone, the
// next call takes out the one that never ends, once it is the only one.

import { PIDS_MASK, type Ring } from "./ring.ts";

/** Of which a table is told, and how often while others' calls hide whether theirs are among them. */
const PIDS_MOST = 64;
const TURNS_MOST = 600;

export class Gone {
  readonly #table: Ring;
  readonly #pids: number[] = [];
  #turns = 0;
  #isTold = false;

  /** @param table The ring that holds the socket table. */
  constructor(table: Ring) {
    this.#table = table;
  }

  add(pid: number): void {
    // Another pid namespace, in which these processes have other numbers.
    if (this.#table.pid !== this.#table.madeBy) return;
    this.#pids.push(pid);
    if (this.#pids.length > PIDS_MOST) this.#pids.shift();
    this.#turns = 0;
  }

  /**
   * Once more when nothing is open: a pid may be another process's some day.
   * @param rings Whose users live.
   */
  tell(rings: readonly Ring[]): void {
    const pids = this.#pids;
    if (pids.length === 0 && !this.#isTold) return;
    this.#isTold = pids.length > 0;
    const living = new Set<number>();
    for (const { users } of rings) for (const pid of users) living.add(pid & PIDS_MASK);
    const isOpen = this.#table.tellGone(pids, this.#turns++, living);
    if (!isOpen || this.#turns >= TURNS_MOST) pids.length = 0;
  }
}
