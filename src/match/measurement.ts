// Who is measured for, and what for: a session's own measurement, which takes everything, and those
// that programs open for sockets which they register. A socket's calls go to several of them, under
// a name in each, and both may change while it lives.

import { DirectionStats } from "../output/stats.ts";
import { SocketList } from "../output/socket-list.ts";
import type { Connection } from "./connection.ts";
import type { Label, Labels } from "./labels.ts";
import type { CallSink } from "./merge.ts";
import type { QueueSink } from "./queue-samples.ts";

/** Sockets to measure by address. */
export interface Rule {
  /** Of the local end; -1: any. */
  readonly localPort: number;
  /** The remote end, four words and a port; null: any. */
  readonly remote: { readonly words: Uint32Array; readonly port: number } | null;
  readonly name: string;
}

export class Measurement {
  readonly rules: Rule[] = [];
  readonly sockets = new SocketList();
  /** Nothing goes to it any more. */
  ended = false;
  /** Where the queue lengths of its sockets go, if they are wanted. */
  queues: QueueSink | null = null;

  constructor(
    readonly labels: Labels,
    public sink: CallSink | null,
    /** Shows the peers' addresses. */
    readonly peers = false,
  ) {}
}

/** One of those that a call is measured for, and under which name. */
export interface Recipient {
  readonly measurement: Measurement;
  readonly label: Label;
}

/** What the calls of a stretch of a socket's life are measured for, and their books. */
export class Naming {
  readonly out = new DirectionStats();
  readonly in = new DirectionStats();

  constructor(readonly recipients: readonly Recipient[]) {}
}

/** A socket's place in a measurement. */
export interface Registration {
  readonly measurement: Measurement;
  readonly name: string;
  /** Made by this rule; null: by the program, for this socket. */
  readonly rule: Rule | null;
}

export function matches(rule: Rule, connection: Connection): boolean {
  if (rule.localPort >= 0 && rule.localPort !== connection.lport) return false;
  const { remote } = rule;
  if (remote === null) return true;
  return (
    remote.port === connection.rport &&
    remote.words.every((word, i) => word === connection.remote[i])
  );
}

export function sameAddresses(a: Rule, b: Rule): boolean {
  if (a.localPort !== b.localPort) return false;
  if (a.remote === null || b.remote === null) return a.remote === b.remote;
  const { words, port } = b.remote;
  return a.remote.port === port && a.remote.words.every((word, i) => word === words[i]);
}

/** Books of a measurement. */
export interface Standing {
  readonly labels: { label: string; encoded: Uint8Array; out: DirectionStats; in: DirectionStats }[];
  readonly sockets: SocketList;
}

/**
 * The books of a measurement as they stand, sockets that live included: what was called and has no
 * packet yet counts as in flight.
 */
export function standing(measurement: Measurement, live: Iterable<Connection>): Standing {
  const sockets = measurement.sockets.copy();
  const books = new Map<Label, { out: DirectionStats; in: DirectionStats }>();
  const of = (label: Label) => {
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
    for (const naming of connection.namings) {
      for (const { measurement: whose, label } of naming.recipients) {
        if (whose !== measurement) continue;
        const out = asOfNow(naming.out);
        const inbound = asOfNow(naming.in);
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
  return { labels, sockets };
}

function asOfNow(stats: DirectionStats): DirectionStats {
  const now = new DirectionStats();
  now.merge(stats);
  now.bytesInFlight += now.bytesCalled - now.bytesMatched - now.bytesInFlight - now.bytesUnmatched();
  if (now.calls > 0) now.sockets = 1;
  return now;
}
