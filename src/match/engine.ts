// The join of records and packets, fed with plain values in a fixed order: what it concludes
// depends on nothing else, so that a recorded session replays to the identical output.
//
// Order of a round: entries and records first, then the packets captured before they were read,
// then `tick`. A record is committed before the packets that it causes are captured, so the
// socket of an outbound packet is always known.

import type { PacketBatch } from "../capture/packets.ts";
import { Reason } from "../output/reasons.ts";
import { Constant, EntryFlag, EntryWord, Kind, SlotFlag, SlotWord, State, Type } from "../ring/layout.ts";
import { Anchors, takeAt } from "./anchors.ts";
import { ClockSteps } from "./clock-steps.ts";
import { Connection } from "./connection.ts";
import { Instances } from "./instances.ts";
import { boundCalls, isOver, isStale, isUnsent } from "./look-after.ts";
import { Handles } from "./handles.ts";
import type { Measurement } from "./measurement.ts";
import type { Side } from "./merge.ts";
import { QueueSamples } from "./queue-samples.ts";
import { readCount, readIdentity, readInode, readProgress, relativeNs } from "./entry.ts";
import { inherit, isContested, isSameSocket } from "./heirs.ts";
import { type Books, settle } from "./settle.ts";
import { addOther, noOtherSockets } from "./other-sockets.ts";
import { SocketTables } from "./socket-table.ts";
import { WaitingCalls } from "./waiting-calls.ts";

const NONE: readonly Connection[] = [];

export interface EngineOptions {
  baseSec: number;
  out: boolean;
  in: boolean;
  /** What every socket is measured for; null: only those that programs register are measured. */
  everything: Measurement | null;
  /** The capture may show only a part of a connection. */
  isPartial?: boolean;
  /** How many calls may wait for an anchor, if not as many as usual. */
  waitingCalls?: number;
}

export class Engine implements Books {
  readonly instances = new Instances();
  readonly anchors: Anchors;
  readonly handles: Handles;
  readonly queues = new QueueSamples();
  readonly clock = new ClockSteps();
  readonly out: boolean;
  readonly in: boolean;
  /** Sockets that are not settled, in the order of their birth. */
  readonly live = new Set<Connection>();
  readonly datagram = { sockets: 0, calls: 0, bytes: 0 };
  readonly otherSockets = noOtherSockets();
  /** Records that contradict their socket, or make no sense. */
  badRecords = 0;
  /** Records that the targets' rings dropped, all together. */
  ringRecords = 0;
  /** Sockets whose process died inside a call. */
  interrupted = 0;
  /** The measurement ends while processes live on. */
  isDetached = false;
  /** Calls of sockets without an anchor. */
  readonly waiting: WaitingCalls;
  /** Told when a socket is settled. */
  onSettled: (connection: Connection) => void = () => {};
  /** Told when nothing refers to an entry of a socket table any more. */
  onFree: (table: number, entry: number, generation: number) => void = () => {};
  /** Told after each tick up to when the capture is joined. */
  onTick: (capturedNs: number) => void = () => {};
  /** Interface indices whose packets are passed over. */
  readonly innerDevices = new Set<number>();

  readonly #baseSec: number;
  readonly #tables = new SocketTables();
  readonly #queued = new Map<number, number>();
  /** Sockets by inode, for programs that inherit them over exec. */
  readonly #byInode = new Map<number, Connection>();
  #sockets = 0;
  /** Sockets that lived before the session took over, until they are born here: their states. */
  readonly #taken = new Map<string, number>();
  #dirty: Connection[] = [];
  #spareDirty: Connection[] = [];

  constructor(options: EngineOptions) {
    this.#baseSec = options.baseSec;
    this.out = options.out;
    this.in = options.in;
    this.anchors = new Anchors(this.instances, options.isPartial);
    this.waiting = new WaitingCalls(this.live, options.waitingCalls);
    this.handles = new Handles(options.everything, this.live, options, this.instances);
    this.instances.onSighting = (connection) => this.touch(connection);
  }

  /** A socket table appeared; returns its number. */
  addTable(): number {
    return this.#tables.add();
  }

  endTable(table: number): void {
    const sockets = this.#tables.get(table);
    if (sockets === undefined) return;
    for (const port of sockets.end()) this.instances.connecting(port, -1);
    for (const heir of sockets.endHeirs()) this.anchors.end(heir);
    this.#tables.dropEmpty(table);
  }

