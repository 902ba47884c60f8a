// Sockets that nobody has any more, and whose end no packet showed: their process was killed, or their
// peer fell silent and the kernel gave up. What ends them is that the kernel does not know them any
// longer; else a service would gather them for as long as it runs.

import { socketQueues } from "../ffi/netlink.ts";
import type { Connection } from "../match/connection.ts";
import { TupleMap } from "../match/tuple-map.ts";

/** How often the kernel is asked, if there is somebody to ask about. */
const EVERY_MS = 10_000;
/** Records and packets of a socket that is gone have been joined by then. */
const QUIET_NS = 5e9;

export interface OrphanParts {
  readonly live: Iterable<Connection>;
  /** Whether a process lives that uses a socket table. */
  readonly isUsed: (table: number) => boolean;
  /** Told of those that are gone. */
  readonly onGone: (connection: Connection) => void;
  readonly onFailure: (error: unknown) => void;
}

export class Orphans {
  readonly #parts: OrphanParts;
  #askedMs = 0;

  constructor(parts: OrphanParts) {
    this.#parts = parts;
  }

  /** @param capturedNs Everything that was captured before is joined. */
  round(nowMs: number, capturedNs: number): void {
    if (nowMs - this.#askedMs < EVERY_MS) return;
    this.#askedMs = nowMs;
    const { live, isUsed, onGone, onFailure } = this.#parts;
    const quiet: Connection[] = [];
    for (const connection of live) {
      const isLeft = connection.unboundNs >= 0 || !isUsed(connection.table);
      if (isLeft && lastNs(connection) + QUIET_NS < capturedNs) quiet.push(connection);
    }
    if (quiet.length === 0) return;
    const known = new TupleMap<true>();
    try {
      for (const { localWords, localPort, remoteWords, remotePort } of socketQueues()) {
        known.set(localWords, 0, localPort, remoteWords, 0, remotePort, true);
      }
    } catch (error) {
      onFailure(error);
      return;
    }
    for (const connection of quiet) {
      const { local, remote, lport, rport } = connection;
      if (known.get(local, 0, lport, remote, 0, rport) === null) onGone(connection);
    }
  }
}

/** When something happened to a socket last. */
function lastNs({ out, in: inbound, unboundNs, birthNs, instance }: Connection): number {
  return Math.max(out.calls.lastNs, inbound.calls.lastNs, unboundNs, birthNs, instance?.lastNs ?? 0);
}
