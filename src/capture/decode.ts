// From a captured frame to one row of a PacketBatch: link layer, IP, TCP, and nothing else.
// Follows RFC 791, 8200, 2675 (jumbo payloads, as BIG TCP uses them), 4302, 9293; IEEE 802.1Q;
// and libpcap's pages on LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2.
// Frames are untrusted: every read is behind a check against the bytes that were captured.

import { LinkType } from "../ffi/libpcap.ts";
import { Sight, TcpFlag, type PacketBatch } from "./packets.ts";

/** What became of a frame. */
export const DecodeResult = {
  Ok: 0,
  NotTcp: 1,
  /** A piece of a TCP segment: an IP fragment, the first one included. */
  Fragment: 2,
  /** TCP as far as it goes, but the capture cut its headers off. */
  Truncated: 3,
  /** Lengths that cannot be. */
  Malformed: 4,
} as const;
export type DecodeResult = (typeof DecodeResult)[keyof typeof DecodeResult];

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_SERVICE_VLAN = 0x88a8;
const ETHERTYPE_OLD_QINQ = 0x9100;
/** Not an EtherType: what follows tells its version itself. */
const BY_VERSION = -1;

const ARPHRD_LOOPBACK = 772;
const PACKET_OUTGOING = 4;
const PACKET_OTHERHOST = 3;

const PROTOCOL_TCP = 6;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
const MOBILITY = 135;
const HOST_IDENTITY = 139;
const SHIM6 = 140;

const LINK_BYTES: Readonly<Record<number, number>> = {
  [LinkType.Ethernet]: 14,
  [LinkType.LinuxCooked2]: 20,
  [LinkType.LinuxCooked]: 16,
  [LinkType.Null]: 4,
  [LinkType.Loop]: 4,
};
const TYPE_OFFSET: Readonly<Record<number, number>> = {
  [LinkType.Ethernet]: 12,
  [LinkType.LinuxCooked2]: 0,
  [LinkType.LinuxCooked]: 14,
};

/** Decodes frames of one link type. Its fields tell more about the frame that it saw last. */
export class TcpDecoder {
  readonly linkType: number;
  /** Bytes before the network layer, without VLAN tags. */
  readonly linkBytes: number;
  /** Where the EtherType stands in a frame without VLAN tags, -1 if there is none. */
  readonly typeOffset: number;
  /** Up to the end of the TCP header, or of the header at which decoding stopped. */
  headerBytes = 0;
  /** Where the IP header begins. */
  networkOffset = 0;
  /** VLAN tags in the frame, and whether there was a hop-by-hop header: `tcp` misses such. */
  tags = 0;
  hopByHop = false;

  #interfaceIndex = 0;
  #sight: number = Sight.Unknown;

  constructor(linkType: number) {
    this.linkType = linkType;
    this.linkBytes = LINK_BYTES[linkType] ?? 0;
    this.typeOffset = TYPE_OFFSET[linkType] ?? -1;
  }

  /**
   * Decodes a frame into row `row`; the row is written only if the result is Ok, and without its
   * time. Allocates nothing.
   */
  decode(
    bytes: Uint8Array,
    capturedBytes: number,
    wireBytes: number,
    batch: PacketBatch,
    row: number,
  ): DecodeResult {
    const limit = capturedBytes < bytes.length ? capturedBytes : bytes.length;
    const wire = wireBytes > limit ? wireBytes : limit;
    this.tags = 0;
    this.hopByHop = false;
    this.headerBytes = 0;
    this.#interfaceIndex = 0;
    this.#sight = Sight.Unknown;

    let offset = this.linkBytes;
    if (limit < offset) return this.#truncated(limit);
    let type = BY_VERSION;
    if (this.typeOffset >= 0) type = (bytes[this.typeOffset] << 8) | bytes[this.typeOffset + 1];
    switch (this.linkType) {
      case LinkType.LinuxCooked2:
        this.#interfaceIndex = word(bytes, 4);
        this.#sight = sightOf(bytes[10], (bytes[8] << 8) | bytes[9]);
        break;
      case LinkType.LinuxCooked:
        this.#sight = sightOf((bytes[0] << 8) | bytes[1], (bytes[2] << 8) | bytes[3]);
        break;
      case LinkType.Ipv4:
        type = ETHERTYPE_IPV4;
        break;
      case LinkType.Ipv6:
        type = ETHERTYPE_IPV6;
        break;
    }

    if (this.linkType === LinkType.Ethernet) {
      while (isTag(type)) {
        this.tags++;
        if (limit < offset + 4) return this.#truncated(limit);
        type = (bytes[offset + 2] << 8) | bytes[offset + 3];
        offset += 4;
      }
    } else if (this.typeOffset >= 0) {
      // A cooked capture and VLAN tags: the kernel may name the tag and begin behind it, or name
      // what is behind it (6.11 on) and begin before it, so the bytes decide.
      for (;;) {
        const tagged = isTag(type);
        // The least of IP headers, to judge by.
        if (limit < offset + 20) {
          if (tagged) return this.#truncated(limit);
          break;
        }
        const inner = (bytes[offset + 2] << 8) | bytes[offset + 3];
        if (!tagged && inner !== ETHERTYPE_IPV4 && inner !== ETHERTYPE_IPV6) break;
        const direct = ipLikelihood(bytes, offset, limit, wire);
        if (isTag(inner) ? direct === 0 : innerLikelihood(bytes, offset, limit, wire) > direct) {
          this.tags++;
          offset += 4;
          type = inner;
          continue;
        }
        if (tagged) {
          this.tags++;
          type = direct === 0 ? 0 : BY_VERSION;
        }
        break;
      }
    }

    this.networkOffset = offset;
    this.headerBytes = offset;
    if (type === BY_VERSION) {
      if (limit < offset + 1) return this.#truncated(limit);
      const version = bytes[offset] >> 4;
      type = version === 4 ? ETHERTYPE_IPV4 : version === 6 ? ETHERTYPE_IPV6 : 0;
    }
    if (type === ETHERTYPE_IPV4) return this.#ipv4(bytes, limit, wire, batch, row);
    if (type === ETHERTYPE_IPV6) return this.#ipv6(bytes, limit, wire, batch, row);
    return DecodeResult.NotTcp;
  }

