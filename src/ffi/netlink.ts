// What the kernel knows and packets don't: how full each TCP socket's buffers are (sock_diag(7),
// as ss(8) asks it) and which interface lies on which (rtnetlink(7), as ip(8) asks it).

import { NETLINK_ROUTE, NETLINK_SOCK_DIAG, NetlinkSocket } from "./netlink-socket.ts";

/** One TCP socket. Addresses as in PacketBatch: four words in network order, IPv4 mapped. */
export interface SocketQueue {
  readonly localWords: Uint32Array;
  readonly remoteWords: Uint32Array;
  localPort: number;
  remotePort: number;
  /** A value of `TcpState`. */
  state: number;
  /** Bytes written by the application and not yet acknowledged by the peer. */
  sendQueueBytes: number;
  /** Bytes received in order and not yet read; of a listening socket, connections to accept. */
  receiveQueueBytes: number;
  /** Of the socket's file; 0 once no process has it. */
  inode: number;
  /** Index of the interface that it is bound to; 0: none. */
  device: number;
}

/** net/tcp_states.h */
export const TcpState = {
  Established: 1,
  SynSent: 2,
  SynReceived: 3,
  FinWait1: 4,
  FinWait2: 5,
  TimeWait: 6,
  Close: 7,
  CloseWait: 8,
  LastAck: 9,
  Listen: 10,
  Closing: 11,
} as const;

export interface PortFilter {
  /** Only sockets with this local port; 0 or absent: any. Applied by the kernel. */
  readonly localPort?: number;
  readonly remotePort?: number;
  /** Bits of `TcpState`; absent: every state that can hold bytes. */
  readonly states?: number;
}

/** A network interface of this network namespace. */
export interface NetworkInterface {
  readonly index: number;
  readonly name: string;
  /** The bridge, bond, … that it is a port of; 0: none. */
  readonly master: number;
  /** The interface it lies on, if that is in this namespace; 0: none. */
  readonly link: number;
  /** `bridge`, `vlan`, `veth`, …; empty for hardware and `lo`. */
  readonly kind: string;
  /** Mode of a macvlan or macvtap (IFLA_MACVLAN_MODE) or ipvlan; 0: none. */
  readonly mode: number;
  /** Packets lost in the interface: no buffer of its own was free (missed and FIFO errors). */
  readonly receiveDrops: number;
}

// linux/inet_diag.h, linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
const DIAG_REQUEST_BYTES = 16 + 56;
const DIAG_MESSAGE_BYTES = 72;
/** Every state that can hold bytes of an application: not LISTEN and not TIME_WAIT. */
export const STATES_WITH_BYTES = ~((1 << TcpState.Listen) | (1 << TcpState.TimeWait)) & 0xfff;

// linux/rtnetlink.h, linux/if_link.h
const RTM_GETLINK = 18;
const RTM_NEWLINK = 16;
const LINK_REQUEST_BYTES = 16 + 16 + 8;
const IFINFO_BYTES = 16;
const NLA_TYPE_MASK = 0x3fff;
const IFLA_IFNAME = 3;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_STATS64 = 23;
const IFLA_EXT_MASK = 29;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_MODE = 1; // IFLA_MACVLAN_MODE and IFLA_IPVLAN_MODE
/** struct rtnl_link_stats64: u64s, of which the 15th and 16th. */
const STATS64_RX_FIFO = 14 * 8;
const STATS64_RX_MISSED = 15 * 8;
const RTEXT_FILTER_SKIP_STATS = 8;
const TWO_TO_32 = 2 ** 32;

const diag = new NetlinkSocket(NETLINK_SOCK_DIAG, "sock_diag");
const route = new NetlinkSocket(NETLINK_ROUTE, "rtnetlink");

let diagRequest: Uint8Array | null = null;
const rows: SocketQueue[] = [];
const rowPool: SocketQueue[] = [];

/**
 * The queues of this network namespace's TCP sockets (IPv4 and IPv6), without listening ones and
 * TIME_WAIT. The array and its rows are used again by the next call.
 * @throws KQTimeError `E_NETLINK`
 */
export function socketQueues(filter: PortFilter = {}): readonly SocketQueue[] {
  diagRequest ??= new Uint8Array(new ArrayBuffer(DIAG_REQUEST_BYTES));
  const view = new DataView(diagRequest.buffer);
  // struct inet_diag_req_v2
  view.setUint8(17, IPPROTO_TCP);
  view.setUint32(20, filter.states ?? STATES_WITH_BYTES, true);
  view.setUint16(24, filter.localPort ?? 0);
  view.setUint16(26, filter.remotePort ?? 0);
  let start = 0;
  rows.length = 0;
  const begin = (): void => {
    rows.length = start;
  };
  view.setUint8(16, AF_INET);
  diag.dump(SOCK_DIAG_BY_FAMILY, diagRequest, begin, readSocket);
  start = rows.length;
  view.setUint8(16, AF_INET6);
  diag.dump(SOCK_DIAG_BY_FAMILY, diagRequest, begin, readSocket);
  return rows;
}

