// What the caller of the API gives, and how that becomes what the collector is told.

import { isIP } from "node:net";
import { KQTimeError } from "../errors.ts";
import { Constant } from "../ring/layout.ts";

/** Options of `KQTime.open`; all of them may be left out. */
export interface OpenOptions {
  /**
   * File that gets a line for each call on a registered socket: made with mode 0600, appended to,
   * compressed if it ends in `.gz`; a symbolic link is not followed. This process opens it, with
   * its own rights. None: no log; `snapshot` and `samples` work without one.
   */
  readonly log?: string | undefined;
  /** Lines of queue lengths in the log. Default: false. */
  readonly stats?: boolean | undefined;
  /** Lines, and samples, of inbound calls. Default: true. */
  readonly inbound?: boolean | undefined;
  /** Lines, and samples, of outbound calls. Default: true. */
  readonly outbound?: boolean | undefined;
  /**
   * Network device to capture on. Default: `any`. Counts when this call starts the collector; one
   * that runs (`kqtime run`, an earlier `open`) keeps its own.
   */
  readonly interface?: string | undefined;
  /**
   * Which packets are captured, pcap-filter(7). Default: `tcp and not port 22`. Counts when this
   * call starts the collector, as `interface` does.
   */
  readonly filter?: string | undefined;
}

/** Options of `KQTime.samples`. */
export interface SampleOptions {
  /** Samples kept for a reader that is behind, 1 to 1,048,576. Default: 8192. */
  readonly capacity?: number | undefined;
}

/** An object that tells its descriptor. */
export interface DescriptorHolder {
  readonly fd: number;
}

/** Sockets of `Bun.listen`, `Bun.connect`, `node:net` and `node:tls`. */
export interface StreamSocket {
  readonly bytesWritten: number;
  readonly localPort?: number | undefined;
}

/** A TCP socket: its descriptor, or what Bun and `node:net` give for one. */
export type Registrable = number | DescriptorHolder | StreamSocket;

/** A remote end, as `server.requestIP(request)` gives it. */
export interface Peer {
  /** IPv4 or IPv6, as text. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
  /** Not needed: the address tells. */
  readonly family?: string | undefined;
}

/** The descriptor of a socket. @throws KQTimeError `E_FD` */
export function descriptorOf(socket: Registrable): number {
  if (typeof socket === "number") {
    if (Number.isInteger(socket) && socket >= 0 && socket < 2 ** 31) return socket;
    throw noDescriptor(`${socket} is no descriptor`);
  }
  const handle = (socket as { readonly _handle?: unknown } | null)?._handle;
  for (const holder of [socket, handle]) {
    const fd = (holder as { readonly fd?: unknown } | null | undefined)?.fd;
    if (typeof fd !== "number") continue;
    if (Number.isInteger(fd) && fd >= 0) return fd;
    throw noDescriptor("the socket is closed, or not connected yet");
  }
  // A socket of node:http is open and has no handle; one of node:net that has none is closed.
  const open = (socket as { readonly readyState?: unknown } | null)?.readyState === "open";
  throw noDescriptor(
    handle === null && !open
      ? "the socket is closed, or not connected yet (register it on its `connect` event)"
      : "this object tells no descriptor (Bun.serve and node:http have none to give: use " +
          "`registerPort`, or `registerPeer` with what `server.requestIP(request)` gives)",
  );
}

function noDescriptor(why: string): KQTimeError {
  return new KQTimeError("E_FD", "register", why);
}

/** @throws KQTimeError `E_PORT` */
export function checkPort(port: number): number {
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port;
  throw new KQTimeError("E_PORT", "register", `${port} is no TCP port: it takes 1 to 65535`);
}

/** "ADDRESS PORT", in one form for each remote end. @throws KQTimeError `E_PEER`, `E_PORT` */
export function peerText(peer: Peer | null): string {
  if (peer === null || typeof peer !== "object") {
    throw new KQTimeError(
      "E_PEER",
      "register",
      "there is no remote address: the request is over, or came over a Unix socket",
    );
  }
  // A link-local address with its zone; the device does not tell connections apart here.
  const plain = String(peer.address).replace(/%.*$/, "");
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain);
  const address = mapped?.[1] ?? plain;
  if (isIP(address) === 0) {
    throw new KQTimeError("E_PEER", "register", `"${peer.address}" is no IP address`);
  }
  return `${address} ${checkPort(peer.port)}`;
}

/** A name as the collector keeps it: one line, cut between characters at 255 bytes of UTF-8. */
export function plainName(name: string): string {
  const bytes = new Uint8Array(Constant.nameMax);
  const { written } = new TextEncoder().encodeInto(name.replace(/\p{Cc}/gu, "_"), bytes);
  return new TextDecoder().decode(bytes.subarray(0, written));
}
