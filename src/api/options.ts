// What the caller of the API gives, and how that becomes what the collector is told.

import { isIP } from "node:net";
import { KQTimeError } from "../errors.ts";
import { Constant } from "../ring/layout.ts";
import { argumentError, checkName, shown } from "./arguments.ts";

/** Options of `KQTime.open`; all of them may be left out. */
export interface OpenOptions {
  /**
   * File that gets a line for each call on a registered socket: made with mode 0600, appended to,
   * compressed if it ends in `.gz`; a symbolic link is not followed. This process opens it, with
   * its own rights. None: no log; `snapshot` and `samples` work without one.
   */
  readonly log?: string | undefined;
  /**
   * Meant for lines of queue lengths in the log. Without effect in this version, which writes none.
   * Default: false.
   */
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

/**
 * The descriptor of a socket; null if it is closed, or not connected yet.
 * @throws KQTimeError `E_ARGUMENT`, `E_FD` (it has none to tell), `E_UNSUPPORTED`
 */
export function descriptorOf(op: string, socket: Registrable): number | null {
  if (typeof socket === "number") {
    if (Number.isInteger(socket) && socket < 2 ** 31) return socket < 0 ? null : socket;
    throw argumentError(op, `${socket} is no descriptor`);
  }
  if (typeof socket !== "object" || socket === null) {
    throw argumentError(op, `${shown(socket)} is neither a descriptor nor a socket`);
  }
  const its = socket as Partial<Record<keyof typeof OTHER_KINDS | "fd" | "pending", unknown>>;
  // First of all: node:dgram warns of whoever looks at its handle.
  if (typeof its.addMembership === "function") {
    throw new KQTimeError("E_UNSUPPORTED", op, `${op}: ${OTHER_KINDS.addMembership}`);
  }
  if (typeof its.listen === "function") throw noDescriptor(op, OTHER_KINDS.listen);
  const handle = (socket as { readonly _handle?: unknown })._handle;
  for (const holder of [socket, handle]) {
    const fd = (holder as { readonly fd?: unknown } | null | undefined)?.fd;
    if (typeof fd === "number") return Number.isInteger(fd) && fd >= 0 ? fd : null;
  }
  // Neither has a socket of node:http a handle, but it is connected.
  if (handle === null && its.pending !== false) return null;
  throw noDescriptor(
    op,
    "this object tells no descriptor (Bun.serve and node:http have none to give: use " +
      "`registerPort`, or `registerPeer` with what `server.requestIP(request)` gives)",
  );
}

/** What else is passed for a socket, by a method that it has. */
const OTHER_KINDS = {
  addMembership: "this is a UDP socket, and only TCP is measured",
  listen:
    "this is a server, which exchanges no bytes itself: `registerPort` measures the connections " +
    "on its port",
} as const;

/** @throws KQTimeError as `descriptorOf`, and `E_FD` for a socket that has none now */
export function openDescriptorOf(op: string, socket: Registrable): number {
  const fd = descriptorOf(op, socket);
  if (fd !== null) return fd;
  throw noDescriptor(
    op,
    typeof socket === "number"
      ? `${socket} is no descriptor`
      : "the socket is closed, or not connected yet (register it once it is: in `open` of Bun's " +
          "handlers, on `connect` of node:net)",
  );
}

function noDescriptor(op: string, why: string): KQTimeError {
  return new KQTimeError("E_FD", op, `${op}: ${why}`);
}

/** @throws KQTimeError `E_PORT` */
export function checkPort(op: string, port: number): number {
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port;
  const text = `${op}: ${shown(port)} is no TCP port: it takes a number from 1 to 65535`;
  throw new KQTimeError("E_PORT", op, text);
}

/**
 * "ADDRESS PORT", in one form for each remote end.
 * @throws KQTimeError `E_ARGUMENT`, `E_PEER`, `E_PORT`
 */
export function peerText(op: string, peer: Peer | null): string {
  if (peer === null || peer === undefined) {
    const text = `${op}: there is no remote address: the request is over, or came over a Unix socket`;
    throw new KQTimeError("E_PEER", op, text);
  }
  if (typeof peer !== "object") {
    throw argumentError(op, `${shown(peer)} where an object { address, port } is expected`);
  }
  const given: unknown = peer.address;
  // A link-local address with its zone; the device does not tell connections apart here.
  const plain = typeof given === "string" ? given.replace(/%.*$/, "") : "";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain);
  const address = mapped?.[1] ?? plain;
  if (isIP(address) === 0) {
    throw new KQTimeError("E_PEER", op, `${op}: ${shown(given)} is no IP address`);
  }
  return `${address} ${checkPort(op, peer.port)}`;
}

/**
 * A name as the collector keeps it: one line, cut between characters at 255 bytes of UTF-8.
 * @throws KQTimeError `E_ARGUMENT`
 */
export function plainName(op: string, name: string): string {
  const bytes = new Uint8Array(Constant.nameMax);
  const plain = checkName(op, name).replace(/\p{Cc}/gu, "_");
  const { written } = new TextEncoder().encodeInto(plain, bytes);
  return new TextDecoder().decode(bytes.subarray(0, written));
}
