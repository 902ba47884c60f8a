// A socket of the target, as its preload library reported it: its calls, and, once it is found,
// the wire's view of the same connection.

import { Reason } from "../output/reasons.ts";
import type { DirectionStats } from "../output/stats.ts";
import type { SocketInput } from "../output/summary.ts";
import type { Anchor } from "./anchor.ts";
import type { Flow, Instance } from "./flow.ts";
import { formatAddress, type Label } from "./labels.ts";
import type { Naming, Registration } from "./measurement.ts";
import { Direction, Side, type SocketIdentity } from "./merge.ts";

/** How many calls the kernel is working on, and what they were, when the entry was last read. */
export interface Progress {
  /** Calls in progress. */
  active: number;
  /** Bytes moved since birth, all records counted, also lost ones. */
  off: number;
  /** Entry time of the last call to begin, ns. */
  callNs: number;
}

/** Where the stream of a socket stood when another program went on with it. */
export interface Continued {
  readonly connection: Connection;
  readonly outBase: number;
  readonly inBase: number;
}

export class Connection implements SocketIdentity {
  // First what is looked at for each event: it is together in the processor's cache then.
  readonly out: Side;
  readonly in: Side;
  readonly generation: number;
  settled = false;
  /** In the list of connections that something changed for. */
  dirty = false;
  /** The same socket under another table: its calls are booked there, at these offsets. */
  continues: Continued | null = null;
  /** Other programs have gone on with this socket, or do. */
  isShared = false;
  /** Offsets below were called before the session took over. */
  outTaken = 0;
  inTaken = 0;
  instance: Instance | null = null;
  /** Of a socket that is older than the capture: what ties it to the wire. */
  anchor: Anchor | null = null;
  /** Calls that wait for its anchor, when they were last counted. */
  waitingCalls = 0;

  /** Unique in the session, from 1. */
  readonly sock: number;
  /** Number of its socket table, index (and generation) of its entry there. */
  readonly table: number;
  readonly entry: number;
  lport = 0;
  rport = 0;
  /** What its calls were measured for, in no order; `naming` is the one that holds. */
  readonly namings: Naming[] = [];
  /** Of them, those whose books are closed. */
  readonly vacant: number[] = [];
  /** What programs asked for. */
  registrations: readonly Registration[] = [];
  readonly local = new Uint32Array(4);
  readonly remote = new Uint32Array(4);
  /** Born by connect, else by accept. */
  connected = false;
  /** Older than the library: its offsets do not count from the initial sequence number. */
  adopted = false;
  /** connect: entry of the call; accept: its return; ns. */
  birthNs = 0;
  pid = 0;
  fd = -1;
  flow: Flow | null = null;
  /** A read that has taken bytes may wait for more before it returns. */
  waits = false;
  /** Time of the last death of a descriptor, ns; -1 while none has died. */
  unboundNs = -1;
  /** Bytes in the receive queue at that moment; -1 if unknown. */
  unreadAtClose = -1;
  /** Socket inode, 0 if unknown. */
  inode = 0;
  /** Programs that went on with this socket, and may still. */
  readonly heirs: Connection[] = [];
  /** Of those that have ended: the first offsets that they moved, and the last. */
  readonly left = { outFrom: Infinity, inFrom: Infinity, outTo: 0, inTo: 0 };
  outProgress: Progress = { active: 0, off: 0, callNs: 0 };
  inProgress: Progress = { active: 0, off: 0, callNs: 0 };

  constructor(sock: number, table: number, entry: number, generation: number, naming: Naming) {
    this.sock = sock;
    this.table = table;
    this.entry = entry;
    this.generation = generation;
    this.namings.push(naming);
    this.out = new Side(Direction.Out, this.namings);
    this.in = new Side(Direction.In, this.namings);
  }

  /** What is called now is measured for this. */
  get naming(): Naming {
    return this.namings[this.out.calls.naming]!;
  }

  /** Calls recorded from now on, and what passes the wire after `atNs`, are measured for `naming`. */
  rename(naming: Naming, atNs: number): void {
    const index = this.vacant.pop() ?? this.namings.length;
    this.namings[index] = naming;
    this.out.rename(index, atNs);
    this.in.rename(index, atNs);
  }

  /** As a summary lists it. */
  describe(label: Label, peer: boolean, out: DirectionStats, inbound: DirectionStats): SocketInput {
    const { sock, pid, fd, lport, rport } = this;
    const shown: SocketInput = { sock, pid, fd, lport, rport, label: label.text, out, in: inbound };
    if (peer) shown.peer = `${formatAddress(this.remote)}:${rport}`;
    return shown;
  }

  attach(instance: Instance): void {
    this.instance = instance;
    this.out.sightings = instance.out;
    this.in.sightings = instance.in;
  }

  merge(): void {
    this.out.merge(this);
    if (this.out.isContradicted) this.in.lose(Reason.noAnchor);
    this.in.merge(this);
    if (this.instance !== null && this.in.position >= this.instance.urgentFrom) {
      this.in.lose(Reason.urgent);
      this.in.merge(this);
    }
    if (!this.in.isContradicted) return;
    this.out.lose(Reason.noAnchor);
    this.out.merge(this);
  }

  /** Times have shown that its anchor was wrong. */
  get isContradicted(): boolean {
    return this.out.isContradicted || this.in.isContradicted;
  }
}
