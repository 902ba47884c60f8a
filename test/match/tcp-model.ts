// A naive TCP connection between a kernel whose numbers are all known and a peer, with what a capture
// at its device would see of it: the truth that anchors are held against. Sequence numbers are plain
// counts here, from the initial number on; only packets carry them modulo 2^32.

import { PacketBatch } from "../../src/capture/packets.ts";
import { Observed } from "../../src/match/anchor.ts";
import type { Random } from "./random.ts";
import { TcpFlag } from "./words.ts";

const MS = 1e6;

export interface TcpFeatures {
  /** Departing packets wait in a qdisc. */
  queued: boolean;
  /** Packets need up to this long from the tap to the socket, ns. */
  lagNs: number;
  /** The peer loses packets of ours: we send them again. */
  lossy: boolean;
  /** Some packets are dropped by the capture, which counts them. */
  drops: boolean;
  /** The capture starts in the middle. */
  late: boolean;
  /** Calls of the program are met under way. */
  calls: boolean;
  fin: boolean;
  steps: number;
}

export interface Packet {
  out: boolean;
  sequence: number;
  acknowledgment: number;
  bytes: number;
  flags: number;
}

export interface Sighting {
  timeNs: number;
  packet: Packet;
}

export class TcpModel {
  readonly random: Random;
  readonly isnOut: number;
  readonly isnIn: number;
  nowNs = 0;
  /** Counts of bytes, FINs included: written, sent, acknowledged; received, read. */
  written = 0;
  sent = 0;
  acked = 0;
  received = 0;
  read = 0;
  finOut = false;
  finIn = false;
  /** Bytes moved in the call under way, that the table does not show yet. */
  outCall = 0;
  inCall = 0;
  inOut = false;
  inIn = false;
  /** When the capture dropped a packet: it was full, so that others in front of it are read later. */
  readonly dropsNs: number[] = [];
  /** Payload that has passed the device, lost by the capture or not. */
  readonly departures: { start: number; end: number }[] = [];
  readonly arrivals: { start: number; end: number }[] = [];
  readonly sightings: Sighting[] = [];

  readonly #features: TcpFeatures;
  readonly #events: { atNs: number; order: number; run: () => void }[] = [];
  #order = 0;
  #qdiscFreeNs = 0;
  #socketFreeNs = 0;
  #peerFreeNs = 0;
  #peerSent = 0;
  #peerFin = false;
  #peerReceived = 0;

  constructor(random: Random, features: TcpFeatures) {
    this.random = random;
    this.#features = features;
    // Near the wrap, often.
    const initial = () => (random.chance(0.5) ? 2 ** 32 - random.below(40_000) : random.below(2 ** 31));
    this.isnOut = initial();
    this.isnIn = initial();
  }

  /** Lets time pass. */
  advance(ns: number): void {
    const untilNs = this.nowNs + ns;
    for (;;) {
      const events = this.#events;
      let first = -1;
      for (let i = 0; i < events.length; i++) {
        const e = events[i]!;
        if (e.atNs > untilNs) continue;
        const f = first < 0 ? null : events[first]!;
        if (f === null || e.atNs < f.atNs || (e.atNs === f.atNs && e.order < f.order)) first = i;
      }
      if (first < 0) break;
      const [event] = events.splice(first, 1);
      this.nowNs = Math.max(this.nowNs, event!.atNs);
      event!.run();
    }
    this.nowNs = untilNs;
  }

  /** Something that programs, peers and kernels do. */
  step(): void {
    const { random } = this;
    const what = random.below(10);
    if (what < 3) this.#write(random.within(1, 6000));
    else if (what < 5) this.#send();
    else if (what < 7) this.#peerSend(random.within(1, 4000));
    else if (what < 9) this.#read(random.within(1, 8000));
    else if (this.#features.calls) this.#toggleCalls();
    this.advance(random.below(random.chance(0.2) ? 30 * MS : 300_000));
  }

  /** Everything is sent, acknowledged and out of every queue, and no call is under way. */
  quiesce(): void {
    if (this.inOut || this.inIn) this.#endCalls();
    for (let i = 0; i < 1000 && (this.sent < this.written || this.acked < this.sent); i++) {
      this.#send();
      this.advance(20 * MS);
    }
    this.advance(100 * MS);
    this.#acknowledge();
    this.advance(500 * MS);
  }

  close(): void {
    if (!this.finOut && !this.inOut) {
      this.finOut = true;
      this.written++;
    }
    if (!this.#peerFin) {
      this.#peerFin = true;
      this.#peerSend(0);
    }
  }

  /** What the kernel says now; `outBase`, `inBase`: counts at offset 0. */
  observe(outBase: number, inBase: number): Float64Array {
    const values = new Float64Array(Observed.count);
    const { random } = this;
    values[Observed.beforeNs] = this.nowNs - random.below(3000);
    values[Observed.afterNs] = this.nowNs + random.below(3000);
    values[Observed.steady] = 1;
    values[Observed.acked] = this.acked;
    values[Observed.received] = this.received;
    values[Observed.unacked] = this.sent - this.acked;
    values[Observed.written] = this.written - (this.finOut ? 1 : 0);
    values[Observed.read] = this.read;
    values[Observed.outOff] = this.written - (this.finOut ? 1 : 0) - this.outCall - outBase;
    values[Observed.inOff] = this.read - this.inCall - inBase;
    values[Observed.outIdle] = this.inOut ? 0 : 1;
    values[Observed.inIdle] = this.inIn ? 0 : 1;
    return values;
  }

  #at(atNs: number, run: () => void): void {
    this.#events.push({ atNs, order: this.#order++, run });
  }

