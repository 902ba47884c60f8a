// One engine, fed by hand: a client's and a server's sockets, their calls, and packets of one
// four-tuple, for cases that deserve a name of their own.

import { PacketBatch, Sight, TcpFlag } from "../../src/capture/packets.ts";
import type { Connection } from "../../src/match/connection.ts";
import { Engine, type EngineOptions } from "../../src/match/engine.ts";
import { Labels } from "../../src/match/labels.ts";
import { Measurement } from "../../src/match/measurement.ts";
import type { QueueSink } from "../../src/match/queue-samples.ts";
import { EntryFlag, Kind, SlotFlag, State } from "../../src/ring/layout.ts";
import { LineSink } from "./sink.ts";
import {
  BASE_SEC,
  type EntryFields,
  entryWords,
  ipv4,
  putRow,
  type SlotFields,
  slotWords,
} from "./words.ts";

export const CLIENT = ipv4(10, 0, 0, 1);
export const SERVER = ipv4(10, 0, 0, 2);
export const CLIENT_PORT = 40000;
export const SERVER_PORT = 443;
export const MS = 1e6;

export class Bench {
  readonly sink = new LineSink();
  readonly labels = new Labels("port");
  readonly engine: Engine;
  readonly table: number;
  readonly settled: Connection[] = [];
  readonly samples: Parameters<QueueSink["queues"]>[] = [];
  readonly freed: number[] = [];
  /** Initial numbers + 1. */
  clientFirst = 0xffffff00;
  serverFirst = 5000;
  #entries = 0;

  constructor(options: Partial<EngineOptions> = {}) {
    const { sink } = this;
    const everything = new Measurement(this.labels, sink);
    everything.queues = { queues: (...sample) => void this.samples.push(sample) };
    this.engine = new Engine({ baseSec: BASE_SEC, out: true, in: true, everything, ...options });
    this.engine.onSettled = (connection) => this.settled.push(connection);
    this.engine.onFree = (_table, entry) => this.freed.push(entry);
    this.table = this.engine.addTable();
  }

  listen(port = SERVER_PORT): void {
    this.engine.record(
      this.table,
      slotWords({ kind: Kind.Listen, entry: 0, generation: 0, timeNs: 0, off: port }),
    );
  }

  /** A connecting socket, its address still unknown. Returns its entry. */
  connecting(birthNs: number, fields: Partial<EntryFields> = {}): number {
    const entry = this.#entries++;
    this.show(entry, { birthNs, state: State.Connecting, lport: 0, ...fields });
    return entry;
  }

  connected(birthNs: number, fields: Partial<EntryFields> = {}): number {
    const entry = this.#entries++;
    this.show(entry, { birthNs, ...fields });
    return entry;
  }

  accepted(birthNs: number, fields: Partial<EntryFields> = {}): number {
    return this.connected(birthNs, {
      flags: EntryFlag.Accepted,
      local: SERVER,
      lport: SERVER_PORT,
      remote: CLIENT,
      rport: CLIENT_PORT,
      ...fields,
    });
  }

  show(entry: number, fields: Partial<EntryFields> & { birthNs: number }): void {
    this.engine.entry(
      this.table,
      entry,
      entryWords({
        generation: 1,
        flags: EntryFlag.Connected,
        local: CLIENT,
        remote: SERVER,
        lport: CLIENT_PORT,
        rport: SERVER_PORT,
        pid: 100,
        fd: entry + 3,
        ...fields,
      }),
    );
  }

  record(kind: number, entry: number, timeNs: number, fields: Partial<SlotFields> = {}): void {
    const about = { entry, generation: 1, fd: entry + 3, pid: 100 };
    this.engine.record(this.table, slotWords({ kind, timeNs, ...about, ...fields }));
  }

  send(
    entry: number,
    timeNs: number,
    off: number,
    bytes: number,
    fields: Partial<SlotFields> = {},
  ): void {
    this.record(Kind.Out, entry, timeNs, { off, bytes, ...fields });
  }

  receive(
    entry: number,
    timeNs: number,
    off: number,
    bytes: number,
    fields: Partial<SlotFields> = {},
  ): void {
    this.record(Kind.In, entry, timeNs, { off, bytes, ...fields });
  }

  close(entry: number, timeNs: number, unread = 0): void {
    this.record(Kind.Unbind, entry, timeNs, { bytes: unread });
  }

  refuse(entry: number, timeNs: number): void {
    this.record(Kind.Unbind, entry, timeNs, { flags: SlotFlag.Refused });
  }

  /** A packet at stream offset `off`, acknowledging `ack`. */
  packet(
    timeNs: number,
    fromClient: boolean,
    off: number,
    bytes: number,
    ack = 0,
    flags: number = TcpFlag.ACK,
    sight: number = Sight.Unknown,
    device = 1,
  ): void {
    const batch = new PacketBatch(1);
    putRow(batch, {
      timeNs,
      source: fromClient ? CLIENT : SERVER,
      sourcePort: fromClient ? CLIENT_PORT : SERVER_PORT,
      destination: fromClient ? SERVER : CLIENT,
      destinationPort: fromClient ? SERVER_PORT : CLIENT_PORT,
      sequence: ((fromClient ? this.clientFirst : this.serverFirst) + off) >>> 0,
      acknowledgment: ((fromClient ? this.serverFirst : this.clientFirst) + ack) >>> 0,
      bytes,
      flags,
      sight,
      device,
    });
    this.engine.packets(batch);
  }

  /** SYN, SYN-ACK and the answer to it, 1 µs apart. */
  handshake(timeNs: number, answered = true): void {
    this.packet(timeNs, true, 0, 0, 0, TcpFlag.SYN);
    this.packet(timeNs + 1000, false, 0, 0, 0, TcpFlag.SYN | TcpFlag.ACK);
    if (answered) this.packet(timeNs + 2000, true, 0, 0);
  }

  reset(timeNs: number, fromClient: boolean, off: number): void {
    this.packet(timeNs, fromClient, off, 0, 0, TcpFlag.RST);
  }

  /** The four-tuple comes back: other initial numbers. */
  renew(clientFirst: number, serverFirst: number): void {
    this.clientFirst = clientFirst >>> 0;
    this.serverFirst = serverFirst >>> 0;
  }

  finish(): void {
    this.engine.flush();
    this.engine.finish();
  }

  of(entry: number): Connection {
    return this.settled.find((connection) => connection.entry === entry)!;
  }

  /** Bytes matched, and bytes by reason. */
  out(entry: number): Record<string, number> {
    return books(this.of(entry), "out");
  }

  in(entry: number): Record<string, number> {
    return books(this.of(entry), "in");
  }
}

function books(connection: Connection, side: "out" | "in"): Record<string, number> {
  const { stats } = connection[side];
  const result: Record<string, number> = { matched: stats.bytesMatched };
  stats.unmatched.forEach((bytes, reason) => {
    if (bytes > 0) result[reason] = bytes;
  });
  return result;
}
