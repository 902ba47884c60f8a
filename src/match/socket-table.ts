// What the engine knows of one socket table of the target: who lives in which entry.

import type { Connection } from "./connection.ts";
import { leave } from "./heirs.ts";

export class SocketTable {
  /** All processes that can write to it have ended, and their rings are empty. */
  ended = false;
  readonly #connections: (Connection | null)[] = [];
  /** By entry: generation of the socket that was settled last, so that it is not born again. */
  readonly #settled: number[] = [];
  readonly #datagrams = new Map<number, number>();
  /** By entry: the remote port that it is connecting to. */
  readonly #connecting = new Map<number, number>();
  #live = 0;

  /** Whether `generation` of `entry` was never shown, or is gone for good. */
  isUnknown(entry: number, generation: number): boolean {
    const connection = this.#connections[entry];
    if (connection) return connection.generation !== generation;
    return this.#settled[entry] !== generation && this.#datagrams.get(entry) !== generation;
  }

  isSettled(entry: number, generation: number): boolean {
    return this.#settled[entry] === generation;
  }

  /** The socket in `entry`, of whatever generation. */
  at(entry: number): Connection | null {
    return this.#connections[entry] ?? null;
  }

  find(entry: number, generation: number): Connection | null {
    const connection = this.#connections[entry];
    return connection && connection.generation === generation ? connection : null;
  }

  add(connection: Connection): void {
    this.#connections[connection.entry] = connection;
    this.#live++;
  }

  settle(connection: Connection): void {
    const { entry } = connection;
    if (this.#connections[entry] !== connection) return;
    this.#connections[entry] = null;
    this.#settled[entry] = connection.generation;
    this.#live--;
  }

  /** Returns the ports that its processes were still connecting to. */
  end(): number[] {
    this.ended = true;
    const ports = [...this.#connecting.values()];
    this.#connecting.clear();
    return ports;
  }

  /** Lets go of sockets that others have as well: they were inherited, or handed over. */
  endHeirs(): Connection[] {
    const heirs: Connection[] = [];
    for (const connection of this.#connections) if (connection?.continues) heirs.push(connection);
    for (const heir of heirs) {
      leave(heir);
      this.settle(heir);
    }
    return heirs;
  }

  /** Returns true if it is a new one. */
  addDatagram(entry: number, generation: number): boolean {
    if (this.#datagrams.get(entry) === generation) return false;
    this.#datagrams.set(entry, generation);
    return true;
  }

  isDatagram(entry: number, generation: number): boolean {
    return this.#datagrams.get(entry) === generation;
  }

  /** Returns true if it was there. */
  removeDatagram(entry: number, generation: number): boolean {
    return this.isDatagram(entry, generation) && this.#datagrams.delete(entry);
  }

  /** Returns true if it was not connecting before. */
  addConnecting(entry: number, port: number): boolean {
    if (this.#connecting.has(entry)) return false;
    this.#connecting.set(entry, port);
    return true;
  }

  /** The port that it was connecting to, or -1. */
  removeConnecting(entry: number): number {
    const port = this.#connecting.get(entry);
    if (port === undefined) return -1;
    this.#connecting.delete(entry);
    return port;
  }

  /** Nothing will ask for it again: thousands of short-lived processes must not add up. */
  get isEmpty(): boolean {
    return this.ended && this.#live === 0;
  }
}

/** The tables of a session, by their numbers. */
export class SocketTables {
  readonly #tables = new Map<number, SocketTable>();
  #count = 0;
  /** The one that was asked for last: as a rule there is one. */
  #last = new SocketTable();
  #lastNumber = -1;

  add(): number {
    this.#tables.set(this.#count, new SocketTable());
    return this.#count++;
  }

  get(table: number): SocketTable | undefined {
    return this.#tables.get(table);
  }

  /** @throws Error if there is none: its records would be nobody's. */
  of(table: number): SocketTable {
    if (table === this.#lastNumber) return this.#last;
    const sockets = this.#tables.get(table);
    if (sockets === undefined) throw new Error(`no socket table ${table}`);
    this.#lastNumber = table;
    this.#last = sockets;
    return sockets;
  }

  /** Lets go of it if nothing will ask for it again. */
  dropEmpty(table: number): void {
    if (this.#tables.get(table)?.isEmpty !== true) return;
    this.#tables.delete(table);
    if (table === this.#lastNumber) this.#lastNumber = -1;
  }
}
