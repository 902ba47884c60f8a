// Feeds a history to the engine as the collector does, in one of the orders that are possible:
// rings are read in any order among themselves, packets come no earlier than the births that were
// committed before they were captured, and a tick promises only what has been handed over.

import { PacketBatch, Sight } from "../../src/capture/packets.ts";
import type { Connection } from "../../src/match/connection.ts";
import { Engine } from "../../src/match/engine.ts";
import { Labels } from "../../src/match/labels.ts";
import { Measurement } from "../../src/match/measurement.ts";
import { Constant, EntryFlag, EntryWord, Kind, SlotFlag, State } from "../../src/ring/layout.ts";
import {
  type History,
  INNER_DEVICE,
  type Packet,
  RINGS,
  type SideSpec,
  type SocketSpec,
} from "./history-types.ts";
import { Random } from "./random.ts";
import { LineSink } from "./sink.ts";
import { BASE_SEC, type DirectionState, entryWords, ipv4, putRow, slotWords } from "./words.ts";

export const CLIENT = ipv4(10, 0, 0, 1);
export const SERVER = [0x20010db8, 0, 0, 0x53] as const;

interface FedRecord {
  commitNs: number;
  /** What it is about; null: a listening port. */
  socket: SocketSpec | null;
  words: Uint32Array;
  /** A packet that was captured later comes later. */
  ahead: boolean;
}

export interface Outcome {
  engine: Engine;
  labels: Labels;
  connections: Map<number, Connection>;
  lines: string[];
  /** For each socket, how many packets had been fed when it was born. */
  bornAt: Map<number, number>;
  /** The drops that were known when it was settled. */
  dropsAt: Map<number, number>;
}

/** Sees each record before the engine does, and may give it others first. */
export type Registrar = (engine: Engine, table: number, socket: SocketSpec, words: Uint32Array) => void;

export const fdOf = (socket: SocketSpec): number => socket.index + 3;
export const pidOf = (socket: SocketSpec): number => 1000 + socket.index;

function recordsOf(history: History, random: Random): FedRecord[][] {
  const rings: FedRecord[][] = Array.from({ length: RINGS }, () => []);
  const ports = new Set(history.wires.filter((w) => w.listened).map((w) => w.serverPort));
  for (const port of ports) {
    const words = slotWords({ kind: Kind.Listen, entry: 0, generation: 0, timeNs: 1, off: port });
    rings[0]!.push({ commitNs: 1, socket: null, words, ahead: true });
  }
  for (const socket of history.sockets) {
    const about = { entry: socket.index, generation: 1, fd: fdOf(socket), pid: pidOf(socket) };
    const put = (ring: number, commitNs: number, kind: number, more = {}): void => {
      const words = slotWords({ kind, timeNs: Math.floor(commitNs), ...about, ...more });
      const ahead = kind !== Kind.Out && kind !== Kind.In;
      rings[ring]!.push({ commitNs, socket, words, ahead });
    };
    if (socket.connectCommitNs >= 0) put(socket.ring, socket.connectCommitNs, Kind.Connect);
    put(socket.ring, socket.birthCommitNs, Kind.Birth);
    for (const [kind, side] of [[Kind.Out, socket.out], [Kind.In, socket.in]] as const) {
      for (const call of side.calls) {
        if (call.lost) continue;
        put(call.ring, call.commitNs, kind, {
          timeNs: call.timeNs,
          off: call.off,
          bytes: call.bytes,
          flags: call.overlap ? SlotFlag.Overlap : 0,
          group: call.group,
        });
      }
    }
    if (socket.unbindNs >= 0) {
      const bytes = socket.unread < 0 ? Constant.unreadUnknown : socket.unread;
      put(socket.ring, socket.unbindNs, Kind.Unbind, { bytes });
    }
  }
  for (const ring of rings) {
    ring.sort((a, b) => a.commitNs - b.commitNs);
    // A slot is claimed after the call has ended: the next call's record may overtake.
    for (let i = 0; i + 1 < ring.length; i++) {
      if (!ring[i]!.ahead && !ring[i + 1]!.ahead && random.chance(0.2)) {
        [ring[i], ring[i + 1]] = [ring[i + 1]!, ring[i]!];
      }
    }
  }
  return rings;
}