  /** Whether `entry` must be shown to the engine before a record that refers to it. */
  isUnknown(table: number, entry: number, generation: number): boolean {
    return this.#tables.of(table).isUnknown(entry, generation);
  }

  /** Sockets whose entries must be up to date before this one is shown: it goes on with them. */
  relatedTo(table: number, entry: number, words: Uint32Array): readonly Connection[] {
    const generation = words[EntryWord.state]! >>> Constant.stateBits;
    if (!this.isUnknown(table, entry, generation)) return NONE;
    if (((words[EntryWord.type]! >>> 16) & EntryFlag.Adopted) === 0) return NONE;
    const earlier = this.#byInode.get(readInode(words));
    if (earlier === undefined) return NONE;
    const owner = earlier.continues?.connection ?? earlier;
    return [owner, ...owner.heirs];
  }

  /** Takes a copy of a socket table's entry, 64 words. */
  entry(table: number, entry: number, words: Uint32Array): void {
    const state = words[EntryWord.state]!;
    const generation = state >>> Constant.stateBits;
    const sockets = this.#tables.of(table);
    switch (state & ((1 << Constant.stateBits) - 1)) {
      case State.Connecting: {
        const port = words[EntryWord.lport]! >>> 16;
        if (sockets.addConnecting(entry, port)) this.instances.connecting(port, 1);
        return;
      }
      case State.Open:
        break;
      default:
        return;
    }
    if (sockets.isSettled(entry, generation)) return;
    const known = sockets.at(entry);
    if (known !== null && known.generation === generation) {
      readProgress(words, this.#baseSec, this.clock, known);
      known.waits = ((words[EntryWord.type]! >>> 16) & EntryFlag.Waits) !== 0;
      return;
    }
    this.#connected(table, entry);
    const type = words[EntryWord.type]! & 0xff;
    if (type === Type.Udp) {
      if (sockets.addDatagram(entry, generation)) this.datagram.sockets++;
      return;
    }
    if (type !== Type.Tcp) {
      this.badRecords++;
      return;
    }
    if (known !== null) this.settle(known, -1);
    this.#born(table, entry, generation, words);
  }

  /** Takes an entry whose socket lived before the session took over. */
  takeEntry(table: number, entry: number, words: Uint32Array): void {
    const state = words[EntryWord.state]!;
    const key = keyOf(table, entry, state >>> Constant.stateBits);
    this.#taken.set(key, state & ((1 << Constant.stateBits) - 1));
    this.entry(table, entry, words);
  }

  /** Takes a record, 16 words of a slot. */
  record(table: number, words: Uint32Array): void {
    const kindWord = words[SlotWord.kind]!;
    const kind = kindWord & 0xff;
    const flags = (kindWord >>> 8) & 0xff;
    const stampNs = relativeNs(words[SlotWord.timeNs]!, words[SlotWord.timeNs + 1]!, this.#baseSec);
    const timeNs = this.clock.steady(stampNs);
    const entry = words[SlotWord.entry]!;
    const bytes = words[SlotWord.bytes]!;
    if (kind === Kind.Listen) {
      const port = words[SlotWord.off]!;
      if (port < 65536) this.instances.listen(port, timeNs);
      else this.badRecords++;
      return;
    }
    if (kind === Kind.Other) {
      if (!addOther(this.otherSockets, bytes, words[SlotWord.off]!)) this.badRecords++;
      return;
    }
    const connection = this.#tables.of(table).find(entry, words[SlotWord.gen]!);
    if (kind === Kind.Out || kind === Kind.In) {
      if (connection === null) {
        this.#datagramCall(table, entry, words[SlotWord.gen]!, bytes);
        return;
      }
      const out = kind === Kind.Out;
      if (!(out ? this.out : this.in) || bytes === 0) return;
      const continued = connection.continues;
      const owner = continued === null ? connection : continued.connection;
      let off = words[SlotWord.off]! + words[SlotWord.off + 1]! * 4294967296;
      if (continued !== null) off += out ? continued.outBase : continued.inBase;
      const side = out ? owner.out : owner.in;
      if (off < (out ? owner.outTaken : owner.inTaken)) return;
      if (connection.isShared && isContested(connection, off, out)) side.calls.forgetOrder();
      if ((flags & SlotFlag.Ktls) !== 0) this.lose(owner, side, Reason.ktls);
      else if ((flags & SlotFlag.Urgent) !== 0 && !out && !this.instances.showsUrgent(owner)) {
        this.lose(owner, side, Reason.urgent);
      }
      if (
        owner.settled ||
        off > Number.MAX_SAFE_INTEGER ||
        !side.calls.add(
          off,
          bytes,
          timeNs,
          Math.max(-1, words[SlotWord.fd]! | 0),
          words[SlotWord.pid]!,
          (flags & SlotFlag.Overlap) !== 0,
          words[SlotWord.group]!,
        )
      ) {
        this.badRecords++;
        return;
      }
      this.touch(owner);
    } else if (kind === Kind.Unbind) {
      this.#connected(table, entry);
      const generation = words[SlotWord.gen]!;
      if (this.#tables.of(table).removeDatagram(entry, generation)) {
        this.onFree(table, entry, generation);
      }
      if (connection === null || connection.settled) return;
      const owner = connection.continues?.connection ?? connection;
      owner.unboundNs = timeNs;
      owner.unreadAtClose = bytes === Constant.unreadUnknown ? -1 : bytes;
      if ((flags & SlotFlag.Refused) !== 0) this.settle(connection, -1);
    } else if (kind === Kind.Birth) {
      this.#connected(table, entry);
    } else if (kind === Kind.Name) {
      if (!this.handles.addName(table, words)) this.badRecords++;
    } else if (kind === Kind.Register || kind === Kind.Deregister) {
      this.handles.assign(table, words, connection?.continues?.connection ?? connection, timeNs);
    } else if (kind !== Kind.Connect) {
      this.badRecords++;
    }
  }

  /** Takes a batch; packets of inner devices show on one further out as well. */
  packets(batch: PacketBatch): void {
    const { instances, innerDevices, clock } = this;
    instances.pair();
    clock.steadyAll(batch.timeNs, batch.count);
    const devices = batch.interfaceIndex;
    const filter = innerDevices.size > 0;
    for (let i = 0; i < batch.count; i++) {
      if (!filter || !innerDevices.has(devices[i]!)) instances.packet(batch, i);
    }
  }

  /** Sockets whose entries `tick` should see as they are now: collects them into `into`. */
  stale(capturedNs: number, into: Connection[]): void {
    for (const connection of this.live) if (isStale(connection, capturedNs)) into.push(connection);
  }

  /** Sockets with bytes that were called and not sighted, the processes' end notwithstanding. */
  pending(into: Connection[]): void {
    for (const connection of this.live) if (isUnsent(connection)) into.push(connection);
  }

  /** Sockets whose queues somebody wants to know: collects them into `into`. */
  watched(into: Connection[]): void {
    for (const connection of this.live) {
      const { recipients } = connection.naming;
      if (recipients.some(({ measurement }) => measurement.queues !== null)) into.push(connection);
    }
  }

  /**
   * Takes the queue lengths of sockets at one moment: when the kernel began to tell them and when it
   * had done so (ns), then for each its number and what it told, by `SocketField`.
   */
  sample(numbers: Float64Array): void {
    const sockets = new Map<number, Connection>();
    for (const connection of this.live) sockets.set(connection.sock, connection);
    this.queues.begin(numbers, sockets);
  }

  /** The kernel's answer about a socket: bytes it still has to send, -1 if it is gone. */
  queued(sock: number, bytes: number): void {
    this.#queued.set(sock, bytes);
  }

  /** Settles everything. */
  finish(): void {
    this.queues.end(Infinity);
    for (const connection of this.live) {
      this.settle(connection, this.#queued.get(connection.sock) ?? -1);
    }
  }

  /** Merges what the round brought. */
  flush(): void {
    this.instances.pair();
    const dirty = this.#dirty;
    this.#dirty = this.#spareDirty;
    for (let i = 0; i < dirty.length; i++) {
      const connection = dirty[i]!;
      connection.dirty = false;
      if (connection.settled) continue;
      this.#merge(connection);
      boundCalls(connection, connection.out);
      boundCalls(connection, connection.in);
      this.waiting.count(connection);
    }
    dirty.length = 0;
    this.#spareDirty = dirty;
    this.waiting.bound();
  }

  /**
   * Looks after connections for which nothing happens any more.
   * @param capturedNs Everything that was captured before has been given to the engine.
   */
  tick(capturedNs: number): void {
    this.instances.pair();
    this.instances.gaps.tick(capturedNs);
    this.anchors.judge(capturedNs);
    for (const connection of this.live) {
      if (isOver(this, connection, capturedNs)) this.settle(connection, -1);
    }
    this.flush();
    this.queues.end(capturedNs);
    this.onTick(capturedNs);
  }

  /**
   * Closes the books of a socket.
   * @param queuedBytes Bytes that the kernel still has to send; -1: the connection is gone.
   */
  settle(connection: Connection, queuedBytes: number): void {
    if (connection.settled) return;
    this.instances.pair();
    this.#merge(connection);
    settle(this, connection, queuedBytes);
    if (connection.isContradicted) this.anchors.contradict(connection);
    this.waiting.count(connection);
    if (this.#byInode.get(connection.inode) === connection) this.#byInode.delete(connection.inode);
    this.#retire(connection);
    for (const heir of connection.heirs) this.#retire(heir);
    this.onSettled(connection);
  }

  #retire(connection: Connection): void {
    connection.settled = true;
    this.live.delete(connection);
    this.handles.settled(connection);
    this.anchors.end(connection);
    this.instances.release(connection);
    const sockets = this.#tables.get(connection.table);
    sockets?.settle(connection);
    this.#tables.dropEmpty(connection.table);
    this.onFree(connection.table, connection.entry, connection.generation);
  }

  /** Nothing of this direction can be joined from now on. */
  lose(connection: Connection, side: Side, reason: number): void {
    if (side.lost) return;
    side.lose(reason);
    this.touch(connection);
  }

  #merge(connection: Connection): void {
    connection.merge();
    if (connection.isContradicted) this.anchors.contradict(connection);
  }

  /** Something has changed: it is merged at the next `flush`. */
  touch(connection: Connection): void {
    if (connection.dirty) return;
    connection.dirty = true;
    this.#dirty.push(connection);
  }

  #connected(table: number, entry: number): void {
    const port = this.#tables.of(table).removeConnecting(entry);
    if (port >= 0) this.instances.connecting(port, -1);
  }

  #datagramCall(table: number, entry: number, generation: number, bytes: number): void {
    if (!this.#tables.of(table).isDatagram(entry, generation)) {
      this.badRecords++;
      return;
    }
    this.datagram.calls++;
    this.datagram.bytes += bytes;
  }

