// Books made from the lines of calls, where those of the run are not there (it was killed) or do not
// fit (a window, single sockets). Calls, bytes and times by call are exact; of the time of each byte
// a line holds the call's first and its last, the others are taken to lie evenly between them.

import type { Histogram } from "../output/histogram.ts";
import { DirectionStats } from "../output/stats.ts";
import { REASONS } from "../output/reasons.ts";
import { ABSENT, Direction, type LogLine } from "./log-line.ts";
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

/** What is known of sockets, by one account or by several. */
class Sockets {
  /** By socket, direction and group, the stream offset of the last call. */
  readonly seen = new Map<number, number>();
  /** By socket and direction, the time of the last call that has a KQTIME-MISS line. */
  readonly missed = new Map<number, number>();
  users = 0;
}

/** Books of each group, filled line by line. */
export class CallAccounts {
  /** By group; undefined: it has no calls here. */
  readonly groups: (CallBooks | undefined)[] = [];
  /** When the first and the last call of all was made; and the least end of one. */
  firstNs = Number.POSITIVE_INFINITY;
  lastNs = Number.NEGATIVE_INFINITY;
  leastEndNs = Number.POSITIVE_INFINITY;
  /** Some are of the ancestor's log, or of parsed data: neither ever has books. */
  foreign = false;
  readonly #room: Room;
  readonly #sockets: Sockets;
  #books = 0;

  /** @param before an account whose sockets go on in this one: each is counted once */
  constructor(room: Room, before?: CallAccounts) {
    this.#room = room;
    this.#sockets = before === undefined ? new Sockets() : before.#sockets;
    this.#sockets.users++;
  }

  /** Gives the room back. */
  release(): void {
    this.#room.books += this.#books;
    const { seen, missed } = this.#sockets;
    if (--this.#sockets.users === 0) this.#room.sockets += seen.size + missed.size;
  }

  /**
   * Whether this call lies before one that the socket has made already, as no run counts it: the line
   * is of another run, which began its counts anew.
   */
  isBefore(line: LogLine, group: number): boolean {
    return line.off >= 0 && line.off < (this.#sockets.seen.get(socketOf(line, group)) ?? 0);
  }

  call(line: LogLine, group: number): void {
    const stats = this.#stats(line, group);
    this.#note(line, group, stats, line.off);
    const { waitNs } = line;
    // A call that is missed in part has its other lines before this one, and is counted there.
    const known = line.sock >= 0 && this.#sockets.missed.get(sideOf(line)) === callTimeNs(line);
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
    this.#note(line, group, stats, ABSENT);
    const bytes = Math.max(0, line.bytes);
    stats.bytesCalled += bytes;
    // A reason of a later version: the books must balance all the same.
    stats.unmatched[Math.min(line.reason, REASONS.length - 1)]! += bytes;
    const side = sideOf(line);
    if (line.sock < 0 || this.#sockets.missed.get(side) === line.startNs) return;
    if (!this.#sockets.missed.has(side)) {
      if (this.#room.sockets <= 0) {
        this.#room.sockets += this.#sockets.missed.size;
        this.#sockets.missed.clear();
      }
      this.#room.sockets--;
    }
    this.#sockets.missed.set(side, line.startNs);
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

  /** @param off of a call's own line; ABSENT: it does not tell where the stream stands */
  #note(line: LogLine, group: number, stats: DirectionStats, off: number): void {
    if (line.sock < 0) this.foreign = true;
    const timeNs = callTimeNs(line);
    if (timeNs < this.firstNs) this.firstNs = timeNs;
    if (timeNs > this.lastNs) this.lastNs = timeNs;
    if (line.endNs < this.leastEndNs) this.leastEndNs = line.endNs;
    if (line.sock < 0 && line.fd < 0) return;
    const socket = socketOf(line, group);
    const before = this.#sockets.seen.get(socket);
    if (before === undefined) {
      if (this.#room.sockets <= 0) return;
      this.#room.sockets--;
      stats.sockets++;
    }
    if (before === undefined || off > before) this.#sockets.seen.set(socket, off);
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
