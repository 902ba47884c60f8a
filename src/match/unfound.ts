// Why a socket was not found on the wire.

import { Reason } from "../output/reasons.ts";
import type { Connection } from "./connection.ts";
import type { Instances } from "./instances.ts";

/** The reason under which its calls are booked. */
export function unfound(connection: Connection, instances: Instances): number {
  const { flow, anchor, out, in: inbound } = connection;
  if (flow !== null && flow.strays > 0) return Reason.noAnchor;
  if (anchor === null) return instances.looksTranslated(connection) ? Reason.nat : Reason.filtered;
  if (anchor.packets.total > 0) return Reason.noAnchor;
  // Reading what had arrived before needs no packet.
  const isOlder = out.calls.bytes === 0 && inbound.calls.edge <= anchor.in.floor;
  return isOlder ? Reason.noAnchor : Reason.filtered;
}
