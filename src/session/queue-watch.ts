// Reads the queue lengths of all measured sockets once in a while, in one pass over what the kernel
// knows, and gives them to the join.

import { SocketStats } from "../ffi/socket-stats.ts";
import type { Connection } from "../match/connection.ts";
import type { Engine } from "../match/engine.ts";
import { SocketField } from "../output/socket-fields.ts";

/** A pass over very many sockets comes less often: this share of the time is spent on it. */
const SHARE_MOST = 0.05;
/** After a failure the kernel is asked again, this many times as late. */
const RETRY_TIMES = 10;
/** The first comes soon: short commands have one, too. */
const FIRST_AFTER_MS = 100;

export interface QueueWatchParts {
  readonly engine: Engine;
  /** 0: never. */
  readonly everyMs: number;
  /** Nanoseconds since the base, now. */
  readonly nowNs: () => number;
  /** Shows the engine the socket table's entry as it is now. */
  readonly refresh: (connection: Connection) => void;
  /** Told of each sample before the engine is; see `Engine.sample`. */
  readonly onSample: (numbers: Float64Array) => void;
  /** A sentence for the user. */
  readonly onWarning: (message: string) => void;
}

export class QueueWatch {
  readonly #parts: QueueWatchParts;
  readonly #stats = new SocketStats();
  readonly #sockets: Connection[] = [];
  #dueMs: number;

  constructor(parts: QueueWatchParts) {
    this.#parts = parts;
    this.#dueMs = parts.everyMs > 0 ? performance.now() + FIRST_AFTER_MS : Infinity;
  }

  round(nowMs: number): void {
    if (nowMs < this.#dueMs) return;
    const { engine, everyMs, onWarning } = this.#parts;
    // One at a time: where the capture is stuck, none is added.
    if (engine.queues.isPending) return;
    this.#dueMs = nowMs + everyMs;
    const sockets = this.#sockets;
    sockets.length = 0;
    engine.watched(sockets);
    if (sockets.length === 0) return;
    const before = process.cpuUsage();
    try {
      this.#sample(sockets);
    } catch (error) {
      this.#dueMs = nowMs + everyMs * RETRY_TIMES;
      const why = error instanceof Error ? error.message : String(error);
      onWarning(`${why}: queue lengths could not be read, and lines of them are missing in the log`);
      return;
    }
    const { user, system } = process.cpuUsage(before);
    this.#dueMs = Math.max(this.#dueMs, nowMs + (user + system) / 1000 / SHARE_MOST);
  }

  close(): void {
    this.#stats.close();
  }

  #sample(sockets: readonly Connection[]): void {
    const { engine, nowNs, refresh, onSample } = this.#parts;
    const stats = this.#stats;
    const startNs = nowNs();
    stats.read();
    const endNs = nowNs();
    const numbers = new Float64Array(2 + sockets.length * (1 + SocketField.count));
    numbers[0] = startNs;
    numbers[1] = endNs;
    let at = 2;
    for (const connection of sockets) {
      const from = connection.inode === 0 ? -1 : stats.find(connection.inode);
      // Closed in every process: what it may still have to send is the kernel's alone.
      if (from < 0) continue;
      numbers[at++] = connection.sock;
      numbers.set(stats.values.subarray(from, from + SocketField.count), at);
      at += SocketField.count;
      // A write may block, of which there is no record yet.
      if (stats.values[from + SocketField.sendQueueBytes]! > 0) refresh(connection);
    }
    if (at === 2) return;
    const sample = numbers.subarray(0, at);
    onSample(sample);
    engine.sample(sample);
  }
}
