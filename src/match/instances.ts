// The wire's view of connections: which four-tuple means which connection at which time.
//
// A SYN-ACK alone says everything about a new connection (RFC 9293 §3.5): its own sequence number
// is the responder's initial one, its acknowledgment the initiator's plus one. A stray SYN
// therefore resets nothing, a retransmitted SYN-ACK is recognised, and a four-tuple that comes back
// after microseconds begins a new instance. Instances and the sockets that the preload library
// reports find each other here, in whatever order they come.

import { PacketBatch, Sight, TcpFlag } from "../capture/packets.ts";
import { Reason } from "../output/reasons.ts";
import type { Anchor } from "./anchor.ts";
import { CaptureGaps } from "./capture-gaps.ts";
import type { Connection } from "./connection.ts";
import { Flow, Instance } from "./flow.ts";
import type { CaptureDrops } from "./sightings.ts";
import { TupleMap } from "./tuple-map.ts";

/** Instances without a socket that are remembered; the oldest are forgotten first. */
const MAX_UNBOUND = 1 << 16;
/** Ranges kept for an instance that no socket has claimed yet. */
const MAX_UNBOUND_RANGES = 4096;
/** A connection that was over this long before its four-tuple came back waits for no accept. */
const STALE_NS = 10e9;

export class Instances {
  readonly drops: CaptureDrops = { now: 0, drained: 0 };
  readonly gaps = new CaptureGaps(this.drops);
  /** Called when an instance with a socket got something to merge. */
  onSighting: (connection: Connection) => void = () => {};
  /** Segments whose numbers fit no connection of their tuple. */
  badPackets = 0;
  /** Instances forgotten because too many had no socket. */
  forgotten = 0;

  #flows = new TupleMap<Flow>();
  /** Since when the target listens on local ports, and remote ports it is connecting to (a count). */
  #listeningSinceNs = new Float64Array(65536).fill(Infinity);
  #connecting = new Uint16Array(65536);
  #unbound: (Instance | null)[] = new Array<Instance | null>(MAX_UNBOUND).fill(null);
  #unboundNext = 0;
  #unpaired: Flow[] = [];

