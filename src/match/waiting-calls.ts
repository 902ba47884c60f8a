// Calls of sockets that wait for an anchor: some never get one, so all of them together are bounded.

import { Reason } from "../output/reasons.ts";
import type { Connection } from "./connection.ts";

/** About 48 bytes each. */
const MOST_CALLS = 1 << 20;

export class WaitingCalls {
  /** Calls that were given up for want of room. */
  givenUp = 0;
  readonly #live: ReadonlySet<Connection>;
  readonly #most: number;
  #calls = 0;

  /** @param live All sockets, in the order of their birth. */
  constructor(live: ReadonlySet<Connection>, most = MOST_CALLS) {
    this.#live = live;
    this.#most = most;
  }

  /** Something has changed for a socket. */
  count(connection: Connection): void {
    const { anchor, instance, out, in: inbound } = connection;
    if (anchor === null && connection.waitingCalls === 0) return;
    const waits = anchor !== null && instance === null;
    const calls = waits ? out.calls.queue.length + inbound.calls.queue.length : 0;
    this.#calls += calls - connection.waitingCalls;
    connection.waitingCalls = calls;
  }

  /** Books calls of the sockets that have waited longest, until there is room again. */
  bound(): void {
    if (this.#calls <= this.#most) return;
    for (const connection of this.#live) {
      if (this.#calls <= this.#most * 0.75) return;
      if (connection.waitingCalls === 0) continue;
      this.givenUp += connection.waitingCalls;
      for (const side of [connection.out, connection.in]) {
        side.book(side.calls.edge, Reason.noAnchor, connection);
        side.calls.queue.release();
      }
      this.count(connection);
    }
  }
}
