// What the summary's warnings say of a reason: its likely cause in this measurement, and what helps
// against that one, where the reason alone does not tell.

import { Reason, REASON_HELP } from "./reasons.ts";

/** What decides between the causes of a reason. */
export interface Circumstances {
  /**
   * `default`: nobody chose the filter; `whole`: one that selects whole connections; `parts`: one that
   * may hide some packets of a connection; absent: not known.
   */
  readonly filter?: FilterKind | undefined;
  /** The capture is of one interface, which the user chose. */
  readonly isOneDevice: boolean;
  /** It is the replay of a recording that ends before the session did. */
  readonly isCut: boolean;
  /** Records that were dropped: the ring was full; there was no memory; the clock could not be read. */
  readonly ringFull: number;
  readonly noMemory: number;
  readonly noClock: number;
}

export type FilterKind = (typeof FILTER_KINDS)[number];
export const FILTER_KINDS = ["default", "whole", "parts"] as const;

/** Cause and remedy of bytes under `reason`, without a full stop. */
export function adviceOn(reason: number, circumstances: Circumstances): string {
  switch (reason) {
    case Reason.ringDrop:
      return lostRecords(circumstances);
    case Reason.noAnchor:
      return circumstances.filter === "parts"
        ? "--filter hides packets of these connections, as their handshake, or the socket is older than the " +
          "capture; use a filter that selects whole connections"
        : REASON_HELP[reason]!;
    case Reason.filtered:
      return withoutPackets(circumstances);
    case Reason.unseen:
      return unseen(circumstances);
    default:
      return REASON_HELP[reason]!;
  }
}

function lostRecords({ isCut, ringFull, noMemory, noClock }: Circumstances): string {
  const causes: string[] = [];
  if (isCut) causes.push("the recording ends before them, so nothing is to be done");
  if (ringFull > 0) causes.push("the target's ring was full: give it more slots (--ring of run)");
  if (noMemory > 0) causes.push("there was no memory for the ring: raise the limit of its memory cgroup");
  if (noClock > 0) causes.push("their threads may not read the clock, against which no ring helps");
  if (causes.length === 0) {
    causes.push("none was dropped for want of room: a process was killed in them, or jumped out of them");
  }
  return `the records of these calls are missing; ${causes.join("; or ")}`;
}

function withoutPackets({ filter, isOneDevice, isCut }: Circumstances): string {
  if (filter === undefined) return REASON_HELP[Reason.filtered]!;
  const causes: string[] = [];
  if (isCut) causes.push("the recording ends before its packets");
  if (filter !== "default") causes.push("--filter excludes it: widen it");
  if (isOneDevice) causes.push("it passes another device than that of --interface: use any");
  if (filter === "default" && !isOneDevice) {
    causes.push("it is in another network namespace: run kqtime inside that (ip netns exec NAME kqtime …)");
  }
  if (filter === "default") causes.push("it has port 22, which --filter leaves out by default");
  return `no packet of this connection was captured; ${causes.join("; or ")}`;
}

function unseen({ filter, isOneDevice, isCut }: Circumstances): string {
  const causes: string[] = [];
  if (isCut) causes.push("the recording ends before them");
  if (filter === "parts") {
    causes.push("--filter hides packets of these connections: use one that selects whole connections");
  }
  if (isOneDevice) causes.push("they passed another device than that of --interface: use any");
  if (causes.length === 0) return REASON_HELP[Reason.unseen]!;
  return `no captured packet carried these bytes though none was lost; ${causes.join("; or ")}`;
}