  listen(port: number, timeNs: number): void {
    if (timeNs < this.#listeningSinceNs[port]!) this.#listeningSinceNs[port] = timeNs;
  }

  isListening(port: number): boolean {
    return this.#listeningSinceNs[port]! < Infinity;
  }

  /** The target is about to connect (+1) to a remote port, or knows the outcome (-1). */
  connecting(port: number, step: 1 | -1): void {
    const count = this.#connecting[port]! + step;
    if (count >= 0 && count < 65536) this.#connecting[port] = count;
  }

  /** A socket was born: it waits for its instance, and `pair` looks for one. */
  bind(connection: Connection): void {
    const flow = connection.flow ?? this.#flowOf(connection);
    const { awaiting } = flow;
    let i = awaiting.length;
    while (i > 0 && awaiting[i - 1]!.birthNs > connection.birthNs) i--;
    awaiting.splice(i, 0, connection);
    if (flow.listed) return;
    flow.listed = true;
    this.#unpaired.push(flow);
  }

  /** A socket appeared whose handshake was not captured: packets are kept until `anchor`. */
  keepFor(connection: Connection): void {
    this.#flowOf(connection).older = connection;
  }

  /** The sequence numbers of a socket that `keepFor` was called for are known. */
  anchor(connection: Connection, anchor: Anchor): void {
    const flow = connection.flow!;
    const { packets } = anchor;
    const { drops } = this;
    const firstNs = packets.count > 0 ? packets.timeNs(0) : connection.birthNs;
    const [firstOut, firstIn] = [anchor.out.sequenceOf(0), anchor.in.sequenceOf(0)];
    const keptSince = { now: drops.now, drained: anchor.drops };
    const instance = new Instance(
      flow, firstNs, firstOut, firstIn, true, keptSince, !connection.connected,
    );
    instance.established = true;
    for (const side of [connection.out, connection.in]) {
      const out = side === connection.out;
      const offset = Math.max(anchor.firstOffset(out), side.position);
      const sequence = (out ? anchor.out : anchor.in).sequenceOf(offset);
      (out ? instance.out : instance.in).startAt(offset, sequence, side.position);
      side.isAnchored = true;
    }
    const handshake = flow.current;
    if (handshake !== null && handshake.connection === null) {
      // It was captured, but nobody claimed it then.
      flow.unbound.splice(flow.unbound.indexOf(handshake), 1);
      this.#unbound[handshake.slot] = null;
    }
    flow.older = null;
    const waiting = flow.awaiting.indexOf(connection);
    if (waiting >= 0) flow.awaiting.splice(waiting, 1);
    flow.current = instance;
    instance.connection = connection;
    connection.attach(instance);
    const row = new PacketBatch(1);
    for (let n = 0; n < packets.count; n++) {
      const out = packets.show(n, row);
      this.#segment(instance, row, 0, out, row.flags[0]!);
    }
    this.onSighting(connection);
  }

  /**
   * Finds the instances of new sockets. Only when all rings are read: births of one four-tuple may
   * come from several, the later one first, and would take each other's instance.
   */
  pair(): void {
    const flows = this.#unpaired;
    if (flows.length === 0) return;
    for (let i = 0; i < flows.length; i++) {
      flows[i]!.listed = false;
      this.#pair(flows[i]!);
    }
    flows.length = 0;
  }

  /** The socket is settled: its flow may go. */
  release(connection: Connection): void {
    const flow = connection.flow;
    if (flow === null) return;
    if (flow.older === connection) flow.older = null;
    const waiting = flow.awaiting.indexOf(connection);
    if (waiting >= 0) flow.awaiting.splice(waiting, 1);
    const instance = connection.instance;
    if (instance !== null && flow.current === instance) flow.current = null;
    flow.bound--;
    this.#drop(flow);
  }

  /** Takes row i of a batch. */
  packet(batch: PacketBatch, i: number): void {
    const sight = batch.sight[i]!;
    // On loopback one packet is the departure of one socket's bytes and the arrival of another's.
    if (sight !== Sight.In) {
      this.#end(batch, i, true);
    }
    if (sight !== Sight.Out) {
      this.#end(batch, i, false);
    }
  }

  /** The packet as the end that sent it (`out`) or the end that gets it sees it. */
  #end(batch: PacketBatch, i: number, out: boolean): void {
    const local = out ? batch.source : batch.destination;
    const remote = out ? batch.destination : batch.source;
    const localPort = out ? batch.sourcePort[i]! : batch.destinationPort[i]!;
    const remotePort = out ? batch.destinationPort[i]! : batch.sourcePort[i]!;
    const a = i * 4;
    const flags = batch.flags[i]!;
    let flow = this.#flows.get(local, a, localPort, remote, a, remotePort);
    if ((flags & TcpFlag.SYN) !== 0) {
      const payload = batch.payloadBytes[i]!;
      if ((flags & TcpFlag.ACK) === 0 && payload === 0) {
        // Another attempt: what an earlier one carried is not of this connection.
        if (flow !== null && flow.synSequence !== batch.sequence[i]!) flow.synBytes = 0;
        return;
      }
      if (flow === null) {
        // Of a SYN with data only what may be the target's is kept.
        if ((flags & TcpFlag.ACK) === 0 && !this.#expects(localPort, remotePort)) return;
        flow = new Flow(local, a, localPort, remote, a, remotePort);
        this.#flows.set(local, a, localPort, remote, a, remotePort, flow);
      }
      if ((flags & TcpFlag.ACK) === 0) {
        flow.synSequence = batch.sequence[i]!;
        flow.synBytes = payload;
        flow.synNs = batch.timeNs[i]!;
        flow.synDevice = batch.interfaceIndex[i]!;
        flow.synOut = out;
        return;
      }
      this.#synAck(flow, batch, i, out);
      if (payload === 0) return;
    }
    if (flow === null) return;
    const instance = flow.current;
    if (flow.older !== null && (instance === null || instance.connection === null)) {
      flow.older.anchor!.packets.add(batch, i, out);
    }
    if (instance === null) {
      if (batch.payloadBytes[i]! > 0) flow.strays++;
      return;
    }
    this.#segment(instance, batch, i, out, flags);
  }

  #segment(instance: Instance, batch: PacketBatch, i: number, out: boolean, flags: number): void {
    const mine = out ? instance.out : instance.in;
    const theirs = out ? instance.in : instance.out;
    const timeNs = batch.timeNs[i]!;
    const sequence = batch.sequence[i]!;
    if ((flags & TcpFlag.RST) !== 0) {
      if (!mine.isNext(sequence)) return;
      if (timeNs > instance.lastNs) instance.lastNs = timeNs;
      if (out) instance.resetOut = true;
      else instance.resetIn = true;
      if (instance.connection !== null) this.onSighting(instance.connection);
      return;
    }
    const bytes = batch.payloadBytes[i]!;
    if (bytes > 0 && instance.ended && !mine.continues(sequence, bytes)) {
      // The four-tuple came back, and the capture missed the handshake.
      instance.flow.strays++;
      return;
    }
    if (timeNs > instance.lastNs) instance.lastNs = timeNs;
    if (out !== instance.responder) instance.established = true;
    if (bytes > 0) {
      // The urgent byte takes a sequence number, but is not in the stream that is read.
      if ((flags & TcpFlag.URG) !== 0 && !out) {
        instance.urgentFrom = Math.min(instance.urgentFrom, mine.offsetOf(sequence));
      }
      if (!instance.keep) {
        mine.pass(sequence, bytes);
      } else if (!out && instance.urgentFrom !== Infinity) {
        this.#beforeUrgent(instance, sequence, bytes, timeNs, batch.interfaceIndex[i]!);
      } else if (
        !mine.segment(sequence, bytes, timeNs, batch.interfaceIndex[i]!, this.drops)
      ) {
        this.badPackets++;
        return;
      } else if (instance.connection === null && mine.queue.length > MAX_UNBOUND_RANGES) {
        this.#unkeep(instance);
      }
    }
    if ((flags & TcpFlag.FIN) !== 0) mine.fin((sequence + bytes) >>> 0);
    if ((flags & TcpFlag.ACK) !== 0) {
      theirs.acknowledge(batch.acknowledgment[i]!, this.drops);
    }
    if (instance.connection !== null) this.onSighting(instance.connection);
  }

