// What becomes of a socket for which nothing happens any more: records that will not come are given
// up, held ones released, and its books are closed when its end is certain.

import { Reason } from "../output/reasons.ts";
import type { Connection, Progress } from "./connection.ts";
import type { Instances } from "./instances.ts";
import type { Side } from "./merge.ts";
import { MAX_RANGES } from "./sightings.ts";
import { unfound } from "./unfound.ts";

/** A socket that waits for its handshake this long after its first call has none to wait for. */
const ANCHOR_WAIT_NS = 5e9;
/** After the last sign of a connection, how long late records and packets may still come. */
const QUIET_NS = 250e6;
/** A record that is this much older than its neighbours, while records were lost, is lost. */
const GAP_NS = 1e9;
/** Calls kept of each direction of a socket that is not anchored yet. */
const MAX_UNANCHORED = 1 << 14;

/** What it needs of the engine. */
export interface Keeper {
  readonly instances: Instances;
  /** Records that the targets' rings dropped. */
  readonly ringRecords: number;
  lose(connection: Connection, side: Side, reason: number): void;
  touch(connection: Connection): void;
}

/** Whether its entry should be seen as it is now before it is looked after. */
export function isStale(connection: Connection, capturedNs: number): boolean {
  const { out, in: inbound, instance, unboundNs } = connection;
  return (
    out.calls.held + inbound.calls.held + out.calls.waiting + inbound.calls.waiting > 0 ||
    (unboundNs >= 0 && instance !== null && instance.ended) ||
    (unboundNs >= 0 && unboundNs + ANCHOR_WAIT_NS < capturedNs)
  );
}

/** Looks after a socket; true if it is over, and its books can be closed. */
export function isOver(keeper: Keeper, connection: Connection, capturedNs: number): boolean {
  const { out, in: inbound, outProgress, inProgress, unboundNs } = connection;
  if (keeper.ringRecords > 0) {
    if (skipGap(out, capturedNs)) keeper.touch(connection);
    if (skipGap(inbound, capturedNs)) keeper.touch(connection);
  }
  if (release(out, outProgress)) keeper.touch(connection);
  if (release(inbound, inProgress)) keeper.touch(connection);
  const lastNs = Math.max(out.calls.lastNs, inbound.calls.lastNs, unboundNs);
  if (connection.instance !== null) {
    return unboundNs >= 0 && lastNs + QUIET_NS <= capturedNs && isQuiet(connection, capturedNs);
  }
  if (lastNs + ANCHOR_WAIT_NS >= capturedNs) return false;
  if (out.calls.count + inbound.calls.count > 0 && connection.anchor === null) {
    const reason = unfound(connection, keeper.instances);
    keeper.lose(connection, out, reason);
    keeper.lose(connection, inbound, reason);
  }
  return unboundNs >= 0;
}

/** Its connection has ended, and nobody will read what has arrived. */
function isQuiet(connection: Connection, capturedNs: number): boolean {
  const { in: inbound, outProgress, inProgress, unboundNs, unreadAtClose } = connection;
  const instance = connection.instance!;
  if (!instance.ended || instance.lastNs + QUIET_NS > capturedNs) return false;
  if (outProgress.active + inProgress.active > 0) return false;
  // A close is not the last one where a forked twin, or a copy of the descriptor, lives on: what
  // has arrived may still be read. Closing the last one with unread bytes sends a reset.
  return (
    instance.resetOut ||
    inbound.lost ||
    inbound.position >= instance.in.edge ||
    (unreadAtClose === 0 && instance.in.lastDataNs <= unboundNs)
  );
}

/** A record is lost that others have waited for this long. */
function skipGap({ calls }: Side, capturedNs: number): boolean {
  if (calls.waitingSinceNs + GAP_NS >= capturedNs) return false;
  calls.skipGap(Reason.ringDrop);
  return true;
}

/** Calls that were held for others of their group are let go when no other is in progress. */
function release({ calls }: Side, { active, off }: Progress): boolean {
  if (calls.held === 0 || active > 0 || off !== calls.known) return false;
  calls.release();
  return true;
}

/** Keeps the list of calls that wait for their packets within its bound. */
export function boundCalls(connection: Connection, side: Side): void {
  const { queue } = side.calls;
  const unanchored = connection.anchor !== null && side.sightings === null;
  if (queue.length < (unanchored ? MAX_UNANCHORED : MAX_RANGES)) return;
  const end = queue.values[queue.at(queue.length >> 1)]!;
  if (unanchored) {
    side.book(end, Reason.noAnchor, connection);
    return;
  }
  side.sightings?.bookTo(end, Reason.overflow);
  if (side.sightings !== null) side.merge(connection);
  else side.book(end, Reason.overflow, connection);
}

/** Whether bytes of a socket were called and not sighted, its processes' end notwithstanding. */
export function isUnsent({ out, instance, anchor }: Connection): boolean {
  return (instance !== null || anchor !== null) && !out.lost && out.calls.known > out.position;
}
