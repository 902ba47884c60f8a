// What the kernel has counted of one TCP socket, asked for by its four-tuple (sock_diag(7) without
// NLM_F_DUMP: one look into the hash table, some microseconds whatever else the host has open).
//
// The counters tie stream offsets to sequence numbers without a look at a call: tcpi_bytes_acked
// moves with snd_una and tcpi_bytes_received with rcv_nxt (net/ipv4/tcp_input.c,
// tcp_snd_una_update and tcp_rcv_nxt_update), both read under the socket's lock.
//
// Source: linux/inet_diag.h, linux/tcp.h (struct tcp_info), net/ipv4/tcp_diag.c.

import { realtimeNs } from "./clocks.ts";
import { NETLINK_SOCK_DIAG, NetlinkSocket } from "./netlink-socket.ts";

/** Numbers of `TcpCounters.values`; the last of two readings where it says nothing else. */
export const Counter = {
  /** CLOCK_REALTIME around the readings, ns relative to the base that was asked for. */
  beforeNs: 0,
  afterNs: 1,
  /** 1: two readings agree in everything, so that all numbers are of one moment; else 0. */
  steady: 2,
  /** A value of `TcpState`. */
  state: 3,
  /** Of the sent ones, acknowledged: a SYN that was sent and a FIN count as one each. */
  ackedBytes: 4,
  /** Received in order; a FIN counts as one. */
  receivedBytes: 5,
  /** Written and not acknowledged; a FIN counts as one. */
  sendQueueBytes: 6,
  /** Of these, never sent yet. */
  notSentBytes: 7,
  /** Received in order and not read; a FIN counts as one until the end was read. */
  receiveQueueBytes: 8,
  count: 9,
} as const;

const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
const REQUEST_BYTES = 16 + 56;
const MESSAGE_BYTES = 72;
const INET_DIAG_INFO = 2;
const NO_COOKIE = 0xffffffff;
// struct tcp_info
const INFO_BYTES_ACKED = 120;
const INFO_BYTES_RECEIVED = 128;
const INFO_SEGMENTS_OUT = 136;
const INFO_SEGMENTS_IN = 140;
const INFO_NOT_SENT = 144;
const INFO_LEAST_BYTES = 148;
const TWO_TO_32 = 2 ** 32;
const MAPPED = 0xffff;

/** Which socket: addresses as in PacketBatch, four words in network order, IPv4 mapped. */
export interface SocketTuple {
  readonly local: Uint32Array;
  readonly remote: Uint32Array;
  readonly lport: number;
  readonly rport: number;
  /** Of the socket's file. */
  readonly inode: number;
}

const SEGMENTS_IN = Counter.count;
const SEGMENTS_OUT = Counter.count + 1;

export class TcpCounters {
  /** What was read; see `Counter`. */
  readonly values = new Float64Array(Counter.count + 2);
  readonly #first = new Float64Array(Counter.count + 2);
  readonly #socket = new NetlinkSocket(NETLINK_SOCK_DIAG, "sock_diag");
  readonly #request = new Uint8Array(new ArrayBuffer(REQUEST_BYTES));
  readonly #view = new DataView(this.#request.buffer);
  #into: Float64Array = this.values;
  #inode = 0;
  #complete = false;
  readonly #reader = (view: DataView, offset: number, end: number, type: number): void =>
    this.#read(view, offset, end, type);

  /**
   * Reads the counters of a socket of this network namespace, twice, into `values`. False if there
   * is no such socket here (any more), or if the kernel does not count (before Linux 4.6).
   * @param device Index of the interface that it is bound to, 0: none.
   * @throws KQTimeError `E_NETLINK`
   */
  read(tuple: SocketTuple, device: number, baseSec: number): boolean {
    this.#ask(tuple, device);
    const beforeNs = realtimeNs(baseSec);
    if (!this.#one(this.#first) || !this.#one(this.values)) return false;
    const { values } = this;
    const first = this.#first;
    let steady = 1;
    for (let i = Counter.state; i < values.length; i++) if (values[i] !== first[i]) steady = 0;
    values[Counter.beforeNs] = beforeNs;
    values[Counter.afterNs] = realtimeNs(baseSec);
    values[Counter.steady] = steady;
    return true;
  }

  close(): void {
    this.#socket.close();
  }

  /** struct inet_diag_req_v2 */
  #ask(tuple: SocketTuple, device: number): void {
    const view = this.#view;
    const { local, remote } = tuple;
    const four = local[0] === 0 && local[1] === 0 && local[2] === MAPPED;
    view.setUint8(16, four ? AF_INET : AF_INET6);
    view.setUint8(17, IPPROTO_TCP);
    view.setUint8(18, 1 << (INET_DIAG_INFO - 1));
    view.setUint32(20, 0xffffffff, true);
    view.setUint16(24, tuple.lport);
    view.setUint16(26, tuple.rport);
    for (let word = 0; word < 4; word++) {
      const from = four ? (word === 0 ? 3 : -1) : word;
      view.setUint32(28 + word * 4, from < 0 ? 0 : local[from]!);
      view.setUint32(44 + word * 4, from < 0 ? 0 : remote[from]!);
    }
    view.setUint32(60, device, true);
    view.setUint32(64, NO_COOKIE, true);
    view.setUint32(68, NO_COOKIE, true);
    this.#inode = tuple.inode;
  }

  #one(into: Float64Array): boolean {
    this.#into = into;
    this.#complete = false;
    this.#socket.ask(SOCK_DIAG_BY_FAMILY, this.#request, this.#reader);
    return this.#complete;
  }

  /** struct inet_diag_msg, and the attribute INET_DIAG_INFO behind it */
  #read(view: DataView, offset: number, end: number, type: number): void {
    if (type !== SOCK_DIAG_BY_FAMILY || end - offset < MESSAGE_BYTES) return;
    const inode = view.getUint32(offset + 68, true);
    // The four-tuple may be another socket's by now. One that no process has any more has no inode.
    if (inode !== 0 && inode !== this.#inode >>> 0) return;
    const into = this.#into;
    into[Counter.state] = view.getUint8(offset + 1);
    into[Counter.receiveQueueBytes] = view.getUint32(offset + 56, true);
    into[Counter.sendQueueBytes] = view.getUint32(offset + 60, true);
    for (let at = offset + MESSAGE_BYTES; at + 4 <= end; ) {
      const bytes = view.getUint16(at, true);
      if (bytes < 4 || at + bytes > end) return;
      if (view.getUint16(at + 2, true) === INET_DIAG_INFO && bytes - 4 >= INFO_LEAST_BYTES) {
        const info = at + 4;
        into[Counter.ackedBytes] = u64(view, info + INFO_BYTES_ACKED);
        into[Counter.receivedBytes] = u64(view, info + INFO_BYTES_RECEIVED);
        into[Counter.notSentBytes] = view.getUint32(info + INFO_NOT_SENT, true);
        into[SEGMENTS_OUT] = view.getUint32(info + INFO_SEGMENTS_OUT, true);
        into[SEGMENTS_IN] = view.getUint32(info + INFO_SEGMENTS_IN, true);
        this.#complete = true;
        return;
      }
      at += (bytes + 3) & ~3;
    }
  }
}

function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_TO_32;
}
