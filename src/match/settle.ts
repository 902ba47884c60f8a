// Closes the books of a socket: every byte that was called ends as matched, in flight, or unmatched
// for a reason; every byte on the wire as called, unread, or unexplained.

import { Reason } from "../output/reasons.ts";
import { MATCHABLE } from "./calls.ts";
import type { Connection, Progress } from "./connection.ts";
import type { Instances } from "./instances.ts";
import { movedBytes, Naming } from "./measurement.ts";
import { Direction, type Side } from "./merge.ts";
import { type CaptureDrops, Seen, type Sightings } from "./sightings.ts";
import { unfound } from "./unfound.ts";

/** Namings of a socket whose books are kept apart, beside those that its waiting calls belong to. */
const NAMINGS_MOST = 64;

/** Which directions are measured. */
export interface Measured {
  readonly out: boolean;
  readonly in: boolean;
}

/** What settling needs of the engine. */
export interface Books extends Measured {
  /** The measurement ends while processes live on: sockets that are open are so afterwards, too. */
  readonly isDetached: boolean;
  readonly instances: Instances;
  interrupted: number;
}

export function settle(books: Books, connection: Connection, queuedBytes: number): void {
  const isAlive = books.isDetached && connection.unboundNs < 0;
  if (books.out) settleOut(books, connection, queuedBytes, isAlive);
  if (connection.isContradicted) connection.in.lose(Reason.noAnchor);
  if (books.in) settleIn(books, connection, isAlive);
  connection.out.bookRetransmitted();
  connection.in.bookRetransmitted();
  bookWire(books, connection, isAlive);
  for (const naming of connection.namings) bookNaming(books, connection, naming);
}

/**
 * Books what passed the wire and no call accounts for, by the namings of its time (see
 * measurement.ts), in place of what was booked of it before.
 * @param isAlive Its process goes on: what it moves now is not of this measurement.
 */
export function bookWire(measured: Measured, connection: Connection, isAlive = false): void {
  for (const side of [connection.out, connection.in]) {
    for (const account of side.calls.accounts) {
      account.bytesUnread = 0;
      account.bytesUnexplained = 0;
    }
    const { calls, sightings } = side;
    const out = side.direction === Direction.Out;
    if (!out) for (const account of calls.accounts) account.waitingSinceNs = Infinity;
    if (!(out ? measured.out : measured.in) || sightings === null || side.lost) continue;
    // Beyond a hole bytes have arrived, but no application can have read them.
    const rest = out && isAlive ? 0 : sightings.edge - calls.edge;
    const unread = rest <= 0 || out ? 0 : isAlive ? rest : unreadBytes(connection, rest);
    if (rest > 0) spread(side, sightings.edge - unread, connection.unboundNs < 0);
    if (!out) sightings.forEachAhead((bytes, ns) => (side.statsAt(ns).bytesUnread += bytes));
  }
}

/** Of the bytes that no call accounts for, those from `unreadFrom` on are unread. */
function spread(side: Side, unreadFrom: number, isOpen: boolean): void {
  const { queue } = side.sightings!;
  let start = side.calls.edge;
  let stats = side.stats;
  for (let p = 0; p < queue.length; p++) {
    const i = queue.at(p);
    const end = queue.values[i + Seen.end]!;
    if (end <= start) continue;
    // What was booked without a sighting has no time: it passed with what is before it.
    if (queue.values[i + Seen.reason] === MATCHABLE) {
      stats = side.statsAt(queue.values[i + Seen.timeNs]!);
    }
    const middle = Math.min(end, Math.max(start, unreadFrom));
    if (isOpen && end > middle && queue.values[i + Seen.reason] === MATCHABLE) {
      stats.waitingSinceNs = Math.min(stats.waitingSinceNs, queue.values[i + Seen.timeNs]!);
    }
    stats.bytesUnexplained += middle - start;
    stats.bytesUnread += end - middle;
    start = end;
  }
}

/** Adds the books of a stretch of a socket's life to what it was measured for. */
function bookNaming(measured: Measured, connection: Connection, naming: Naming): void {
  for (const account of [naming.out, naming.in]) account.sockets = movedBytes(account) ? 1 : 0;
  const whole = naming.whole();
  for (const { measurement, label } of naming.recipients) {
    if (measurement.ended) continue;
    if (measured.out) label.out.merge(whole.out);
    if (measured.in) label.in.merge(whole.in);
    measurement.sockets.add(connection.describe(label, measurement.peers, whole.out, whole.in));
    measurement.intervals?.settled(connection, label, naming);
  }
}

/**
 * Keeps the namings of a socket few: closes the books of those that no call waits for. There is one
 * more for each call that waits at the most.
 */
export function boundNamings(measured: Measured, connection: Connection): void {
  const { namings, vacant, out, in: inbound } = connection;
  if (vacant.length > 0 || namings.length < NAMINGS_MOST) return;
  const used = new Set<number>();
  for (const side of [out, inbound]) {
    side.bookRetransmitted();
    side.calls.collectNamings(used);
  }
  for (const [index, naming] of namings.entries()) {
    if (used.has(index)) continue;
    bookNaming(measured, connection, naming);
    namings[index] = new Naming([]);
    for (const side of [out, inbound]) side.forgetNaming(index);
    vacant.push(index);
  }
}