/** struct inet_diag_msg */
function readSocket(view: DataView, offset: number, end: number, type: number): void {
  if (type !== SOCK_DIAG_BY_FAMILY || end - offset < DIAG_MESSAGE_BYTES) return;
  const index = rows.length;
  let row = rowPool[index];
  if (row === undefined) {
    row = {
      localWords: new Uint32Array(4),
      remoteWords: new Uint32Array(4),
      localPort: 0,
      remotePort: 0,
      state: 0,
      sendQueueBytes: 0,
      receiveQueueBytes: 0,
      inode: 0,
      device: 0,
    };
    rowPool.push(row);
  }
  const family = view.getUint8(offset);
  row.state = view.getUint8(offset + 1);
  row.localPort = view.getUint16(offset + 4);
  row.remotePort = view.getUint16(offset + 6);
  readAddress(view, offset + 8, family, row.localWords);
  readAddress(view, offset + 24, family, row.remoteWords);
  row.receiveQueueBytes = view.getUint32(offset + 56, true);
  row.sendQueueBytes = view.getUint32(offset + 60, true);
  row.inode = view.getUint32(offset + 68, true);
  row.device = view.getUint32(offset + 40, true);
  rows.push(row);
}

function readAddress(view: DataView, offset: number, family: number, words: Uint32Array): void {
  if (family === AF_INET) {
    words[0] = 0;
    words[1] = 0;
    words[2] = 0xffff;
    words[3] = view.getUint32(offset);
    return;
  }
  for (let i = 0; i < 4; i++) words[i] = view.getUint32(offset + i * 4);
}

/**
 * The interfaces of this network namespace.
 * @throws KQTimeError `E_NETLINK`
 */
export function interfaces(): NetworkInterface[] {
  return links(RTEXT_FILTER_SKIP_STATS);
}

/**
 * Packets that an interface lost for want of a buffer since it exists; of all for `any`. 0 if it
 * does not exist. (libpcap's own count of these stays 0 unless the capture is promiscuous.)
 * @throws KQTimeError `E_NETLINK`
 */
export function interfaceDrops(name: string): number {
  let drops = 0;
  for (const device of links(0)) {
    if (name === "any" || device.name === name) drops += device.receiveDrops;
  }
  return drops;
}

/** Closes the sockets that are kept; they open again on the next question. */
export function closeNetlink(): void {
  diag.close();
  route.close();
}

function links(extensionMask: number): NetworkInterface[] {
  const request = new Uint8Array(new ArrayBuffer(LINK_REQUEST_BYTES));
  const view = new DataView(request.buffer);
  view.setUint16(32, 8, true);
  view.setUint16(34, IFLA_EXT_MASK, true);
  view.setUint32(36, extensionMask, true);
  const found: NetworkInterface[] = [];
  const begin = (): void => {
    found.length = 0;
  };
  route.dump(RTM_GETLINK, request, begin, (message, offset, end, type) => {
    if (type !== RTM_NEWLINK || end - offset < IFINFO_BYTES) return;
    found.push(readLink(message, offset, end));
  });
  return found;
}

function readLink(view: DataView, offset: number, end: number): NetworkInterface {
  // struct ifinfomsg: family u8, pad, type u16, index i32, flags, change
  const index = view.getInt32(offset + 4, true);
  let name = "";
  let master = 0;
  let link = 0;
  let elsewhere = false;
  let kind = "";
  let mode = 0;
  let receiveDrops = 0;
  for (let at = offset + IFINFO_BYTES; at + 4 <= end; ) {
    const bytes = view.getUint16(at, true);
    const stop = at + bytes;
    if (bytes < 4 || stop > end) break;
    const body = at + 4;
    switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
      case IFLA_IFNAME:
        name = text(view, body, stop);
        break;
      case IFLA_LINK:
        if (stop - body >= 4) link = view.getInt32(body, true);
        break;
      case IFLA_LINK_NETNSID:
        elsewhere = true;
        break;
      case IFLA_MASTER:
        if (stop - body >= 4) master = view.getInt32(body, true);
        break;
      case IFLA_LINKINFO: {
        const kindAt = attribute(view, body, stop, IFLA_INFO_KIND);
        if (kindAt >= 0) kind = text(view, kindAt + 4, kindAt + view.getUint16(kindAt, true));
        const dataAt = attribute(view, body, stop, IFLA_INFO_DATA);
        if (dataAt >= 0 && /^(mac|ip)v(lan|tap)$/.test(kind)) {
          const dataEnd = dataAt + view.getUint16(dataAt, true);
          const modeAt = attribute(view, dataAt + 4, dataEnd, IFLA_MODE);
          if (modeAt >= 0) mode = view.getUint16(modeAt + 4, true);
        }
        break;
      }
      case IFLA_STATS64:
        if (stop - body >= STATS64_RX_MISSED + 8) {
          receiveDrops = u64(view, body + STATS64_RX_FIFO) + u64(view, body + STATS64_RX_MISSED);
        }
        break;
    }
    at += (bytes + 3) & ~3;
  }
  // An interface that lies on nothing names itself; a link of another namespace has an index there.
  if (elsewhere || link === index) link = 0;
  return { index, name, master, link, kind, mode, receiveDrops };
}

/** Where an attribute of that type begins, or -1. */
function attribute(view: DataView, from: number, end: number, wanted: number): number {
  for (let at = from; at + 4 <= end; ) {
    const bytes = view.getUint16(at, true);
    if (bytes < 4 || at + bytes > end) return -1;
    if ((view.getUint16(at + 2, true) & NLA_TYPE_MASK) === wanted) return at;
    at += (bytes + 3) & ~3;
  }
  return -1;
}

function text(view: DataView, from: number, end: number): string {
  const bytes = new Uint8Array(view.buffer, from, end - from);
  const stop = bytes.indexOf(0);
  return new TextDecoder().decode(stop < 0 ? bytes : bytes.subarray(0, stop));
}

function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_TO_32;
}