  /** All that was captured is header then. */
  #truncated(limit: number): DecodeResult {
    this.headerBytes = limit;
    return DecodeResult.Truncated;
  }

  #ipv4(
    bytes: Uint8Array,
    limit: number,
    wire: number,
    batch: PacketBatch,
    row: number,
  ): DecodeResult {
    const ip = this.networkOffset;
    if (limit < ip + 20) return this.#truncated(limit);
    this.headerBytes = ip + 20;
    const headerBytes = (bytes[ip] & 0x0f) << 2;
    if (bytes[ip] >> 4 !== 4 || headerBytes < 20) return DecodeResult.Malformed;
    if (bytes[ip + 9] !== PROTOCOL_TCP) return DecodeResult.NotTcp;
    // The 13 bits of the offset and "more fragments".
    if ((((bytes[ip + 6] << 8) | bytes[ip + 7]) & 0x3fff) !== 0) return DecodeResult.Fragment;
    const totalBytes = (bytes[ip + 2] << 8) | bytes[ip + 3];
    // A super-packet of 64 KiB and more has no total length (BIG TCP): all of the wire is it.
    const end = totalBytes === 0 ? wire : ip + totalBytes;
    if (end > wire) return DecodeResult.Malformed;
    const result = this.#tcp(bytes, limit, ip + headerBytes, end, batch, row);
    if (result !== DecodeResult.Ok) return result;
    const at = row * 4;
    batch.source[at] = 0;
    batch.source[at + 1] = 0;
    batch.source[at + 2] = 0xffff;
    batch.source[at + 3] = word(bytes, ip + 12);
    batch.destination[at] = 0;
    batch.destination[at + 1] = 0;
    batch.destination[at + 2] = 0xffff;
    batch.destination[at + 3] = word(bytes, ip + 16);
    return DecodeResult.Ok;
  }

  #ipv6(
    bytes: Uint8Array,
    limit: number,
    wire: number,
    batch: PacketBatch,
    row: number,
  ): DecodeResult {
    const ip = this.networkOffset;
    if (limit < ip + 40) return this.#truncated(limit);
    this.headerBytes = ip + 40;
    if (bytes[ip] >> 4 !== 6) return DecodeResult.Malformed;
    const payloadBytes = (bytes[ip + 4] << 8) | bytes[ip + 5];
    // A jumbo payload: its length stands in a hop-by-hop option, or nowhere; the wire knows it.
    const end = payloadBytes === 0 ? wire : ip + 40 + payloadBytes;
    let next = bytes[ip + 6];
    let offset = ip + 40;
    // Each turn moves on by 8 bytes at least, and stops at `limit`.
    while (next !== PROTOCOL_TCP) {
      switch (next) {
        case HOP_BY_HOP:
        case ROUTING:
        case DESTINATION_OPTIONS:
        case MOBILITY:
        case HOST_IDENTITY:
        case SHIM6:
        case AUTHENTICATION:
        case FRAGMENT:
          break;
        default:
          return DecodeResult.NotTcp;
      }
      if (limit < offset + 8) return this.#truncated(limit);
      this.headerBytes = offset + 8;
      const header = next;
      next = bytes[offset];
      if (header === FRAGMENT) {
        const pieces = ((bytes[offset + 2] << 8) | bytes[offset + 3]) & 0xfff9;
        // 0: an atomic fragment, whole (RFC 6946).
        if (pieces !== 0) {
          return next === PROTOCOL_TCP ? DecodeResult.Fragment : DecodeResult.NotTcp;
        }
        offset += 8;
      } else if (header === AUTHENTICATION) {
        offset += (bytes[offset + 1] + 2) << 2;
      } else {
        if (header === HOP_BY_HOP && offset === ip + 40) this.hopByHop = true;
        offset += (bytes[offset + 1] + 1) << 3;
      }
    }
    if (end > wire) return DecodeResult.Malformed;
    const result = this.#tcp(bytes, limit, offset, end, batch, row);
    if (result !== DecodeResult.Ok) return result;
    const at = row * 4;
    for (let i = 0; i < 4; i++) {
      batch.source[at + i] = word(bytes, ip + 8 + i * 4);
      batch.destination[at + i] = word(bytes, ip + 24 + i * 4);
    }
    return DecodeResult.Ok;
  }

  /** The segment from `tcp` to `end` (on the wire). */
  #tcp(
    bytes: Uint8Array,
    limit: number,
    tcp: number,
    end: number,
    batch: PacketBatch,
    row: number,
  ): DecodeResult {
    if (end < tcp + 20) return DecodeResult.Malformed;
    if (limit < tcp + 20) return this.#truncated(limit);
    this.headerBytes = tcp + 20;
    const headerBytes = (bytes[tcp + 12] >> 4) << 2;
    if (headerBytes < 20 || tcp + headerBytes > end) return DecodeResult.Malformed;
    this.headerBytes = tcp + headerBytes;
    const flags = bytes[tcp + 13];
    batch.sourcePort[row] = (bytes[tcp] << 8) | bytes[tcp + 1];
    batch.destinationPort[row] = (bytes[tcp + 2] << 8) | bytes[tcp + 3];
    // SYN takes a sequence number of its own, before the data of a fast open. Wraps as u32.
    batch.sequence[row] = word(bytes, tcp + 4) + ((flags & TcpFlag.SYN) !== 0 ? 1 : 0);
    batch.acknowledgment[row] = word(bytes, tcp + 8);
    batch.payloadBytes[row] = end - tcp - headerBytes;
    batch.flags[row] = flags;
    batch.interfaceIndex[row] = this.#interfaceIndex;
    batch.sight[row] = this.#sight;
    return DecodeResult.Ok;
  }
}

