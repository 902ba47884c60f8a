// The sockets that are older than the capture: how each gets its anchor (see anchor.ts), and whether
// the anchor goes on agreeing with what the kernel says.

import { Reason } from "../output/reasons.ts";
import { EntryFlag, EntryWord } from "../ring/layout.ts";
import { Anchor, Observed } from "./anchor.ts";
import { RowBudget } from "./anchor-packets.ts";
import type { Connection } from "./connection.ts";
import { readCount } from "./entry.ts";
import { streamOffset } from "./heirs.ts";
import type { Instances } from "./instances.ts";

/** Another look at an anchored socket comes after this long, then after twice as long, and so on, … */
const CHECK_AFTER_MS = 2000;
const CHECK_MOST_MS = 64_000;
/** … at one of those whose time has come after this long, … */
const CHECK_ROUND_MS = 1000;
/** … at one that has nothing new after this long, … */
const RETRY_EVERY_MS = 250;
/** … at one that the kernel did not know after this long, … */
const MISSED_EVERY_MS = 1000;
/** … and at one with new packets after this long. */
const ASK_EVERY_MS = 20;
/** By `Anchor.appetite`. */
const EVERY_MS = [Infinity, RETRY_EVERY_MS, ASK_EVERY_MS] as const;
/** A packet that came this long before has reached its socket. */
const SETTLED_NS = 50e6;

interface Older {
  readonly connection: Connection;
  readonly anchor: Anchor;
  isAnchored: boolean;
  askedMs: number;
  checkEveryMs: number;
  /** The kernel had no such socket. */
  isMissed: boolean;
  /** Where the sightings began, once anchored. */
  outStart: number;
  inStart: number;
  /** An observation of an anchored socket, until its packets are here. */
  check: Float64Array | null;
  /** Capture drops that are behind what was read, and how far the two sides had come by then. */
  drops: number;
  outDropped: number;
  inDropped: number;
}

export class Anchors {
  /** Sockets whose anchor was contradicted later, and bytes that had been matched by it. */
  contradicted = 0;
  bytesDoubtful = 0;
  /** Sockets of which the capture shows only a part, or may do so. */
  partial = 0;
  readonly #instances: Instances;
  readonly #isPartial: boolean;
  readonly #budget = new RowBudget();
  /** In the order of their birth: they are judged in that one, whenever they were asked about. */
  readonly #all = new Map<number, Older>();
  /** Of these, in turn: those without an anchor, and those with one. */
  readonly #waiting = new Set<Older>();
  readonly #anchored = new Set<Older>();
  #checkedMs = -Infinity;
  #judgedNs = -Infinity;

  /** @param isPartial The capture's filter selects by more than whose packets they are. */
  constructor(instances: Instances, isPartial = false) {
    this.#instances = instances;
    this.#isPartial = isPartial;
  }

  get size(): number {
    return this.#all.size;
  }

  /**
   * A socket was born before the capture could see it.
   * @param isTaken The session began in the middle of its life.
   */
  begin(connection: Connection, words: Uint32Array, isTaken: boolean): void {
    if (this.#isPartial) {
      this.partial++;
      connection.out.lose(Reason.noAnchor);
      connection.in.lose(Reason.noAnchor);
      return;
    }
    const { adopted, connected } = connection;
    const flags = words[EntryWord.type]! >>> 16;
    const counted = (flags & EntryFlag.Counted) !== 0;
    const firstUse = (flags & EntryFlag.FirstUse) !== 0;
    const queued = words[EntryWord.queuedIn]!;
    const { now } = this.#instances.drops;
    const anchor = new Anchor(
      {
        outBase: adopted ? (counted ? readCount(words, EntryWord.sentBefore) : NaN) : connected ? 1 : 0,
        inBase: adopted ? (counted ? readCount(words, EntryWord.readBefore) : NaN) : 0,
        outTrust: !adopted ? "certain" : counted && firstUse ? "likely" : "none",
        inTrust: adopted ? "none" : "certain",
        arrived: adopted && queued !== 0xffffffff ? queued : -1,
        isLate: isTaken,
        sentFrom: isTaken && connection.outProgress.active === 0 ? streamOffset(connection, true) : Infinity,
        drops: now,
        birthNs: connection.birthNs,
        ...countsAtBirth(words, adopted && counted && !isTaken),
      },
      this.#budget,
    );
    connection.anchor = anchor;
    const older: Older = {
      connection, anchor, isAnchored: false, askedMs: -Infinity, checkEveryMs: CHECK_AFTER_MS,
      isMissed: false, outStart: 0, inStart: 0, check: null, drops: now, outDropped: -1, inDropped: -1,
    };
    this.#all.set(connection.sock, older);
    this.#waiting.add(older);
    this.#instances.keepFor(connection);
  }

