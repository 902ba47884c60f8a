// What the kernel knows of every TCP socket, in one pass: buffers, queues and tcp_info(7), as
// `ss -mi` shows them. A dump of sock_diag(7) takes about a microsecond a socket, and the target nothing.
//
// Source: linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h (struct tcp_info),
// net/ipv4/tcp_diag.c, net/core/sock.c (sk_get_meminfo).

import { SocketField } from "../output/socket-fields.ts";
import { STATES_WITH_BYTES, TcpState } from "./netlink.ts";
import { NETLINK_SOCK_DIAG, NetlinkSocket } from "./netlink-socket.ts";

const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
const REQUEST_BYTES = 16 + 56;
const MESSAGE_BYTES = 72;
const INET_DIAG_INFO = 2;
const INET_DIAG_SKMEMINFO = 7;
const SK_MEMINFO_RCVBUF = 4;
const SK_MEMINFO_SNDBUF = 12;
// struct tcp_info
const INFO_MSS = 16;
const INFO_RTT = 68;
const INFO_RTTVAR = 72;
const INFO_CWND = 80;
const INFO_TOTAL_RETRANS = 100;
const INFO_NOT_SENT = 144;
const INFO_MIN_RTT = 148;
const INFO_DELIVERY_RATE = 160;
const INFO_BUSY = 168;
const INFO_RWND_LIMITED = 176;
const INFO_SNDBUF_LIMITED = 184;
const FIN_RECEIVED: readonly number[] = [TcpState.CloseWait, TcpState.Closing, TcpState.LastAck];
const TWO_TO_32 = 2 ** 32;
const STRIDE = SocketField.count;

export class SocketStats {
  /** Sockets that the last pass found; rows of `values`, `SocketField.count` numbers each. */
  count = 0;
  values = new Float64Array(64 * STRIDE);
  readonly #rows = new Map<number, number>();
  readonly #socket = new NetlinkSocket(NETLINK_SOCK_DIAG, "sock_diag");
  readonly #request = new Uint8Array(new ArrayBuffer(REQUEST_BYTES));
  readonly #reader = (view: DataView, offset: number, end: number, type: number): void =>
    this.#read(view, offset, end, type);

  constructor() {
    // struct inet_diag_req_v2
    const view = new DataView(this.#request.buffer);
    view.setUint8(17, IPPROTO_TCP);
    view.setUint8(18, (1 << (INET_DIAG_INFO - 1)) | (1 << (INET_DIAG_SKMEMINFO - 1)));
    view.setUint32(20, STATES_WITH_BYTES & ~(1 << TcpState.SynReceived), true);
  }

  /**
   * Reads the sockets of this network namespace that a process has.
   * @throws KQTimeError `E_NETLINK`
   */
  read(): void {
    this.count = 0;
    this.#rows.clear();
    for (const family of [AF_INET, AF_INET6]) {
      const first = this.count;
      const begin = (): void => {
        // What an attempt that is repeated had found may be gone.
        for (const [inode, row] of this.#rows) if (row >= first) this.#rows.delete(inode);
        this.count = first;
      };
      this.#request[16] = family;
      this.#socket.dump(SOCK_DIAG_BY_FAMILY, this.#request, begin, this.#reader);
    }
  }

  /** Index in `values` of the first number of a socket, by its file's inode; -1: it was not found. */
  find(inode: number): number {
    const row = this.#rows.get(inode >>> 0);
    return row === undefined || row >= this.count ? -1 : row * STRIDE;
  }

  close(): void {
    this.#socket.close();
  }

  /** struct inet_diag_msg, and its attributes behind it */
  #read(view: DataView, offset: number, end: number, type: number): void {
    if (type !== SOCK_DIAG_BY_FAMILY || end - offset < MESSAGE_BYTES) return;
    const inode = view.getUint32(offset + 68, true);
    if (inode === 0) return;
    const row = this.count++;
    const at = row * STRIDE;
    if (at + STRIDE > this.values.length) this.#grow();
    const { values } = this;
    values.fill(-1, at, at + STRIDE);
    this.#rows.set(inode, row);
    const queued = view.getUint32(offset + 56, true);
    // A FIN counts as one until the end was read.
    const fin = FIN_RECEIVED.includes(view.getUint8(offset + 1)) && queued > 0 ? 1 : 0;
    values[at + SocketField.receiveQueueBytes] = queued - fin;
    values[at + SocketField.sendQueueBytes] = view.getUint32(offset + 60, true);
    for (let attribute = offset + MESSAGE_BYTES; attribute + 4 <= end; ) {
      const bytes = view.getUint16(attribute, true);
      const stop = attribute + bytes;
      if (bytes < 4 || stop > end) return;
      const kind = view.getUint16(attribute + 2, true);
      if (kind === INET_DIAG_INFO) readInfo(view, attribute + 4, stop, values, at);
      else if (kind === INET_DIAG_SKMEMINFO && bytes >= 4 + SK_MEMINFO_SNDBUF + 4) {
        const memory = attribute + 4;
        values[at + SocketField.receiveBufferBytes] = view.getUint32(memory + SK_MEMINFO_RCVBUF, true);
        values[at + SocketField.sendBufferBytes] = view.getUint32(memory + SK_MEMINFO_SNDBUF, true);
      }
      attribute += (bytes + 3) & ~3;
    }
  }

  #grow(): void {
    const larger = new Float64Array(this.values.length * 2);
    larger.set(this.values);
    this.values = larger;
  }
}

function readInfo(view: DataView, info: number, end: number, values: Float64Array, at: number): void {
  const u32 = (field: number, from: number): void => {
    if (info + from + 4 <= end) values[at + field] = view.getUint32(info + from, true);
  };
  const u64 = (field: number, from: number): void => {
    if (info + from + 8 > end) return;
    values[at + field] =
      view.getUint32(info + from, true) + view.getUint32(info + from + 4, true) * TWO_TO_32;
  };
  u32(SocketField.mssBytes, INFO_MSS);
  u32(SocketField.rttUs, INFO_RTT);
  u32(SocketField.rttvarUs, INFO_RTTVAR);
  u32(SocketField.cwndSegments, INFO_CWND);
  u32(SocketField.retransmittedSegments, INFO_TOTAL_RETRANS);
  u32(SocketField.unsentBytes, INFO_NOT_SENT);
  u32(SocketField.minRttUs, INFO_MIN_RTT);
  u64(SocketField.deliveryBytesPerSec, INFO_DELIVERY_RATE);
  u64(SocketField.busyUs, INFO_BUSY);
  u64(SocketField.receiveWindowLimitedUs, INFO_RWND_LIMITED);
  u64(SocketField.sendBufferLimitedUs, INFO_SNDBUF_LIMITED);
}