  #born(table: number, entry: number, generation: number, words: Uint32Array): void {
    const identity = readIdentity(words, this.#baseSec);
    const key = keyOf(table, entry, generation);
    const takenState = this.#taken.get(key);
    const isTaken = this.#taken.delete(key);
    const { flags, lport, rport, remote } = identity;
    // An adopted socket tells nothing of its birth: a listening port says who was called.
    const connected =
      (flags & EntryFlag.Connected) !== 0 ||
      ((flags & EntryFlag.Accepted) === 0 && !this.instances.isListening(lport));
    const naming = this.handles.namingOf({ connected, lport, rport, remote }, []);
    const connection = new Connection(++this.#sockets, table, entry, generation, naming);
    connection.local.set(identity.local);
    connection.remote.set(remote);
    connection.lport = lport;
    connection.rport = rport;
    connection.connected = connected;
    connection.adopted = (flags & EntryFlag.Adopted) !== 0;
    connection.birthNs = this.clock.steady(identity.birthNs);
    connection.pid = identity.pid;
    connection.fd = identity.fd;
    readProgress(words, this.#baseSec, this.clock, connection);
    // A direction that is not asked for gets no calls that the reason would be booked for.
    if (!this.out) connection.out.lose(Reason.filtered);
    if (!this.in) connection.in.lose(Reason.filtered);
    this.#tables.of(table).add(connection);
    this.live.add(connection);
    connection.inode = identity.inode;
    const earlier = identity.inode === 0 ? undefined : this.#byInode.get(identity.inode);
    if (connection.adopted && earlier !== undefined && isSameSocket(connection, earlier)) {
      const counted = (flags & EntryFlag.Counted) !== 0;
      inherit(connection, earlier, {
        out: counted ? readCount(words, EntryWord.sentBefore) : NaN,
        in: counted ? readCount(words, EntryWord.readBefore) : NaN,
      });
      if (isTaken) this.anchors.takeHeir(connection, words);
      this.live.delete(connection);
      this.handles.born(connection);
      return;
    }
    if (identity.inode !== 0) this.#byInode.set(identity.inode, connection);
    this.handles.born(connection);
    if (connection.adopted || isTaken) {
      this.anchors.begin(connection, words, isTaken);
    }
    // One that was still connecting had called nothing, and its handshake may have been captured.
    const isWhole = !isTaken || takenState === State.Connecting;
    if (!isWhole) takeAt(connection);
    if (!connection.adopted && isWhole) this.instances.bind(connection);
  }
}

function keyOf(table: number, entry: number, generation: number): string {
  return `${table}/${entry}/${generation}`;
}