function progress(side: SideSpec, readNs: number): DirectionState {
  let off = 0;
  let active = 0;
  for (const call of side.calls) {
    if (call.commitNs <= readNs) off += call.bytes;
    else if (call.beginNs <= readNs) active++;
  }
  for (const mate of side.mates) if (mate.beginNs <= readNs && readNs < mate.endNs) active++;
  if (side.cut > 0 && side.cutNs <= readNs) active += side.cut;
  return { off, active, callNs: side.cutNs };
}

function wordsOf(socket: SocketSpec, readNs: number, state: number): Uint32Array {
  const { wire, client } = socket;
  const words = entryWords({
    generation: 1,
    state,
    flags: client ? EntryFlag.Connected : EntryFlag.Accepted,
    birthNs: socket.birthNs,
    local: client ? CLIENT : SERVER,
    remote: client ? SERVER : CLIENT,
    lport: client ? wire.clientPort : wire.serverPort,
    rport: client ? wire.serverPort : wire.clientPort,
    pid: pidOf(socket),
    fd: fdOf(socket),
    out: progress(socket.out, readNs),
    in: progress(socket.in, readNs),
  });
  if (state === State.Connecting) words[EntryWord.lport] = words[EntryWord.lport]! & 0xffff0000;
  return words;
}

function sightOf(packet: Packet): number {
  if (packet.wire.place === "loop") return Sight.Unknown;
  return packet.fromClient === (packet.wire.place === "client") ? Sight.Out : Sight.In;
}

export function put(batch: PacketBatch, packet: Packet): void {
  const { wire, fromClient } = packet;
  const first = fromClient ? wire.clientFirst : wire.serverFirst;
  const theirs = fromClient ? wire.serverFirst : wire.clientFirst;
  putRow(batch, {
    timeNs: packet.timeNs,
    source: fromClient ? CLIENT : SERVER,
    sourcePort: fromClient ? wire.clientPort : wire.serverPort,
    destination: fromClient ? SERVER : CLIENT,
    destinationPort: fromClient ? wire.serverPort : wire.clientPort,
    sequence: (first + packet.off) % 4294967296,
    acknowledgment: packet.ack < 0 ? 0 : (theirs + packet.ack) % 4294967296,
    bytes: packet.bytes,
    flags: packet.flags,
    device: packet.device,
    sight: sightOf(packet),
  });
}