  /** Whether the segment of urgent data that was read is in hand, or will come in its turn. */
  showsUrgent({ anchor, instance }: Connection): boolean {
    if (anchor !== null) return false;
    return this.drops.now === 0 || (instance !== null && instance.urgentFrom !== Infinity);
  }

  /** Sights of a segment what is before the urgent data. */
  #beforeUrgent(
    { in: mine, urgentFrom }: Instance, sequence: number, bytes: number, timeNs: number, device: number,
  ): void {
    const before = Math.min(bytes, urgentFrom - mine.offsetOf(sequence));
    if (before > 0) mine.segment(sequence, before, timeNs, device, this.drops);
    if (before >= bytes) return;
    mine.pass(sequence, bytes);
    // No segment comes behind what the capture has missed.
    if (mine.acknowledged > mine.edge) mine.bookMissed(Math.min(mine.acknowledged, urgentFrom), this.drops);
  }

  #synAck(flow: Flow, batch: PacketBatch, i: number, out: boolean): void {
    const sequence = batch.sequence[i]!;
    const acknowledgment = batch.acknowledgment[i]!;
    // Data in the SYN counts from the initial number like the rest, acknowledged here or not.
    const dataInSyn =
      flow.synBytes > 0 &&
      flow.synOut !== out &&
      (acknowledgment - flow.synSequence) >>> 0 <= flow.synBytes;
    const initiator = dataInSyn ? flow.synSequence : acknowledgment;
    const firstOut = out ? sequence : initiator;
    const firstIn = out ? initiator : sequence;
    const current = flow.current;
    if (current !== null && current.firstOut === firstOut && current.firstIn === firstIn) return;
    const keep = flow.awaiting.length > 0 || this.#expects(flow.localPort, flow.remotePort);
    const timeNs = batch.timeNs[i]!;
    const instance = new Instance(flow, timeNs, firstOut, firstIn, keep, this.drops, out);
    // The kernel answers a new SYN only when the old connection is over. One that never ended on
    // the wire was never complete (a full accept queue, a scan): no accept will return it.
    for (let n = flow.unbound.length - 1; n >= 0; n--) {
      const old = flow.unbound[n]!;
      if (old.ended && old.established && old.lastNs + STALE_NS > timeNs) continue;
      flow.unbound.splice(n, 1);
      this.#unbound[old.slot] = null;
    }
    flow.current = instance;
    // The four-tuple came back: its packets are another connection's from here on.
    flow.older = null;
    flow.unbound.push(instance);
    this.#remember(instance);
    if (dataInSyn) {
      const mine = out ? instance.in : instance.out;
      const { synBytes, synNs, synDevice } = flow;
      if (keep) mine.segment(initiator, synBytes, synNs, synDevice, this.drops);
      else mine.pass(initiator, synBytes);
      // It may acknowledge the data too, but never comes here as a segment.
      mine.acknowledge(acknowledgment, this.drops);
    }
    this.#pair(flow);
  }

  /** Pairs sockets with instances, both in the order of their birth. */
  #pair(flow: Flow): void {
    const { unbound, awaiting } = flow;
    for (let i = 0; i < unbound.length && awaiting.length > 0; ) {
      const instance = unbound[i]!;
      const c = candidate(awaiting, instance.timeNs);
      if (c < 0) {
        i++;
        continue;
      }
      const connection = awaiting[c]!;
      unbound.splice(i, 1);
      awaiting.splice(c, 1);
      instance.connection = connection;
      this.#unbound[instance.slot] = null;
      if (!instance.keep) {
        instance.keep = true;
        const reason = this.#whyNotKept(instance, connection);
        instance.out.bookUnborn(reason);
        instance.in.bookUnborn(reason);
      }
      connection.attach(instance);
      this.onSighting(connection);
    }
  }

  /** Why the first packets of a socket were not kept for it. */
  #whyNotKept({ timeNs, isShed }: Instance, { connected, lport }: Connection): number {
    if (isShed) return Reason.overflow;
    return connected || this.#listeningSinceNs[lport]! <= timeNs ? Reason.late : Reason.unborn;
  }

  /** An instance of the same local or remote end under another address: address translation? */
  looksTranslated(connection: Connection): boolean {
    for (const instance of this.#unbound) {
      if (instance === null) continue;
      const flow = instance.flow;
      const sameLocal =
        flow.localPort === connection.lport && sameWords(flow.local, connection.local);
      const sameRemote =
        flow.remotePort === connection.rport && sameWords(flow.remote, connection.remote);
      if (sameLocal !== sameRemote && instance.timeNs >= connection.birthNs - 1e9) return true;
    }
    return false;
  }

  #remember(instance: Instance): void {
    const at = this.#unboundNext;
    const old = this.#unbound[at]!;
    if (old !== null) this.#forget(old);
    this.#unbound[at] = instance;
    instance.slot = at;
    this.#unboundNext = (at + 1) & (MAX_UNBOUND - 1);
  }

  #forget(instance: Instance): void {
    const flow = instance.flow;
    this.forgotten++;
    const i = flow.unbound.indexOf(instance);
    if (i >= 0) flow.unbound.splice(i, 1);
    if (flow.current === instance) flow.current = null;
    this.#drop(flow);
  }

  #expects(localPort: number, remotePort: number): boolean {
    return this.isListening(localPort) || this.#connecting[remotePort]! > 0;
  }

  #unkeep(instance: Instance): void {
    instance.keep = false;
    instance.isShed = true;
    instance.out.forget();
    instance.in.forget();
  }

  #flowOf(connection: Connection): Flow {
    const { local, remote, lport, rport } = connection;
    let flow = this.#flows.get(local, 0, lport, remote, 0, rport);
    if (flow === null) {
      flow = new Flow(local, 0, lport, remote, 0, rport);
      this.#flows.set(local, 0, lport, remote, 0, rport, flow);
    }
    flow.bound++;
    connection.flow = flow;
    return flow;
  }

  #drop(flow: Flow): void {
    if (flow.bound > 0 || flow.unbound.length > 0 || flow.awaiting.length > 0) return;
    this.#flows.delete(flow.local, 0, flow.localPort, flow.remote, 0, flow.remotePort);
  }
}

/** Which of the sockets of a four-tuple, oldest first, a handshake at `timeNs` was of; or -1. */
function candidate(awaiting: readonly Connection[], timeNs: number): number {
  let found = -1;
  for (let c = 0; c < awaiting.length; c++) {
    const { connected, birthNs, unboundNs } = awaiting[c]!;
    if (connected) {
      // connect is called before the handshake: of several the last, the others' were not captured.
      // Nor was that of a socket that is closed already.
      if (birthNs <= timeNs && !(unboundNs >= 0 && unboundNs < timeNs)) found = c;
    } else if (timeNs <= birthNs) {
      // accept returns after it, oldest first.
      return c;
    }
  }
  return found;
}

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3];
}