  /** Another program goes on with a socket that was taken over: where in the stream, it has noted. */
  takeHeir(heir: Connection, words: Uint32Array): void {
    const owner = heir.continues!.connection;
    const { anchor } = owner;
    // Its own calls may have been under way.
    if (anchor !== null) anchor.out.keptFrom = Infinity;
    const outBase = anchor === null ? NaN : readCount(words, EntryWord.sentBefore) - anchor.out.base;
    const inBase = anchor === null ? NaN : readCount(words, EntryWord.readBefore) - anchor.in.base;
    const counted = ((words[EntryWord.type]! >>> 16) & EntryFlag.Counted) !== 0;
    if (counted && outBase >= 0 && inBase >= 0) {
      heir.continues = { connection: owner, outBase, inBase };
    } else {
      owner.out.lose(Reason.noAnchor);
      owner.in.lose(Reason.noAnchor);
    }
    takeAt(owner);
  }

  /** Sockets that the kernel should be asked about now, `most` at the most: into `into`. */
  wanted(nowMs: number, most: number, into: Connection[]): void {
    for (const older of this.#waiting) {
      if (into.length >= most) return;
      const everyMs = EVERY_MS[older.anchor.appetite]!;
      this.#ask(older, nowMs, Math.max(everyMs, older.isMissed ? MISSED_EVERY_MS : 0), into);
    }
    if (nowMs - this.#checkedMs < CHECK_ROUND_MS) return;
    this.#checkedMs = nowMs;
    for (const older of this.#anchored) {
      if (into.length >= most) return;
      this.#ask(older, nowMs, older.checkEveryMs, into);
    }
  }

  #ask(older: Older, nowMs: number, everyMs: number, into: Connection[]): void {
    if (nowMs - older.askedMs < everyMs || !isWorthIt(older.connection)) return;
    older.askedMs = nowMs;
    into.push(older.connection);
  }

  /** The kernel had, or had not, a socket that it was asked about. */
  answered(sock: number, isThere: boolean): void {
    const older = this.#all.get(sock);
    if (older === undefined) return;
    older.isMissed = !isThere;
    // In turn: those that were asked are behind the others next time.
    const queue = this.#waiting.has(older) ? this.#waiting : this.#anchored;
    queue.delete(older);
    queue.add(older);
  }

  /** Takes an observation (see `Observed`) of a socket. */
  observe(sock: number, values: Float64Array): void {
    if (values[Observed.turnedBack] === 1) {
      this.#turnBack();
      return;
    }
    const older = this.#all.get(sock);
    if (older === undefined) return;
    if (!older.isAnchored) older.anchor.observe(values);
    else older.check ??= values.slice();
  }

