// What a history is made of: see history.ts.


export interface Features {
  connections: number;
  atoms: number;
  /** Calls and segments beyond 64 KiB; beyond 4 GiB, all together. */
  large: boolean;
  huge: boolean;
  again: boolean;
  late: boolean;
  drops: boolean;
  unseen: boolean;
  acks: boolean;
  devices: boolean;
  overlap: boolean;
  lost: boolean;
  cut: boolean;
  unsent: boolean;
  foreign: boolean;
  unlistened: boolean;
  unanchored: boolean;
  reuse: boolean;
  loop: boolean;
  noise: boolean;
  jitter: boolean;
}

export const INNER_DEVICE = 99;
export const RINGS = 3;

export interface Stream {
  readonly sizes: readonly number[];
  /** Offset of atom i, and of the end. */
  readonly starts: readonly number[];
  /** Atoms that left the sender's device, whoever saw it. */
  sent: number;
  /** When each atom first passed the tap, whether the capture saw it or not. */
  readonly firstNs: number[];
}

export interface CallSpec {
  readonly first: number;
  readonly last: number;
  readonly off: number;
  readonly bytes: number;
  timeNs: number;
  beginNs: number;
  commitNs: number;
  readonly ring: number;
  readonly overlap: boolean;
  readonly group: number;
  readonly lost: boolean;
}

export interface SideSpec {
  readonly calls: CallSpec[];
  /** Calls that moved nothing, beside those of a group. */
  readonly mates: { beginNs: number; endNs: number }[];
  /** Calls that the process's death cut off. */
  cut: number;
  cutNs: number;
}

export interface Wire {
  readonly tuple: number;
  readonly clientPort: number;
  readonly serverPort: number;
  readonly clientFirst: number;
  readonly serverFirst: number;
  readonly up: Stream;
  readonly down: Stream;
  readonly place: "loop" | "client" | "server";
  readonly anchored: boolean;
  readonly listened: boolean;
  readonly end: "open" | "fin" | "client" | "server";
}

export interface SocketSpec {
  readonly wire: Wire;
  readonly client: boolean;
  readonly index: number;
  birthNs: number;
  /** -1 for an accepted one. */
  connectCommitNs: number;
  birthCommitNs: number;
  unbindNs: number;
  /** -1 if unknown. */
  unread: number;
  readonly ring: number;
  readonly out: SideSpec;
  readonly in: SideSpec;
  queued: number;
}

export interface Packet {
  readonly wire: Wire;
  readonly fromClient: boolean;
  timeNs: number;
  readonly flags: number;
  /** Stream offset of its sequence number, and the atoms that it carries. */
  readonly off: number;
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  ack: number;
  readonly device: number;
  /** The capture's counters as they are known when this one is judged. */
  now: number;
  drained: number;
  roundEnd: boolean;
}

export interface History {
  readonly wires: readonly Wire[];
  readonly sockets: readonly SocketSpec[];
  readonly packets: readonly Packet[];
  readonly lostRecords: number;
  readonly endNs: number;
}

export interface Event {
  timeNs: number;
  fromClient: boolean;
  flags: number;
  off: number;
  first: number;
  last: number;
  device: number;
  /** Seen by the capture; if not, whether its counter tells. */
  captured: boolean;
  counted: boolean;
  /** Reached the other end. */
  received: boolean;
  /** Tells all that was received so far; else nothing. */
  acks: boolean;
}

export const MS = 1e6;
