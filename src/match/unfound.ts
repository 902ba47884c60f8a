// Why a socket was not found on the wire.

import { Reason } from "../output/reasons.ts";
import { type Calls, Call } from "./calls.ts";
import type { Connection } from "./connection.ts";
import type { Instances } from "./instances.ts";

/** accept may return this long after the handshake. */
const ACCEPT_WAIT_NS = 1e9;

/** The reason under which its calls are booked. */
export function unfound(connection: Connection, instances: Instances): number {
  const { flow, anchor, out, in: inbound, lport, rport } = connection;
  // Nobody could look for it.
  if (lport === 0 || rport === 0) return Reason.unseen;
  const strays = flow?.strays ?? 0;
  if (anchor === null) {
    if (isLost(connection, instances, strays)) return Reason.captureDrop;
    if (strays > 0) return Reason.noAnchor;
    return instances.looksTranslated(connection) ? Reason.nat : Reason.filtered;
  }
  if (strays > 0 || anchor.packets.total > 0) return Reason.noAnchor;
  // Reading what had arrived before needs no packet.
  const isOlder = out.calls.bytes === 0 && inbound.calls.edge <= anchor.in.floor;
  return isOlder ? Reason.noAnchor : Reason.filtered;
}

/** Whether the capture may have lost its handshake, and all the rest if there were no `strays`. */
function isLost(connection: Connection, { gaps }: Instances, strays: number): boolean {
  const { connected, birthNs, out, in: inbound } = connection;
  const fromNs = connected ? birthNs : birthNs - ACCEPT_WAIT_NS;
  const calledNs = Math.min(firstNs(out.calls), firstNs(inbound.calls));
  const toNs = connected && calledNs !== Infinity ? Math.max(birthNs, calledNs) : birthNs;
  if (!gaps.overlap(fromNs, toNs)) return false;
  // What it sent when nothing was lost any more would have been seen.
  const { bytes, lastNs } = out.calls;
  return strays > 0 || bytes === 0 || gaps.overlap(lastNs, lastNs);
}

/** Time of the first call that is not booked. */
function firstNs({ queue }: Calls): number {
  return queue.length === 0 ? Infinity : queue.values[queue.first() + Call.timeNs]!;
}
