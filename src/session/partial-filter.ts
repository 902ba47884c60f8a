// Whether a capture filter picks packets out of connections, as far as its text tells: by their length,
// bytes or direction. The handshakes of others bound what is missing; a socket that is older than the
// capture is only known by its packets.
//
// Source: pcap-filter(7).

import type { FilterKind } from "../output/advice.ts";

export const DEFAULT_FILTER = "tcp and not port 22";

const BY_PACKET = /\b(?:greater|less|len|inbound|outbound)\b|\[/;
/** `src or dst` is what there is without a word, too. */
const BOTH_ENDS = /\bsrc\s+(?:or|\|\|)\s+dst\b/g;
const BY_END = /\b(?:src|dst)\b/;

export function picksPackets(filter: string): boolean {
  return BY_PACKET.test(filter);
}

/** What a filter may be to blame for: see `Circumstances`. */
export function filterKind(filter: string): FilterKind {
  if (filter === DEFAULT_FILTER) return "default";
  const isByEnd = BY_END.test(filter.replace(BOTH_ENDS, ""));
  return picksPackets(filter) || isByEnd ? "parts" : "whole";
}