  /** The clock was set back: what came before what can only be told of what follows. */
  #turnBack(): void {
    for (const older of this.#all.values()) {
      older.check = null;
      if (!older.isAnchored) older.anchor.forget();
    }
  }

  /** Anchors what can be anchored now, and checks those that are. */
  judge(capturedNs: number): void {
    if (capturedNs < this.#judgedNs) this.#turnBack();
    this.#judgedNs = capturedNs;
    for (const older of this.#all.values()) {
      if (older.isAnchored) this.#check(older, capturedNs);
      else this.#judge(older, capturedNs);
    }
  }

  /** Packets and calls are in an order that cannot be: the anchor was wrong. */
  contradict(connection: Connection): void {
    const older = this.#all.get(connection.sock);
    if (older !== undefined) this.#withdraw(older);
  }

  /** The socket is settled. */
  end(connection: Connection): void {
    connection.anchor?.release();
    const older = this.#all.get(connection.sock);
    if (older !== undefined) this.#remove(older);
  }

  #judge(older: Older, capturedNs: number): void {
    const { connection, anchor } = older;
    if (connection.instance !== null) {
      // It was connecting, and its handshake was captured.
      anchor.release();
      connection.anchor = null;
      if (connection.flow!.older === connection) connection.flow!.older = null;
      this.#remove(older);
    } else if (connection.flow?.older === connection) {
      if (anchor.judge(capturedNs, this.#instances.drops.now)) this.#anchor(older);
      else if (anchor.isBroken) this.#withdraw(older);
      else if (anchor.isHopeless) {
        this.partial++;
        this.#giveUp(older);
      }
    }
  }

  #check(older: Older, capturedNs: number): void {
    const { check } = older;
    const { drops } = this.#instances;
    if (drops.drained !== older.drops) {
      // What was captured before the last drop is read: from here on the two can be compared again.
      older.drops = drops.drained;
      const { out, in: inbound } = older.connection.instance!;
      older.outDropped = out.acknowledged;
      older.inDropped = inbound.high;
    }
    if (check === null || check[Observed.afterNs]! > capturedNs) return;
    older.check = null;
    older.checkEveryMs = Math.min(CHECK_MOST_MS, older.checkEveryMs * 2);
    if (this.#contradicts(older, check)) this.#withdraw(older);
  }

  #withdraw(older: Older): void {
    const { connection } = older;
    this.contradicted++;
    for (const side of [connection.out, connection.in]) {
      for (const account of side.calls.accounts) this.bytesDoubtful += account.bytesMatched;
    }
    this.#giveUp(older);
  }

  #giveUp(older: Older): void {
    const { connection, anchor } = older;
    connection.out.lose(Reason.noAnchor);
    connection.in.lose(Reason.noAnchor);
    anchor.release();
    if (connection.flow?.older === connection) connection.flow.older = null;
    this.#remove(older);
    // What it has called so far need not wait.
    this.#instances.onSighting(connection);
  }

  #remove(older: Older): void {
    this.#all.delete(older.connection.sock);
    this.#waiting.delete(older);
    this.#anchored.delete(older);
  }

  #anchor(older: Older): void {
    const { connection, anchor } = older;
    this.#instances.anchor(connection, anchor);
    const { instance } = connection;
    older.isAnchored = true;
    older.outStart = instance!.out.startsAt;
    older.inStart = instance!.in.startsAt;
    older.drops = this.#instances.drops.drained;
    this.#waiting.delete(older);
    this.#anchored.add(older);
    anchor.release();
  }

  /** Whether the kernel says of an anchored socket what cannot be if the anchor is right. */
  #contradicts(older: Older, values: Float64Array): boolean {
    const { connection, anchor, outStart, inStart } = older;
    const { out, in: inbound } = anchor;
    if (values[Observed.steady] === 1) {
      if (isMoved(values, Observed.written, Observed.outOff, Observed.outIdle, out.base)) return true;
      if (isMoved(values, Observed.read, Observed.inOff, Observed.inIdle, inbound.base)) return true;
    }
    const instance = connection.instance!;
    // What the capture lost it cannot be asked about.
    if (this.#instances.drops.now !== older.drops || instance.ended) return false;
    const acked = values[Observed.acked]! - out.base;
    const received = values[Observed.received]! - inbound.base;
    const fin = instance.in.finAt >= 0 ? 1 : 0;
    const { acknowledged } = instance.out;
    const { high } = instance.in;
    if (acked > acknowledged && acknowledged > older.outDropped) return true;
    if (received > high + fin && high > older.inDropped) return true;
    if (instance.lastNs > values[Observed.beforeNs]! - SETTLED_NS) return false;
    if (instance.out.acknowledged > outStart && acked < instance.out.acknowledged) return true;
    return instance.in.edge > inStart && instance.in.holes === 0 && received < instance.in.edge;
  }
}

/** The kernel's counters when the preload library first met a socket. */
function countsAtBirth(words: Uint32Array, isCounted: boolean): { acked: number; received: number } {
  const known = (at: number) => (isCounted && words[at] !== 0xffffffff ? words[at]! : NaN);
  return {
    acked: readCount(words, EntryWord.sentBefore) - known(EntryWord.queuedOut),
    received: readCount(words, EntryWord.readBefore) + known(EntryWord.queuedIn),
  };
}

/** Somebody measures it, and what the kernel says can still change something. */
function isWorthIt({ naming, inode, instance, out, in: inbound }: Connection): boolean {
  if (inode === 0 || naming.recipients.length === 0) return false;
  if (instance?.ended === true) return false;
  return !out.lost || !inbound.lost;
}

/** What was called so far is not of this session. */
export function takeAt(connection: Connection): void {
  connection.outTaken = streamOffset(connection, true);
  connection.inTaken = streamOffset(connection, false);
  connection.out.beginAt(connection.outTaken);
  connection.in.beginAt(connection.inTaken);
}

/** Bytes moved by calls that are in no record. */
function isMoved(
  values: Float64Array, counted: number, off: number, idle: number, base: number,
): boolean {
  return values[idle] === 1 && values[off]! >= 0 && values[counted]! - base !== values[off];
}

/** Where the streams of a socket stand that several programs have, and whether none is in a call. */
export function standsAt(
  connection: Connection,
): { out: number; in: number; active: number; waits: boolean } {
  let { waits } = connection;
  let outActive = connection.outProgress.active;
  let inActive = connection.inProgress.active;
  for (const heir of connection.heirs) {
    outActive += heir.outProgress.active;
    inActive += heir.inProgress.active;
    waits ||= heir.waits;
  }
  return {
    out: streamOffset(connection, true),
    in: streamOffset(connection, false),
    active: (outActive > 0 ? 1 : 0) + (inActive > 0 ? 2 : 0),
    waits,
  };
}