export function play(
  history: History,
  order: number,
  eager: boolean,
  registrar: Registrar = () => {},
): Outcome {
  const random = new Random(order);
  const sink = new LineSink();
  const labels = new Labels("port");
  const everything = new Measurement(labels, sink);
  const engine = new Engine({ baseSec: BASE_SEC, out: true, in: true, everything });
  engine.innerDevices.add(INNER_DEVICE);
  const table = engine.addTable();
  const connections = new Map<number, Connection>();
  const settled = new Set<number>();
  const dropsAt = new Map<number, number>();
  engine.onSettled = (connection) => {
    connections.set(connection.entry, connection);
    dropsAt.set(connection.entry, engine.instances.drops.now);
  };
  engine.onFree = (_table, entry) => settled.add(entry);
  const bornAt = new Map<number, number>();
  const rings = recordsOf(history, random);
  const { packets, sockets } = history;
  const { drops } = engine.instances;
  const next = rings.map(() => 0);
  let fed = 0;
  let readNs = 0;
  let bornNs = 0;
  let tickedNs = -Infinity;
  let batch = new PacketBatch(64);

  const show = (socket: SocketSpec, state: number): void => {
    engine.entry(table, socket.index, wordsOf(socket, readNs, state));
    if (state === State.Open) bornNs = Math.max(bornNs, socket.birthCommitNs);
    if (state === State.Open && !bornAt.has(socket.index)) bornAt.set(socket.index, fed);
  };
  const deliver = (): void => {
    if (batch.count > 0) engine.packets(batch);
    batch = new PacketBatch(64);
  };
  const tick = (capturedNs: number): void => {
    deliver();
    engine.flush();
    if (capturedNs <= tickedNs) return;
    tickedNs = capturedNs;
    // Later than what it promises it always is.
    readNs = Math.max(readNs, capturedNs);
    const work: Connection[] = [];
    engine.stale(capturedNs, work);
    for (const { entry } of work) show(sockets[entry]!, State.Open);
    engine.ringRecords = history.lostRecords;
    engine.tick(capturedNs);
  };
  const feedRecord = (ring: number): void => {
    const { socket, words, commitNs, ahead } = rings[ring]![next[ring]!++]!;
    if (ahead) bornNs = Math.max(bornNs, commitNs);
    readNs = Math.max(readNs, commitNs);
    if (socket !== null && engine.isUnknown(table, socket.index, 1)) {
      // Read in time, a socket that connects is not open yet.
      const connecting = commitNs === socket.connectCommitNs && random.chance(0.5);
      show(socket, connecting ? State.Connecting : State.Open);
    }
    if (socket !== null) registrar(engine, table, socket, words);
    engine.record(table, words);
  };
  const feedPacket = (): void => {
    const packet = packets[fed]!;
    if (batch.count > 0 && (drops.now !== packet.now || drops.drained !== packet.drained)) deliver();
    drops.now = packet.now;
    drops.drained = packet.drained;
    put(batch, packet);
    fed++;
    readNs = Math.max(readNs, packet.timeNs);
    if (batch.count === batch.capacity || random.chance(0.3)) deliver();
  };

  for (;;) {
    const choices: number[] = [];
    let unfedNs = Infinity;
    let unbornNs = Infinity;
    for (let r = 0; r < RINGS; r++) {
      const ring = rings[r]!;
      if (next[r]! < ring.length) choices.push(r);
      for (let i = next[r]!; i < ring.length; i++) {
        unfedNs = Math.min(unfedNs, ring[i]!.commitNs);
        if (ring[i]!.ahead) unbornNs = Math.min(unbornNs, ring[i]!.commitNs);
      }
    }
    // Between two rounds, what is known of births has no gap in time.
    const consistent = bornNs < unbornNs;
    const mayFeed = consistent && fed < packets.length && packets[fed]!.timeNs < unbornNs;
    if (choices.length === 0 && !mayFeed) break;
    if (consistent && random.chance(0.2)) {
      deliver();
      engine.flush();
    }
    if (consistent && random.chance(0.2)) {
      let capturedNs = unfedNs;
      for (let p = fed; p < packets.length; p++) {
        capturedNs = Math.min(capturedNs, packets[p]!.timeNs);
      }
      if (capturedNs !== Infinity) tick(Math.floor(capturedNs) - random.below(1000));
    }
    if (mayFeed && (choices.length === 0 || random.chance(eager ? 0.9 : 0.5))) {
      feedPacket();
    } else {
      // A record changes the order of nothing that is in the batch already.
      deliver();
      feedRecord(random.pick(choices));
    }
  }
  deliver();
  engine.flush();
  if (random.chance(0.5)) tick(history.endNs + random.pick([1e6, 300e6, 1.5e9, 3e9, 10e9]));
  readNs = Infinity;
  for (const socket of sockets) {
    if (settled.has(socket.index)) continue;
    show(socket, State.Open);
    const connection = [...engine.live].find((live) => live.entry === socket.index);
    if (connection !== undefined) engine.queued(connection.sock, socket.queued);
  }
  engine.endTable(table);
  engine.finish();
  return { engine, labels, connections, lines: sink.lines, bornAt, dropsAt };
}
