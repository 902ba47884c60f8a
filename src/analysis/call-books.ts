// Books made from the lines of calls, where those of the run are not there (it was killed) or do not
// fit (a window, single sockets). Calls, bytes and times by call are exact; of the time of each byte
// a line holds the call's first and its last, the others are taken to lie evenly between them.

import type { Histogram } from "../output/histogram.ts";
import { DirectionStats } from "../output/stats.ts";
import { REASONS } from "../output/reasons.ts";
import { Direction, type LogLine } from "./log-line.ts";
import { callTimeNs } from "./groups.ts";

/** Into so many parts a call's bytes are cut between the first and the last. */
const PARTS = 16;
/** Sockets that are told apart; beyond them the number of sockets is a lower bound. */
export const SOCKETS_MOST = 1 << 20;

export class CallBooks {
  readonly out = new DirectionStats();
  readonly in = new DirectionStats();
}

/** What all accounts together may still take, so that no log fills the memory. */
export interface Room {
  books: number;
  sockets: number;
}

/** Books of each group, filled line by line. */
export class CallAccounts {
  /** By group; undefined: it has no calls here. */
  readonly groups: (CallBooks | undefined)[] = [];
  /** When the first and the last call of all was made. */
  firstNs = Number.POSITIVE_INFINITY;
  lastNs = Number.NEGATIVE_INFINITY;
  /** The least end of a call that has a time: of others a run may know that began later. */
  leastEndNs = Number.POSITIVE_INFINITY;
  /** Some are of the ancestor's log, or of parsed data: neither ever has books. */
  foreign = false;
  readonly #room: Room;
  /** Sockets, by direction and group. */
  readonly #seen = new Set<number>();
  /** By socket and direction, the time of the last call that has a KQTIME-MISS line. */
  readonly #missed = new Map<number, number>();
  #books = 0;

  constructor(room: Room) {
    this.#room = room;
  }

  /** Gives the room back. */
  release(): void {
    this.#room.books += this.#books;
    this.#room.sockets += this.#seen.size + this.#missed.size;
  }

  call(line: LogLine, group: number): void {
    const stats = this.#stats(line, group);
    this.#note(line, group, stats);
    const { waitNs } = line;
    if (line.endNs < this.leastEndNs) this.leastEndNs = line.endNs;
    // A call that is missed in part has its other lines before this one, and is counted there.
    const known = line.sock >= 0 && this.#missed.get(sideOf(line)) === callTimeNs(line);
    if (!known) stats.calls++;
    stats.callNs.record(waitNs, 1);
    const { bytes } = line;
    if (!(bytes > 0)) return;
    stats.bytesCalled += bytes;
    stats.bytesMatched += bytes;
    recordBytes(stats.byteNs, line);
  }

  miss(line: LogLine, group: number): void {
    const stats = this.#stats(line, group);
    this.#note(line, group, stats);
    const bytes = Math.max(0, line.bytes);
    stats.bytesCalled += bytes;
    // A reason of a later version: the books must balance all the same.
    stats.unmatched[Math.min(line.reason, REASONS.length - 1)]! += bytes;
    const side = sideOf(line);
    if (line.sock < 0 || this.#missed.get(side) === line.startNs) return;
    if (!this.#missed.has(side)) {
      if (this.#room.sockets <= 0) {
        this.#room.sockets += this.#missed.size;
        this.#missed.clear();
      }
      this.#room.sockets--;
    }
    this.#missed.set(side, line.startNs);
    stats.calls++;
  }

  #stats(line: LogLine, group: number): DirectionStats {
    const { groups } = this;
    let books = groups[group];
    if (books === undefined) {
      while (groups.length <= group) groups.push(undefined);
      books = groups[group] = new CallBooks();
      this.#books++;
      this.#room.books--;
    }
    return line.direction === Direction.Out ? books.out : books.in;
  }

  #note(line: LogLine, group: number, stats: DirectionStats): void {
    if (line.sock < 0) this.foreign = true;
    const timeNs = callTimeNs(line);
    if (timeNs < this.firstNs) this.firstNs = timeNs;
    if (timeNs > this.lastNs) this.lastNs = timeNs;
    if (line.sock < 0 && line.fd < 0) return;
    const socket = socketOf(line, group);
    if (this.#room.sockets <= 0 || this.#seen.has(socket)) return;
    this.#room.sockets--;
    this.#seen.add(socket);
    stats.sockets++;
  }
}

/** In one number the socket, or what the ancestor's logs have of it, the direction and the group. */
function socketOf(line: LogLine, group: number): number {
  return (line.sock >= 0 ? sideOf(line) : line.fd * 2 + line.direction) * 2048 + group;
}

function sideOf(line: LogLine): number {
  return line.sock * 2 + line.direction;
}

/** The time of each byte of a call, as far as its line tells; `bytes` above 0. */
export function recordBytes(histogram: Histogram, line: LogLine): void {
  const { waitNs, bytes } = line;
  const firstWaitNs =
    line.direction === Direction.Out ? line.firstNs - line.startNs : line.endNs - line.firstNs;
  if (!(firstWaitNs >= 0) || firstWaitNs === waitNs) {
    histogram.record(waitNs, bytes);
    return;
  }
  const parts = Math.min(PARTS, bytes);
  let booked = 0;
  for (let part = 1; part <= parts; part++) {
    const until = Math.floor((bytes * part) / parts);
    const share = parts === 1 ? 1 : (part - 1) / (parts - 1);
    histogram.record(Math.round(firstWaitNs + (waitNs - firstWaitNs) * share), until - booked);
    booked = until;
  }
}
