// What the wire shows of one four-tuple: the flow, and the connections that it meant one after the
// other.

import type { Connection } from "./connection.ts";
import { type CaptureDrops, Sightings } from "./sightings.ts";

/** A connection as the wire shows it, seen from one of its ends (the local one). */
export class Instance {
  // First what is looked at for each packet: it is together in the processor's cache then.
  readonly out: Sightings;
  readonly in: Sightings;
  connection: Connection | null = null;
  /** Segments are kept for a socket that is there or expected. */
  keep: boolean;
  /** The initiator answered the SYN-ACK: accept may return it. */
  established = false;
  /**
   * Urgent data arrived: from this offset on, where the first segment began that told of it, what is
   * read and what arrives are not numbered alike, and what arrives is not sighted.
   */
  urgentFrom = Infinity;
  resetOut = false;
  resetIn = false;
  /** Time of the last packet, ns. */
  lastNs: number;

  readonly flow: Flow;
  /** Time of the SYN-ACK, ns. */
  readonly timeNs: number;
  readonly firstOut: number;
  readonly firstIn: number;
  /** They were kept, and became too many. */
  isShed = false;
  /** Where it is remembered while no socket has claimed it. */
  slot = -1;

  constructor(
    flow: Flow,
    timeNs: number,
    firstOut: number,
    firstIn: number,
    keep: boolean,
    drops: CaptureDrops,
    /** The SYN-ACK was sent here. */
    readonly responder: boolean,
  ) {
    this.flow = flow;
    this.timeNs = timeNs;
    this.lastNs = timeNs;
    this.firstOut = firstOut;
    this.firstIn = firstIn;
    this.keep = keep;
    this.out = new Sightings(firstOut, drops.drained);
    this.in = new Sightings(firstIn, drops.drained);
  }

  /** Nothing more can come: both FINs and what was before them, or a reset. */
  get ended(): boolean {
    if (this.resetOut || this.resetIn) return true;
    const { out, in: inbound } = this;
    return (
      out.finAt >= 0 &&
      inbound.finAt >= 0 &&
      out.acknowledged > out.finAt &&
      inbound.acknowledged > inbound.finAt
    );
  }
}

/** A four-tuple, seen from its local end. */
export class Flow {
  /** The instance that packets belong to. */
  current: Instance | null = null;
  /** A socket that is older than the capture and not anchored yet: its packets are kept. */
  older: Connection | null = null;
  readonly local: Uint32Array;
  readonly remote: Uint32Array;
  readonly localPort: number;
  readonly remotePort: number;
  /** Instances that no socket has claimed, oldest first. */
  readonly unbound: Instance[] = [];
  /** Sockets that are not yet found on the wire, oldest first. */
  readonly awaiting: Connection[] = [];
  /** Sockets that are settled later than their flow: keeps the flow in the map. */
  bound = 0;
  /** Packets of this tuple that no instance explains. */
  strays = 0;
  /** Data in a SYN (RFC 7413): sequence number, bytes (0: none), time, whether it was sent here. */
  synSequence = 0;
  synBytes = 0;
  synNs = 0;
  synDevice = 0;
  synOut = false;
  /** In the list of flows whose sockets are still to be paired. */
  listed = false;

  constructor(
    local: Uint32Array,
    l: number,
    localPort: number,
    remote: Uint32Array,
    r: number,
    remotePort: number,
  ) {
    this.local = local.slice(l, l + 4);
    this.remote = remote.slice(r, r + 4);
    this.localPort = localPort;
    this.remotePort = remotePort;
  }
}
