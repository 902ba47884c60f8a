// A measurement told interval by interval, while it goes on. At the end of each the books that the
// join writes are emptied into those of the socket's earlier life: so the hot path keeps one set of
// books, and an interval has its own least and greatest times, which no subtraction of two states
// would give.
//
// An interval ends when everything that was captured before its end is joined: some 0.1 s later. It
// has the calls and bytes that were joined by then; how long the oldest byte has waited is as of the
// end itself. All depends on the join's own events, so that a replay does the same.

import { SocketList } from "../output/socket-list.ts";
import { DirectionStats } from "../output/stats.ts";
import type { Connection } from "./connection.ts";
import type { Label } from "./labels.ts";
import type { BothStats, Measurement, Naming } from "./measurement.ts";
import type { Side } from "./merge.ts";

/** A moment that all sockets know, however many they are. */
export interface Moment {
  ns: number;
}

const NEVER: Moment = { ns: Infinity };

/** The end of the present interval of what a socket is measured for. */
export function momentOf(naming: Naming | undefined): Moment {
  for (const { measurement } of naming?.recipients ?? []) {
    if (measurement.intervals !== null) return measurement.intervals.moment;
  }
  return NEVER;
}

/** The books of an interval. */
export interface IntervalBooks {
  readonly startNs: number;
  readonly endNs: number;
  readonly labels: ReadonlyMap<Label, BothStats>;
  readonly sockets: SocketList;
}

/** A stretch of a socket that moved bytes in the interval, or has some that wait. */
interface Part {
  readonly connection: Connection;
  readonly label: Label;
  readonly naming: Naming;
  readonly bytes: number;
  /** Since when its oldest bytes wait. */
  readonly unsentNs: number;
  readonly unreadNs: number;
}

export class Intervals {
  /** When the present interval ends, ns. */
  readonly moment: Moment;
  readonly #measurement: Measurement;
  readonly #everyNs: number;
  readonly #onEnd: (books: IntervalBooks) => void;
  #startNs: number;
  #labels = new Map<Label, BothStats>();
  #sockets: SocketList;

  constructor(
    measurement: Measurement,
    startNs: number,
    everyNs: number,
    onEnd: (books: IntervalBooks) => void,
  ) {
    this.#measurement = measurement;
    this.#sockets = new SocketList(measurement.sockets.most);
    this.#startNs = startNs;
    this.#everyNs = everyNs;
    this.#onEnd = onEnd;
    this.moment = { ns: startNs + everyNs };
  }

  /** Whether the interval ends with a tick up to `capturedNs`. */
  isDue(capturedNs: number): boolean {
    return capturedNs >= this.moment.ns;
  }