function settleOut(
  books: Books, connection: Connection, queuedBytes: number, isAlive: boolean,
): void {
  const side = connection.out;
  const { calls, sightings } = side;
  const { active, callNs } = connection.outProgress;
  const alone = completeCalls(side, connection.outProgress, isAlive) && active === 1;
  if (sightings === null) side.lose(unfound(connection, books.instances));
  if (sightings === null || side.lost) {
    side.merge(connection);
    return;
  }
  if (isAlive) {
    side.merge(connection);
    side.leaveInFlight(connection);
    return;
  }
  if (active > 0 && sightings.high > calls.edge) {
    // The process died inside a call: what the wire shows beyond the last record is that call's.
    books.interrupted++;
    const bytes = sightings.high - calls.edge;
    if (alone) {
      calls.add(calls.edge, bytes, callNs, connection.fd, connection.pid, false, 0);
    } else {
      calls.skipTo(calls.edge + bytes, Reason.interrupted);
    }
  }
  const drops = books.instances.drops;
  // Sighted beyond a hole that nothing filled: the bytes in the hole were sent, or never will be.
  if (sightings.holes > 0) sightings.bookMissed(sightings.high, drops);
  // A FIN takes a sequence number of its own.
  const acknowledged =
    sightings.finAt >= 0 ? Math.min(sightings.acknowledged, sightings.finAt) : sightings.acknowledged;
  const sent = Math.max(acknowledged, sightings.finAt);
  if (sent > sightings.edge) sightings.bookMissed(Math.min(sent, calls.edge), drops);
  side.merge(connection);
  if (side.position < calls.edge) {
    if (queuedBytes > 0) side.leaveInFlight(connection);
    else side.book(calls.edge, whyUnsighted(connection, sightings, drops), connection);
  }
}

/**
 * Of bytes behind everything that was sighted, when the kernel does not have them any more: they
 * left unseen, or never will, and only a reset tells which.
 */
function whyUnsighted(
  { instance }: Connection, sightings: Sightings, drops: CaptureDrops,
): number {
  const isReset = instance !== null && (instance.resetOut || instance.resetIn);
  return !isReset && sightings.mayHaveMissed(drops) ? Reason.captureDrop : Reason.closedUnsent;
}

function settleIn(books: Books, connection: Connection, isAlive: boolean): void {
  const side = connection.in;
  const { calls, sightings } = side;
  completeCalls(side, connection.inProgress, isAlive);
  if (sightings === null) side.lose(unfound(connection, books.instances));
  if (sightings === null || side.lost) {
    side.merge(connection);
    return;
  }
  // What was read had arrived, sighted or not.
  const urgentFrom = connection.instance?.urgentFrom ?? Infinity;
  const toBeSighted = Math.min(calls.edge, urgentFrom);
  if (sightings.edge < toBeSighted) sightings.bookMissed(toBeSighted, books.instances.drops);
  side.merge(connection);
  if (urgentFrom === Infinity) return;
  side.lose(Reason.urgent);
  side.merge(connection);
}

/**
 * All records that will ever come are here: gaps are lost records. Returns whether a call that was
 * cut off can have overlapped with no other.
 */
function completeCalls(side: Side, progress: Progress, isAlive: boolean): boolean {
  const { calls } = side;
  while (calls.waiting > 0) calls.skipGap(Reason.ringDrop);
  // Of who lives on, the table may be ahead of the last record that was taken.
  if (!isAlive && progress.off > calls.known && progress.off <= Number.MAX_SAFE_INTEGER) {
    calls.skipTo(progress.off, Reason.ringDrop);
  }
  const alone = !calls.open;
  // A read that was cut off gave nothing to anybody, but what was written left.
  if (!isAlive && progress.active > 0 && side.direction === Direction.Out) calls.doubt();
  calls.release();
  return alone;
}

/** Of `rest` bytes that arrived in order and that no call returned, those still in the kernel. */
function unreadBytes(connection: Connection, rest: number): number {
  const { instance, unreadAtClose, unboundNs } = connection;
  // Closing a socket with unread bytes resets the connection (RFC 2525 §2.17).
  if (instance === null || instance.resetOut) return rest;
  if (unreadAtClose < 0) return instance.out.finAt >= 0 ? 0 : rest;
  if (rest <= unreadAtClose) return rest;
  let late = 0;
  let start = connection.in.position;
  const queue = connection.in.sightings!.queue;
  for (let p = 0; p < queue.length; p++) {
    const i = queue.at(p);
    const end = queue.values[i + Seen.end]!;
    if (queue.values[i + Seen.timeNs]! >= unboundNs) late += end - start;
    start = end;
  }
  return Math.min(rest, unreadAtClose + late);
}