/** Big-endian u32. */
function word(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0
  );
}

/**
 * `packet(7)` sll_pkttype. On loopback one sighting, handed over as incoming, is departure and
 * arrival at once.
 */
function sightOf(packetType: number, hardwareType: number): number {
  if (hardwareType === ARPHRD_LOOPBACK) return Sight.Unknown;
  if (packetType === PACKET_OUTGOING) return Sight.Out;
  return packetType <= PACKET_OTHERHOST ? Sight.In : Sight.Unknown;
}

function isTag(type: number): boolean {
  return type === ETHERTYPE_VLAN || type === ETHERTYPE_SERVICE_VLAN || type === ETHERTYPE_OLD_QINQ;
}

/** How much the bytes at `at` look like an IP header before TCP: 0 not, 1 well, 2 to the byte. */
function ipLikelihood(bytes: Uint8Array, at: number, limit: number, wire: number): number {
  if (limit < at + 20) return 0;
  const version = bytes[at] >> 4;
  if (version === 4) {
    const headerBytes = (bytes[at] & 0x0f) << 2;
    if (headerBytes < 20 || bytes[at + 9] !== PROTOCOL_TCP) return 0;
    const totalBytes = (bytes[at + 2] << 8) | bytes[at + 3];
    if (totalBytes === 0) return 1;
    if (totalBytes < headerBytes + 20) return 0;
    return at + totalBytes === wire ? 2 : at + totalBytes < wire ? 1 : 0;
  }
  if (version !== 6) return 0;
  const payloadBytes = (bytes[at + 4] << 8) | bytes[at + 5];
  const next = bytes[at + 6];
  if (payloadBytes === 0) return next === HOP_BY_HOP || next === PROTOCOL_TCP ? 1 : 0;
  const end = at + 40 + payloadBytes;
  return end === wire ? 2 : end < wire ? 1 : 0;
}

/** The same behind a VLAN tag at `at`, which names the version. */
function innerLikelihood(bytes: Uint8Array, at: number, limit: number, wire: number): number {
  const inner = (bytes[at + 2] << 8) | bytes[at + 3];
  const version = bytes[at + 4] >> 4;
  const named = inner === ETHERTYPE_IPV4 ? 4 : inner === ETHERTYPE_IPV6 ? 6 : -1;
  return version === named ? ipLikelihood(bytes, at + 4, limit, wire) : 0;
}