  /** Everything is joined that was captured before `capturedNs`; -Infinity: nothing is yet. */
  tick(capturedNs: number, live: Iterable<Connection>): void {
    if (this.isDue(capturedNs)) {
      this.#end(this.moment.ns, live);
      // After a long sleep one interval is longer than the others, instead of many being empty.
      const missed = Math.floor((capturedNs - this.moment.ns) / this.#everyNs);
      this.moment.ns += (missed + 1) * this.#everyNs;
    } else if (capturedNs < this.#startNs - this.#everyNs && capturedNs !== -Infinity) {
      // The clock was set back: by the old one the next interval would not end for long.
      this.#startNs = capturedNs;
      this.moment.ns = capturedNs + this.#everyNs;
    }
  }

  /** The last interval, once all sockets are settled. */
  finish(endNs: number): void {
    this.#end(Math.max(endNs, this.#startNs), []);
  }

  /** A stretch of a socket is closed: what is left of it belongs to the present interval. */
  settled(connection: Connection, label: Label, naming: Naming): void {
    const { earlier } = naming;
    if (earlier !== null) {
      for (const direction of ["out", "in"] as const) {
        naming[direction].bytesCarried = earlier[direction].bytesOpen();
        if (isActive(naming[direction])) naming[direction].sockets = 1;
      }
    }
    addBoth(this.#sumOf(this.#labels, label), naming);
    // These books are not written to any more.
    this.#sockets.add(this.#describe(connection, label, naming));
  }

  #end(endNs: number, live: Iterable<Connection>): void {
    const parts: Part[] = [];
    for (const connection of live) this.#collect(connection, parts);
    parts.sort((a, b) => b.bytes - a.bytes || a.connection.sock - b.connection.sock);
    const listed = this.#sockets.most;
    for (const part of parts.slice(0, listed)) {
      const books = bothStats();
      this.#take(part, books);
      addBoth(this.#sumOf(this.#labels, part.label), books);
      this.#sockets.add(this.#describe(part.connection, part.label, books));
    }
    // There may be any number of the others: they are summed by their labels first.
    const others = new Map<Label, BothStats>();
    for (const part of parts.slice(listed)) {
      this.#take(part, this.#sumOf(others, part.label));
      this.#sockets.rest.count++;
    }
    for (const [label, books] of others) {
      addBoth(this.#sumOf(this.#labels, label), books);
      addBoth(this.#sockets.rest, books);
    }
    const labels = this.#labels;
    const sockets = this.#sockets;
    const startNs = this.#startNs;
    this.#labels = new Map();
    this.#sockets = new SocketList(listed);
    this.#startNs = endNs;
    sockets.trim();
    this.#onEnd({ startNs, endNs, labels, sockets });
  }

  #collect(connection: Connection, into: Part[]): void {
    const { out, in: inbound, namings, outProgress } = connection;
    out.bookRetransmitted();
    inbound.bookRetransmitted();
    // A write that still blocks has bytes that no record tells of yet.
    const isBlocked = outProgress.active > 0 && outProgress.callNs <= this.moment.ns;
    const unsentNs = Math.min(waited(out), isBlocked && !out.lost ? outProgress.callNs : Infinity);
    const unreadNs = waited(inbound);
    const present = out.calls.naming;
    for (const [index, naming] of namings.entries()) {
      const label = this.#labelOf(naming);
      if (label === null) continue;
      const waits = index === present && Math.min(unsentNs, unreadNs) < Infinity;
      const open = naming.bytesOpen("out") + naming.bytesOpen("in");
      if (!waits && open === 0 && !isActive(naming.out) && !isActive(naming.in)) continue;
      const isPresent = index === present;
      into.push({
        connection,
        label,
        naming,
        bytes: naming.out.bytesCalled + naming.in.bytesCalled,
        unsentNs: isPresent ? unsentNs : Infinity,
        unreadNs: isPresent ? unreadNs : Infinity,
      });
    }
  }

  /** Empties the books of a stretch into those of its earlier life, and into the interval's. */
  #take({ naming, unsentNs, unreadNs }: Part, into: BothStats): void {
    naming.earlier ??= bothStats();
    for (const direction of ["out", "in"] as const) {
      const sum = into[direction];
      const earlier = naming.earlier[direction];
      const sinceNs = direction === "out" ? unsentNs : unreadNs;
      const active = isActive(naming[direction]);
      sum.bytesCarried += earlier.bytesOpen();
      naming[direction].moveCounts(sum, earlier);
      const open = earlier.bytesOpen();
      sum.bytesInFlight += open;
      sum.waitingSinceNs = Math.min(sum.waitingSinceNs, sinceNs);
      if (active || open > 0 || sinceNs < Infinity) sum.sockets++;
    }
  }

  #labelOf({ recipients }: Naming): Label | null {
    return recipients.find(({ measurement }) => measurement === this.#measurement)?.label ?? null;
  }

  #sumOf(sums: Map<Label, BothStats>, { books }: Label): BothStats {
    let sum = sums.get(books);
    if (sum === undefined) sums.set(books, (sum = bothStats()));
    return sum;
  }

  #describe(connection: Connection, label: Label, { out, in: inbound }: BothStats) {
    return connection.describe(label, this.#measurement.peers, out, inbound);
  }
}

function bothStats(): BothStats {
  return { out: new DirectionStats(), in: new DirectionStats() };
}

function addBoth(sum: BothStats, books: BothStats): void {
  sum.out.merge(books.out);
  sum.in.merge(books.in);
}

/** Something was counted. */
function isActive(stats: DirectionStats): boolean {
  return (
    stats.calls + stats.bytesMatched + stats.bytesRetransmitted > 0 || stats.bytesUnmatched() > 0
  );
}

function waited(side: Side): number {
  const sinceNs = side.waitedAtIntervalEnd();
  return side.lost ? Infinity : sinceNs;
}
