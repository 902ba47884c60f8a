// Asks the kernel about sockets that are older than the capture, a few at a time, and tells the join
// what it said as plain numbers (see match/anchor.ts).

import { Counter, TcpCounters } from "../ffi/tcp-counters.ts";
import { socketQueues, TcpState } from "../ffi/netlink.ts";
import { Observed } from "../match/anchor.ts";
import { standsAt } from "../match/anchors.ts";
import type { Connection } from "../match/connection.ts";
import type { Engine } from "../match/engine.ts";

/** About 12 microseconds each. */
const MOST_A_ROUND = 64;
const ROUND_EVERY_MS = 20;
/** A clock that is only slowed down (adjtimex(2)) loses less: ms, and share of the time passed. */
const SLEWED_MS = 1;
const SLEWED = 0.001;

/** What the observer needs of the collector. */
export interface ObserverParts {
  readonly engine: Engine;
  readonly baseSec: number;
  /** Shows the engine the socket table's entry as it is now. */
  readonly refresh: (connection: Connection) => void;
  /** Told of each observation before the engine is. */
  readonly onObserved: (sock: number, values: Float64Array) => void;
  /** Told why the kernel cannot be asked; it is not asked again. */
  readonly onFailure: (error: unknown) => void;
}

export class Observer {
  readonly #parts: ObserverParts;
  readonly #counters = new TcpCounters();
  readonly #values = new Float64Array(Observed.count);
  readonly #work: Connection[] = [];
  /** Of those that the kernel does not find without: the interface that they are bound to. */
  readonly #devices = new WeakMap<Connection, number>();
  /** When the clock was read last, in ms of `performance.now`, and how far ahead of that it was. */
  #readMs = -Infinity;
  #aheadMs = -Infinity;
  #roundMs = -Infinity;
  #failed = false;

  constructor(parts: ObserverParts) {
    this.#parts = parts;
  }

  /** One bounded round; `all`: whoever has not been asked yet, however many. */
  round(nowMs: number, all = false): void {
    const { engine } = this.#parts;
    if (engine.anchors.size === 0 || this.#failed) return;
    if (!all && nowMs - this.#roundMs < ROUND_EVERY_MS) return;
    this.#roundMs = nowMs;
    const work = this.#work;
    work.length = 0;
    engine.anchors.wanted(nowMs, all ? Infinity : MOST_A_ROUND, work);
    try {
      const missed = work.filter((connection) => !this.#observe(connection));
      if (missed.length > 0) this.#findDevices(missed);
    } catch (error) {
      this.#failed = true;
      this.#parts.onFailure(error);
    }
  }

  close(): void {
    this.#counters.close();
  }

  /** The entry, the kernel, the entry again: what did not move in between is of one moment. */
  #observe(connection: Connection): boolean {
    const { engine, baseSec, onObserved } = this.#parts;
    this.#refresh(connection);
    const before = standsAt(connection);
    const device = this.#devices.get(connection) ?? 0;
    const startMs = performance.now();
    const isThere = this.#counters.read(connection, device, baseSec);
    engine.anchors.answered(connection.sock, isThere);
    if (!isThere) return false;
    const isTurnedBack = this.#isTurnedBack(startMs, this.#counters.values[Counter.beforeNs]!);
    this.#refresh(connection);
    const after = standsAt(connection);
    const counters = this.#counters.values;
    const values = this.#values;
    const state = counters[Counter.state]!;
    const finSent = state === TcpState.FinWait1 || state === TcpState.FinWait2 ||
      state === TcpState.Closing || state === TcpState.LastAck;
    const finReceived = state === TcpState.CloseWait || state === TcpState.LastAck ||
      state === TcpState.Closing;
    const queued = counters[Counter.receiveQueueBytes]!;
    values[Observed.beforeNs] = engine.clock.steady(counters[Counter.beforeNs]!);
    values[Observed.afterNs] = engine.clock.steady(counters[Counter.afterNs]!);
    values[Observed.steady] = counters[Counter.steady]!;
    values[Observed.acked] = counters[Counter.ackedBytes]!;
    values[Observed.received] = counters[Counter.receivedBytes]!;
    values[Observed.unacked] = counters[Counter.sendQueueBytes]! - counters[Counter.notSentBytes]!;
    values[Observed.written] =
      counters[Counter.ackedBytes]! + counters[Counter.sendQueueBytes]! - (finSent ? 1 : 0);
    // A FIN that was received is unread as long as anything is.
    values[Observed.read] =
      counters[Counter.receivedBytes]! - queued - (finReceived && queued === 0 ? 1 : 0);
    values[Observed.outOff] = before.out === after.out ? after.out : -1;
    values[Observed.inOff] = before.in === after.in ? after.in : -1;
    const active = before.active | after.active;
    values[Observed.outIdle] = (active & 1) === 0 ? 1 : 0;
    values[Observed.inIdle] = (active & 2) === 0 ? 1 : 0;
    values[Observed.inWaits] = after.waits ? 1 : 0;
    values[Observed.turnedBack] = isTurnedBack ? 1 : 0;
    onObserved(connection.sock, values);
    engine.anchors.observe(connection.sock, values);
    return true;
  }

  /** A socket that is bound to an interface, or has a scope, is only found with that one's index. */
  #findDevices(missed: readonly Connection[]): void {
    const fresh = missed.filter((connection) => !this.#devices.has(connection));
    if (fresh.length === 0) return;
    const all = new Map<number, number>();
    for (const { inode, device } of socketQueues()) if (device > 0) all.set(inode, device);
    for (const connection of fresh) this.#devices.set(connection, all.get(connection.inode) ?? 0);
  }

  /** Whether the clock, read between `startMs` and now, was set back since it was read before. */
  #isTurnedBack(startMs: number, clockNs: number): boolean {
    const endMs = performance.now();
    const clockMs = clockNs / 1e6;
    const slewedMs = SLEWED_MS + (endMs - this.#readMs) * SLEWED;
    const isTurnedBack = clockMs - startMs < this.#aheadMs - slewedMs;
    this.#readMs = endMs;
    this.#aheadMs = clockMs - endMs;
    return isTurnedBack;
  }

  #refresh(connection: Connection): void {
    const { refresh } = this.#parts;
    refresh(connection);
    for (const heir of connection.heirs) refresh(heir);
  }
}
