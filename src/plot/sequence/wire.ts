// One connection on the wire: its packets and ACKs, by stream offset, from a recording's headers.
// The join is not asked: what is drawn is what was captured.

import { PacketBatch, TcpFlag } from "../../capture/packets.ts";
import { PacketSource } from "../../capture/source.ts";
import { Capture } from "../../ffi/libpcap.ts";
import { Marks } from "./marks.ts";

const ROWS = 4096;

/** One direction of a stream. */
export class Stream {
  /** Where and when bytes were seen for the first time, in order or filling a gap. */
  readonly packets = new Marks();
  /** Bytes that the wire had carried before. */
  readonly again = new Marks();
  /** Up to where the receiver has acknowledged. */
  readonly acks = new Marks();
  /** Number of the byte at offset 0; NaN before its SYN was seen. */
  #start = Number.NaN;
  #sentTo = 0;
  #ackedTo = 0;
  /** Ranges below `#sentTo` that were not seen yet, from, to, from, to …, rising. */
  #gaps: number[] = [];

  get isAnchored(): boolean {
    return this.#start === this.#start;
  }

  anchor(sequence: number): void {
    this.#start = sequence;
  }

  isAnchoredAt(sequence: number): boolean {
    return this.#start === sequence;
  }

  packet(atSec: number, sequence: number, bytes: number): void {
    if (bytes === 0 || !this.isAnchored) return;
    const from = this.#offset(sequence, this.#sentTo);
    const to = from + bytes;
    if (from < this.#sentTo) this.#late(atSec, Math.max(from, 0), Math.min(to, this.#sentTo));
    if (to <= this.#sentTo) return;
    if (from > this.#sentTo) this.#gaps.push(this.#sentTo, from);
    this.packets.add(atSec, Math.max(from, this.#sentTo), to);
    this.#sentTo = to;
  }

  /** Bytes behind others: what was a gap is seen for the first time, the rest again. */
  #late(atSec: number, from: number, to: number): void {
    const gaps: number[] = [];
    let at = from;
    for (let i = 0; i < this.#gaps.length; i += 2) {
      const low = this.#gaps[i]!;
      const high = this.#gaps[i + 1]!;
      const filledFrom = Math.max(low, from);
      const filledTo = Math.min(high, to);
      if (filledFrom >= filledTo) {
        gaps.push(low, high);
        continue;
      }
      if (at < filledFrom) this.again.add(atSec, at, filledFrom);
      this.packets.add(atSec, filledFrom, filledTo);
      at = filledTo;
      if (low < filledFrom) gaps.push(low, filledFrom);
      if (filledTo < high) gaps.push(filledTo, high);
    }
    if (at < to) this.again.add(atSec, at, to);
    this.#gaps = gaps;
  }

  ack(atSec: number, number: number): void {
    if (!this.isAnchored) return;
    // A FIN has a number too, but no byte.
    const to = Math.min(this.#offset(number, this.#ackedTo), this.#sentTo);
    if (to <= this.#ackedTo) return;
    this.acks.add(atSec, this.#ackedTo, to);
    this.#ackedTo = to;
  }

  /** Offset of a 32-bit number that is within 2 GiB of a known offset. */
  #offset(sequence: number, near: number): number {
    return near + ((sequence - this.#start - near) | 0);
  }
}

/** A connection as one device shows it: from one SYN to the next one of the same addresses. */
export interface Wire {
  readonly addresses: string;
  readonly device: number;
  /** Its first packet left this host. */
  readonly isActive: boolean;
  readonly startSec: number;
  readonly out: Stream;
  readonly in: Stream;
}

/**
 * All connections of a local and a remote port in a savefile, in the order of their first packets.
 * Times are relative to `baseSec`.
 * @throws KQTimeError `E_PCAP_FILE`
 */
export function readWires(path: string, baseSec: number, lport: number, rport: number): Wire[] {
  const capture = Capture.savefile(path);
  const batch = new PacketBatch(ROWS);
  const source = new PacketSource(capture, baseSec);
  const wires: Wire[] = [];
  const current = new Map<string, Wire>();
  try {
    while (source.read(batch, ROWS) > 0 || source.examined > 0) {
      for (let row = 0; row < batch.count; row++) {
        const isOut = batch.sourcePort[row] === lport && batch.destinationPort[row] === rport;
        const isIn = batch.sourcePort[row] === rport && batch.destinationPort[row] === lport;
        if (isOut) segment(batch, row, true, current, wires);
        // Between two equal ports both hold, and the addresses tell.
        if (isIn) segment(batch, row, false, current, wires);
      }
    }
  } finally {
    capture.close();
  }
  return wires;
}

function segment(
  batch: PacketBatch,
  row: number,
  isOut: boolean,
  current: Map<string, Wire>,
  wires: Wire[],
): void {
  const local = isOut ? batch.source : batch.destination;
  const remote = isOut ? batch.destination : batch.source;
  const at = row * 4;
  const [here, there] = [local.subarray(at, at + 4), remote.subarray(at, at + 4)];
  const addresses = `${here.join(".")} ${there.join(".")}`;
  const atSec = batch.timeNs[row]! / 1e9;
  const flags = batch.flags[row]!;
  const sequence = batch.sequence[row]!;
  const isSyn = (flags & TcpFlag.SYN) !== 0;
  const isAck = (flags & TcpFlag.ACK) !== 0;
  const device = batch.interfaceIndex[row]!;
  const key = `${addresses} ${device}`;
  let wire = current.get(key);
  const mine = isOut ? wire?.out : wire?.in;
  const begins = isSyn && !isAck && mine?.isAnchoredAt(sequence) !== true;
  if (wire === undefined || begins) {
    const [out, into] = [new Stream(), new Stream()];
    wire = { addresses, device, isActive: isOut, startSec: atSec, out, in: into };
    current.set(key, wire);
    wires.push(wire);
  }
  const [stream, other] = isOut ? [wire.out, wire.in] : [wire.in, wire.out];
  if (isSyn) stream.anchor(sequence);
  stream.packet(atSec, sequence, batch.payloadBytes[row]!);
  if (isAck) other.ack(atSec, batch.acknowledgment[row]!);
}
