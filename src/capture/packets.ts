// What a capture hands to the join: one row a TCP segment, struct of arrays, no payload.

/** TCP flags as they stand in byte 13 of the header (RFC 9293 §3.1). */
export const TcpFlag = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 } as const;

/** Direction of a sighting, from the link layer where it says so (`packet(7)` sll_pkttype). */
export const Sight = { Unknown: 0, In: 1, Out: 2 } as const;

/**
 * A batch of decoded TCP segments. Addresses are four u32 words in network order (word value =
 * big-endian reading of its four bytes), IPv4 as IPv4-mapped IPv6.
 */
export class PacketBatch {
  readonly capacity: number;
  /** Rows in use. */
  count = 0;
  /** Capture time, ns relative to the session's start (may be negative). */
  readonly timeNs: Float64Array;
  /** Row i: source in [4i, 4i+4). */
  readonly source: Uint32Array;
  readonly destination: Uint32Array;
  readonly sourcePort: Uint16Array;
  readonly destinationPort: Uint16Array;
  /** Sequence number of the first payload byte: the segment's, plus one if it carries SYN. */
  readonly sequence: Uint32Array;
  readonly acknowledgment: Uint32Array;
  /** TCP payload bytes on the wire (from the IP length, or the wire length of a super-packet). */
  readonly payloadBytes: Uint32Array;
  readonly flags: Uint8Array;
  /** Interface index, 0 if the link type does not tell. */
  readonly interfaceIndex: Uint32Array;
  /** A value of `Sight`. */
  readonly sight: Uint8Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.timeNs = new Float64Array(capacity);
    this.source = new Uint32Array(capacity * 4);
    this.destination = new Uint32Array(capacity * 4);
    this.sourcePort = new Uint16Array(capacity);
    this.destinationPort = new Uint16Array(capacity);
    this.sequence = new Uint32Array(capacity);
    this.acknowledgment = new Uint32Array(capacity);
    this.payloadBytes = new Uint32Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.interfaceIndex = new Uint32Array(capacity);
    this.sight = new Uint8Array(capacity);
  }
}
