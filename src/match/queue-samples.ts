// The queues of all measured sockets at one moment: what the kernel says of each, and since when
// its oldest byte waits. The kernel answers at once; which bytes had left by then, or were read, the
// join knows when the capture has handed over every packet of that moment.

import { SocketField } from "../output/socket-fields.ts";
import type { Connection } from "./connection.ts";
import type { Measurement } from "./measurement.ts";
import type { Side } from "./merge.ts";

/** One socket at that moment. */
export interface QueueRow {
  readonly fd: number;
  readonly pid: number;
  readonly sock: number;
  readonly lport: number;
  readonly rport: number;
  /** By `SocketField`. */
  readonly values: Float64Array;
  /** How long the oldest byte has waited: unsent, unread; 0: none waits, -1: unknown. */
  unsentAgeNs: number;
  unreadAgeNs: number;
}

/** The clock was set back, or the capture stands still: nobody waits for packets from before. */
const CLOCK_BACK_NS = 60e9;

/** Where samples go: the log. */
export interface QueueSink {
  /** The queues of one measurement's sockets, at a moment between `startNs` and `endNs`. */
  queues(startNs: number, endNs: number, rows: readonly QueueRow[]): void;
}

export class QueueSamples {
  #sockets: Connection[] = [];
  #rows: QueueRow[] = [];
  #startNs = 0;
  #endNs = 0;

  /** A sample waits for its packets. */
  get isPending(): boolean {
    return this.#sockets.length > 0;
  }

  /** Takes what the kernel said: see `Engine.sample`. */
  begin(numbers: Float64Array, bySock: ReadonlyMap<number, Connection>): void {
    const startNs = numbers[0]!;
    const endNs = numbers[1]!;
    this.#startNs = startNs;
    this.#endNs = endNs;
    const stride = 1 + SocketField.count;
    for (let at = 2; at + stride <= numbers.length; at += stride) {
      const connection = bySock.get(numbers[at]!);
      if (connection === undefined) continue;
      const { fd, pid, sock, lport, rport, out, in: inbound } = connection;
      const values = numbers.slice(at + 1, at + stride);
      this.#sockets.push(connection);
      this.#rows.push({ fd, pid, sock, lport, rport, values, unsentAgeNs: -1, unreadAgeNs: -1 });
      out.probe(endNs);
      inbound.probe(endNs);
    }
  }

  /** Hands the sample on, if every packet up to `capturedNs` is joined and it is one of before. */
  end(capturedNs: number): void {
    if (!this.isPending) return;
    const isLost = capturedNs < this.#endNs - CLOCK_BACK_NS;
    if (capturedNs < this.#endNs && !isLost) return;
    const sockets = this.#sockets;
    const rows = this.#rows;
    this.#sockets = [];
    this.#rows = [];
    const byMeasurement = new Map<Measurement, QueueRow[]>();
    for (const [i, connection] of sockets.entries()) {
      const row = rows[i]!;
      const { active, callNs } = connection.outProgress;
      // A write that still blocks has bytes that no record tells of yet.
      const isBlocked = active > 0 && callNs <= this.#endNs;
      const unsentNs = this.#age(connection.out, isBlocked ? callNs : Infinity);
      const unreadNs = this.#age(connection.in, Infinity);
      if (!isLost) [row.unsentAgeNs, row.unreadAgeNs] = [unsentNs, unreadNs];
      for (const { measurement } of connection.naming.recipients) {
        if (measurement.queues === null) continue;
        const mine = byMeasurement.get(measurement);
        if (mine === undefined) byMeasurement.set(measurement, [row]);
        else mine.push(row);
      }
    }
    for (const [measurement, mine] of byMeasurement) {
      measurement.queues?.queues(this.#startNs, this.#endNs, mine);
    }
  }

  #age(side: Side, blockedSinceNs: number): number {
    const sinceNs = Math.min(side.probed(), blockedSinceNs);
    if (side.sightings === null || side.lost) return -1;
    return sinceNs === Infinity ? 0 : this.#endNs - sinceNs;
  }
}