  #write(bytes: number): void {
    if (this.finOut) return;
    this.written += bytes;
    if (this.inOut) this.outCall += bytes;
    this.#send();
  }

  #read(most: number): void {
    const bytes = Math.min(most, this.received - (this.finIn ? 1 : 0) - this.read);
    if (bytes <= 0) return;
    this.read += bytes;
    if (this.inIn) this.inCall += bytes;
  }

  #toggleCalls(): void {
    if (this.random.chance(0.5)) {
      if (this.inOut) this.outCall = 0;
      this.inOut = !this.inOut && !this.finOut;
    } else {
      if (this.inIn) this.inCall = 0;
      this.inIn = !this.inIn;
    }
  }

  #endCalls(): void {
    this.inOut = this.inIn = false;
    this.outCall = this.inCall = 0;
  }

  #send(): void {
    for (let n = this.random.within(1, 4); n > 0 && this.sent < this.written; n--) {
      const end = Math.min(this.written, this.sent + this.random.within(1, 3000));
      this.#transmit(this.sent, end);
      this.sent = end;
    }
  }

  #transmit(start: number, end: number): void {
    const isFin = this.finOut && end === this.written;
    const packet: Packet = {
      out: true,
      sequence: start,
      acknowledgment: this.received,
      bytes: end - start - (isFin ? 1 : 0),
      flags: TcpFlag.ACK | (isFin ? TcpFlag.FIN : 0),
    };
    this.#depart(packet, () => {
      if (this.#features.lossy && this.random.chance(0.1)) {
        this.#at(this.nowNs + 40 * MS, () => this.#transmit(start, end));
        return;
      }
      if (start <= this.#peerReceived) this.#peerReceived = Math.max(this.#peerReceived, end);
      const reached = this.#peerReceived;
      const atNs = this.nowNs + this.random.within(100_000, 8 * MS);
      this.#peerFreeNs = Math.max(this.#peerFreeNs, atNs);
      // Where packets are lost, they also overtake each other.
      this.#at(this.#features.lossy ? atNs : this.#peerFreeNs, () => {
        this.#arrive({
          out: false, sequence: this.#peerSent, acknowledgment: reached, bytes: 0, flags: TcpFlag.ACK,
        });
      });
    });
  }

  #peerSend(bytes: number): void {
    if (this.#peerFin && bytes > 0) return;
    const start = this.#peerSent;
    const isFin = this.#peerFin;
    this.#peerSent += bytes + (isFin ? 1 : 0);
    this.#arrive({
      out: false, sequence: start, acknowledgment: this.#peerReceived, bytes,
      flags: TcpFlag.ACK | (isFin ? TcpFlag.FIN : 0),
    });
  }

  #acknowledge(): void {
    this.#depart({
      out: true, sequence: this.sent, acknowledgment: this.received, bytes: 0, flags: TcpFlag.ACK,
    }, () => {});
  }

  /** Through the qdisc, in order; the tap is behind it. */
  #depart(packet: Packet, onWire: () => void): void {
    const waitNs = this.#features.queued ? this.random.below(4 * MS) : this.random.below(2000);
    this.#qdiscFreeNs = Math.max(this.#qdiscFreeNs, this.nowNs) + waitNs;
    this.#at(this.#qdiscFreeNs, () => {
      this.#tap(packet);
      const { sequence, bytes } = packet;
      if (bytes > 0) this.departures.push({ start: sequence, end: sequence + bytes });
      onWire();
    });
  }

  /** Past the tap, then to the socket, in order. */
  #arrive(packet: Packet): void {
    this.#tap(packet);
    const { sequence, bytes } = packet;
    if (bytes > 0) this.arrivals.push({ start: sequence, end: sequence + bytes });
    const lagNs = this.random.below(this.#features.lagNs + 1);
    this.#socketFreeNs = Math.max(this.#socketFreeNs, this.nowNs + lagNs);
    this.#at(this.#socketFreeNs, () => {
      this.acked = Math.max(this.acked, packet.acknowledgment);
      const isFin = (packet.flags & TcpFlag.FIN) !== 0;
      const end = sequence + bytes + (isFin ? 1 : 0);
      if (end <= this.received) return;
      this.received = end;
      if (isFin) this.finIn = true;
      if (this.random.chance(0.6)) this.#acknowledge();
    });
  }

  #tap(packet: Packet): void {
    if (this.#features.drops && this.random.chance(0.03)) {
      this.dropsNs.push(this.nowNs);
      return;
    }
    this.sightings.push({ timeNs: this.nowNs, packet: { ...packet } });
  }

  /** A packet as the capture hands it over. */
  show({ timeNs, packet }: Sighting, batch: PacketBatch): void {
    const [mine, theirs] = packet.out ? [this.isnOut, this.isnIn] : [this.isnIn, this.isnOut];
    batch.count = 1;
    batch.timeNs[0] = timeNs;
    batch.sequence[0] = (mine + packet.sequence) % 2 ** 32;
    batch.acknowledgment[0] = (theirs + packet.acknowledgment) % 2 ** 32;
    batch.payloadBytes[0] = packet.bytes;
    batch.flags[0] = packet.flags;
  }
}
