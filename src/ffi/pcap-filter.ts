// Filters of libpcap (pcap-filter(7)): the one in the kernel, and the one asked again here.
//
// `tcp` misses packets whose TCP header does not stand where the filter language looks (measured:
// 99 % of the bytes of BIG TCP over IPv6, which has a hop-by-hop header, and everything whose VLAN
// tag is still in the frame). So the kernel is given a wider filter, and what came in only by the
// widening is judged by the user's own filter after those headers were cut out.

import type { Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import {
  BPF_PROGRAM_BYTES,
  handleError,
  pcap,
  PCAP_NETMASK_UNKNOWN,
  PCAP_PKTHDR_BYTES,
  unwrap,
} from "./pcap-symbols.ts";

export const LinkType = {
  Null: 0,
  Ethernet: 1,
  Raw: 12,
  RawFile: 101,
  Loop: 108,
  LinuxCooked: 113,
  Ipv4: 228,
  Ipv6: 229,
  LinuxCooked2: 276,
} as const;

/**
 * What to let in besides the user's filter. A filter that speaks of VLANs itself decides on them
 * itself.
 */
function widening(linkType: number, filter: string): string {
  // RFC 2675: IPv6 next header 0, then the hop-by-hop header's own next header.
  const parts = ["(ip6[6] = 0 and ip6[40] = 6)"];
  if (/\bvlan\b/.test(filter)) return parts[0];
  if (linkType === LinkType.Ethernet) {
    // Outgoing with a tag that the device does not insert itself; incoming with a second tag.
    parts.push(`(${TAG_NAMED} and (link[16:2] = 0x8100 or ${behindTag(14)}))`);
  } else if (linkType === LinkType.LinuxCooked || linkType === LinkType.LinuxCooked2) {
    // The filter runs in the kernel, where the type is the tag's and the bytes begin behind an
    // outgoing tag but before the second incoming one; and over libpcap's first block, where the
    // type may be the inner one instead. libpcap translates the offsets of its made-up header.
    const start = linkType === LinkType.LinuxCooked ? 16 : 20;
    parts.push(behindTag(start), `(${TAG_NAMED} and ${tcpAt(start)})`);
  }
  return parts.join(" or ");
}

const TAG_NAMED = "(ether proto 0x8100 or ether proto 0x88a8)";

/** A VLAN tag's control information and the type behind it at `offset`, then TCP. */
function behindTag(offset: number): string {
  const type = `link[${offset + 2}:2]`;
  return `((${type} = 0x0800 or ${type} = 0x86dd) and ${tcpAt(offset + 4)})`;
}

/** An IP header with TCP right behind it, or behind a hop-by-hop header. */
function tcpAt(offset: number): string {
  const version = `link[${offset}] & 0xf0`;
  const next6 = `link[${offset + 6}]`;
  return `((${version} = 0x40 and link[${offset + 9}] = 6)` +
    ` or (${version} = 0x60 and (${next6} = 6 or (${next6} = 0 and link[${offset + 40}] = 6))))`;
}

/** Throws with libpcap's own message and the user's words. */
function notUnderstood(handle: Pointer, shown: string): never {
  const text = `the filter '${shown}' is not understood: ${handleError(handle)}`;
  throw new KQTimeError("E_PCAP_FILTER", "pcap_compile", text);
}

function compiles(handle: Pointer, program: Uint8Array, expression: string): boolean {
  return pcap().pcap_compile(handle, program, expression, 1, PCAP_NETMASK_UNKNOWN) === 0;
}

/** The user's filter, asked about single packets. */
export class OfflineFilter {
  readonly #program = new Uint8Array(new ArrayBuffer(BPF_PROGRAM_BYTES));
  readonly #header = new Uint32Array(new ArrayBuffer(PCAP_PKTHDR_BYTES));
  #dead: Pointer | null;

  /** @throws KQTimeError `E_PCAP_FILTER` */
  constructor(linkType: number, snaplenBytes: number, expression: string) {
    this.#dead = pcap().pcap_open_dead(linkType, snaplenBytes) as Pointer | null;
    if (this.#dead === null) {
      throw new KQTimeError("E_PCAP_MEMORY", "pcap_open_dead", "no memory to compile the filter");
    }
    if (compiles(this.#dead, this.#program, expression)) return;
    const dead = this.#dead;
    this.#dead = null;
    try {
      notUnderstood(dead, expression);
    } finally {
      pcap().pcap_close(dead);
    }
  }

  matches(bytes: Uint8Array, capturedBytes: number, wireBytes: number): boolean {
    if (this.#dead === null) return false;
    this.#header[4] = capturedBytes;
    this.#header[5] = wireBytes;
    return pcap().pcap_offline_filter(this.#program, this.#header, bytes) !== 0;
  }

  close(): void {
    if (this.#dead === null) return;
    pcap().pcap_freecode(this.#program);
    pcap().pcap_close(this.#dead);
    this.#dead = null;
  }
}

/** The first device of every network namespace is its loopback (net/core/dev.c). */
const LOOPBACK_INDEX = 1;

/** What these ask for is not in the packet. (In cooked ones it is, but one rule is enough.) */
const ONLY_IN_KERNEL = /\b(inbound|outbound|ifindex|ifname|type|subtype|direction)\b/;

export interface InstalledFilter {
  /** The user's filter, for what only the widening let in; null if nothing was widened. */
  readonly judge: OfflineFilter | null;
  /** Why nothing was widened, null if there is nothing to say. */
  readonly warning: string | null;
}

/**
 * Puts `filter`, widened, into the kernel for an activated handle.
 * @throws KQTimeError `E_PCAP_FILTER`
 */
export function installFilter(
  handle: Pointer,
  linkType: number,
  snaplenBytes: number,
  filter: string,
): InstalledFilter {
  const symbols = pcap();
  const own = filter.trim();
  const program = new Uint8Array(new ArrayBuffer(BPF_PROGRAM_BYTES));
  // Compiled alone first: what is wrong with it is then said about the user's words, and an
  // expression like `tcp) or (udp` cannot close a parenthesis of ours.
  if (!compiles(handle, program, own)) notUnderstood(handle, own);

  let judge: OfflineFilter | null = null;
  let warning: string | null = null;
  if (own !== "") {
    try {
      judge = ONLY_IN_KERNEL.test(own) ? null : new OfflineFilter(linkType, snaplenBytes, own);
    } catch {
      // Not known to a handle without a device: the same.
    }
    // The widening goes first: `vlan` shifts the offsets of everything to its right.
    const wider = judge === null ? `(${own})` : `(${widening(linkType, own)} or (${own}))`;
    if (judge === null) {
      warning = `the filter '${own}' cannot be asked outside the kernel: ` +
        "packets with VLAN tags or of BIG TCP may be missed";
    }
    symbols.pcap_freecode(program);
    // libpcap throws the outgoing sighting of a loopback packet away, but only after it has
    // taken room in the ring (measured: half of it).
    const compiled =
      (linkType === LinkType.LinuxCooked2 &&
        compiles(handle, program, `not (outbound and ifindex ${LOOPBACK_INDEX}) and ${wider}`)) ||
      compiles(handle, program, wider);
    if (!compiled) {
      judge?.close();
      notUnderstood(handle, own);
    }
  }
  try {
    unwrap(handle, "pcap_setfilter", symbols.pcap_setfilter(handle, program));
  } catch (error) {
    judge?.close();
    throw error;
  } finally {
    symbols.pcap_freecode(program);
  }
  return { judge, warning };
}
