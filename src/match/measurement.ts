// Who is measured for, and what for: a session's own measurement, which takes everything, and those
// that programs open for sockets which they register. A socket's calls go to several of them, under
// a name in each, and both may change while it lives.
//
// The rule: a byte that a call moved belongs to what its socket was measured for when the call was
// recorded. A byte that passed the wire and that no call accounts for (unread, unexplained) belongs
// to what its socket was measured for when it passed: taking a registration back hides nothing that
// was on the wire before.

import { formatExact } from "../output/units.ts";
import { DirectionStats } from "../output/stats.ts";
import { SocketList } from "../output/socket-list.ts";
import type { Connection } from "./connection.ts";
import type { Intervals } from "./intervals.ts";
import { type Label, type Labels, LABELS_MOST, OTHER_LABEL } from "./labels.ts";
import type { CallSink, Side } from "./merge.ts";
import type { QueueSink } from "./queue-samples.ts";
import { type Rule, Rules, RULES_MOST } from "./rules.ts";

export class Measurement {
  readonly rules = new Rules();
  readonly sockets: SocketList;
  /** Nothing goes to it any more. */
  ended = false;
  /** Where the queue lengths of its sockets go, if they are wanted. */
  queues: QueueSink | null = null;
  /** Its figures are told interval by interval. */
  intervals: Intervals | null = null;

  constructor(
    readonly labels: Labels,
    public sink: CallSink | null,
    /** Shows the peers' addresses. */
    readonly peers = false,
    /** How many sockets are listed one by one. */
    socketsListed?: number,
  ) {
    this.sockets = new SocketList(socketsListed);
  }
}

/** One of those that a call is measured for, and under which name. */
export interface Recipient {
  readonly measurement: Measurement;
  readonly label: Label;
}

export interface BothStats {
  readonly out: DirectionStats;
  readonly in: DirectionStats;
}

/** One for all namings: so it is in the processor's cache. */
const NOBODY: readonly Recipient[] = [];

/** What the calls of a stretch of a socket's life are measured for, and their books. */
export class Naming implements BothStats {
  readonly out = new DirectionStats();
  readonly in = new DirectionStats();
  /** What was counted before the present interval; null if there was none. */
  earlier: BothStats | null = null;

  /** Those of the recipients who write the calls down: a sink may end during a measurement, none begins. */
  readonly told: readonly Recipient[];

  constructor(readonly recipients: readonly Recipient[]) {
    const told = recipients.filter(({ measurement }) => measurement.sink !== null);
    this.told = told.length === 0 ? NOBODY : told;
  }

  /** Bytes called of a direction that are booked nowhere yet. */
  bytesOpen(direction: "out" | "in"): number {
    return this[direction].bytesOpen() + (this.earlier?.[direction].bytesOpen() ?? 0);
  }

  /** Adds the books of one direction, all intervals, to others. */
  mergeInto(other: DirectionStats, direction: "out" | "in"): void {
    other.merge(this[direction]);
    if (this.earlier !== null) other.merge(this.earlier[direction]);
  }

  /** The books of all intervals, which are closed. */
  whole(): BothStats {
    const { earlier } = this;
    if (earlier === null) return this;
    const whole = { out: new DirectionStats(), in: new DirectionStats() };
    for (const direction of ["out", "in"] as const) {
      this.mergeInto(whole[direction], direction);
      whole[direction].sockets = movedBytes(whole[direction]) ? 1 : 0;
    }
    return whole;
  }
}

/** Whether a socket counts as one that moved bytes. */
export function movedBytes(stats: DirectionStats): boolean {
  return stats.calls + stats.bytesUnread + stats.bytesUnexplained > 0;
}

/** A socket's place in a measurement. */
export interface Registration {
  readonly measurement: Measurement;
  readonly name: string;
  /** Made by this rule; null: by the program, for this socket. */
  readonly rule: Rule | null;
}

/** Books of a measurement. */
export interface Standing {
  readonly labels: { label: string; encoded: Uint8Array; out: DirectionStats; in: DirectionStats }[];
  readonly sockets: SocketList;
  /** What had to be summed or dropped to keep them bounded; sentences. */
  readonly notes: readonly string[];
}

/**
 * The books of a measurement as they stand, sockets that live included: what was called and has no
 * packet yet counts as in flight, or under the reason that `given` gives for its side of the socket.
 */
export function standing(
  measurement: Measurement,
  live: Iterable<Connection>,
  given: (connection: Connection, side: Side) => number | null = () => null,
): Standing {
  const sockets = measurement.sockets.copy();
  const books = new Map<Label, { out: DirectionStats; in: DirectionStats }>();
  const of = ({ books: label }: Label) => {
    let found = books.get(label);
    if (found === undefined) {
      found = { out: new DirectionStats(), in: new DirectionStats() };
      books.set(label, found);
    }
    return found;
  };
  for (const label of measurement.labels.all()) {
    const sum = of(label);
    sum.out.merge(label.out);
    sum.in.merge(label.in);
  }
  for (const connection of live) {
    for (const [index, naming] of connection.namings.entries()) {
      for (const { measurement: whose, label } of naming.recipients) {
        if (whose !== measurement) continue;
        const out = asOfNow(naming, "out", given(connection, connection.out));
        out.waitingSinceNs = connection.out.callWaitingSinceNs(index);
        const inbound = asOfNow(naming, "in", given(connection, connection.in));
        const sum = of(label);
        sum.out.merge(out);
        sum.in.merge(inbound);
        sockets.add(connection.describe(label, measurement.peers, out, inbound));
      }
    }
  }
  const labels = [...books].map(([label, sum]) => ({
    label: label.text,
    encoded: label.encoded,
    ...sum,
  }));
  return { labels, sockets, notes: notesOn(measurement) };
}

function notesOn({ labels, rules }: Measurement): string[] {
  const notes: string[] = [];
  if (labels.overflowed) {
    notes.push(
      `there are more than ${formatExact(LABELS_MOST)} names or labels: sockets of later ones are ` +
        `summed under "${OTHER_LABEL}"`,
    );
  }
  if (rules.dropped > 0) {
    notes.push(
      `${formatExact(rules.dropped)} registered ports or peers were forgotten, the oldest first: ` +
        `${formatExact(RULES_MOST)} are kept`,
    );
  }
  return notes;
}

function asOfNow(
  naming: Naming, direction: "out" | "in", reason: number | null,
): DirectionStats {
  const now = new DirectionStats();
  naming.mergeInto(now, direction);
  if (reason === null) now.bytesInFlight += now.bytesOpen();
  else now.unmatched[reason]! += now.bytesOpen();
  if (movedBytes(now)) now.sockets = 1;
  return now;
}
