// `kqtime attach`: goes on with a session whose collector is gone, until its processes have ended.

import { KQTimeError } from "../errors.ts";
import { socketQueues, TcpState } from "../ffi/netlink.ts";
import { readCount } from "../match/entry.ts";
import { formatBytes } from "../output/units.ts";
import type { Summary } from "../output/summary.ts";
import {
  Constant,
  DirectionWord,
  EntryFlag,
  EntryWord,
  Kind,
  Loss,
  SlotWord,
  State,
  Type,
} from "../ring/layout.ts";
import { SLOT_WORDS } from "../ring/ring.ts";
import type { Rings } from "../ring/rings.ts";
import { Session, type SessionOptions } from "./session.ts";
import { findSession, openSockets, type TakenSession, usersNow } from "./takeover.ts";

export interface AttachOptions
  extends Omit<SessionOptions, "everything" | "command" | "slots" | "earlier"> {
  readonly pid: number;
  readonly drainMs: number;
}

export interface Attached {
  readonly summary: Summary;
  /** As in `RunResult`. */
  readonly untold: readonly string[];
}

/** What ends the measurement and leaves the processes alone. */
const STOPPING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
const PIDS_NAMED = 8;
/** How often processes are looked for that were forked meanwhile. */
const PASSES_MOST = 3;

/** @throws KQTimeError if there is nothing to take over, or it cannot be measured */
export async function attach(options: AttachOptions): Promise<Attached> {
  const taken = findSession(options.pid);
  let session: Session;
  try {
    session = new Session({
      ...options,
      command: taken.command,
      slots: taken.rings[0]!.ring.slotCount,
      everything: true,
      earlier: taken,
    });
  } catch (error) {
    for (const { ring } of taken.rings) ring.close();
    throw error;
  }
  const { collector } = session;
  let stop = false;
  const stopNow = () => {
    stop = true;
    collector.hurry();
  };
  for (const signal of STOPPING) process.on(signal, stopNow);
  try {
    const lost = takeOver(session, taken);
    for (const sentence of lost) session.tell(sentence);
    await collector.run(() => stop || collector.rings.open === 0);
    // Where the processes live on, there is no end to wait for.
    await (stop ? collector.detach() : collector.drain(options.drainMs));
    return { summary: session.finish({ code: null, signal: null }), untold: session.untold };
  } finally {
    for (const signal of STOPPING) process.off(signal, stopNow);
    session.close();
  }
}

/** What happened in one direction of a socket while nobody read. */
interface Away {
  /** Offset of the table when the rings were looked at first. */
  off: number;
  /** Offset of the first call that is in a ring, and bytes of them all. */
  first: number;
  bytes: number;
}

interface Sum {
  calls: number;
  bytes: number;
  unrecorded: number;
  dropped: number;
  sockets: number;
  ended: number;
}

/** Hands the rings and sockets over to the collector; sentences about what nobody measured. */
function takeOver(session: Session, taken: TakenSession): string[] {
  const { collector } = session;
  const { rings } = collector;
  const away = new Map<string, Away>();
  const sum: Sum = { calls: 0, bytes: 0, unrecorded: 0, dropped: 0, sockets: 0, ended: 0 };
  for (const { ring, pids } of taken.rings) {
    try {
      rings.adopt(ring, pids);
    } catch (error) {
      ring.close();
      if (!(error instanceof KQTimeError)) throw error;
      session.warn(error.message);
      continue;
    }
    sum.dropped += ring.losses(Loss.RingFull);
    ring.forgetLosses();
    // Before the records: what a call has moved stands in the table first.
    rings.forEachEntry(ring, (entry, words) => noteEntry(away, ring.table, entry, words));
  }
  for (const { ring } of taken.rings) {
    if (ring.closed) continue;
    rings.skim(ring, (slot) => {
      const kind = slot[SlotWord.kind]! & 0xff;
      if (kind === Kind.Listen) collector.record(ring.table, slot);
      if (kind !== Kind.Out && kind !== Kind.In) return;
      sum.calls++;
      sum.bytes += slot[SlotWord.bytes]!;
      noteCall(away.get(keyOf(ring.table, slot[SlotWord.entry]!, slot[SlotWord.gen]!, kind)), slot);
    });
  }
  for (const { off, first, bytes } of away.values()) {
    if (first >= 0) sum.unrecorded += Math.max(0, off - first - bytes);
  }
  // Entries first, then processes, then their sockets: what is in an entry and not among those has been
  // closed, and was not just born, or handed to a child.
  const entries = copyEntries(rings, taken);
  const { inodes, isComplete } = liveSockets(session, taken);
  announceListeners(session, taken, inodes);
  // Who was first to have a socket comes first: an adopted one may go on with it.
  for (const adopted of [false, true]) {
    for (const { table, entry, words } of entries) {
      if ((((words[EntryWord.type]! >>> 16) & EntryFlag.Adopted) !== 0) !== adopted) continue;
      const state = words[EntryWord.state]! & ((1 << Constant.stateBits) - 1);
      const generation = words[EntryWord.state]! >>> Constant.stateBits;
      if (state !== State.Open && state !== State.Connecting) continue;
      if (isComplete && isOver(words, inodes)) {
        // Nobody was there to free what it occupies.
        rings.free(table, entry, generation);
        sum.ended++;
        continue;
      }
      if (state === State.Open && (words[EntryWord.type]! & 0xff) === Type.Tcp) sum.sockets++;
      collector.takeEntry(table, entry, words);
    }
  }
  collector.observeAll();
  const told = sentences(session, taken, sum);
  if (!isComplete) {
    told.push(
      "the processes fork all the time: sockets that were closed while nobody measured cannot be told " +
        "from open ones, and are kept",
    );
  }
  return told;
}

interface EntryCopy {
  readonly table: number;
  readonly entry: number;
  readonly words: Uint32Array;
}

function copyEntries(rings: Rings, taken: TakenSession): EntryCopy[] {
  const entries: EntryCopy[] = [];
  for (const { ring } of taken.rings) {
    if (ring.closed) continue;
    rings.forEachEntry(ring, (entry, words) => {
      entries.push({ table: ring.table, entry, words: words.slice() });
    });
  }
  return entries;
}

interface LiveSockets {
  readonly inodes: Set<number>;
  /** No process can have others: they do not fork all the time. */
  readonly isComplete: boolean;
}

/**
 * Inodes of the sockets that the session's processes have open, those that were forked since it was
 * found included, and of all TCP sockets that the kernel still has: one may be on its way in a message.
 */
function liveSockets({ collector: { rings } }: Session, taken: TakenSession): LiveSockets {
  const live = socketsOfAll(taken.pids, openSockets, () => {
    const found: number[] = [];
    for (const [ring, pids] of usersNow(taken)) {
      if (ring.closed) continue;
      const fresh = pids.filter((pid) => !ring.users.has(pid));
      rings.addUsers(ring, fresh);
      found.push(...fresh);
    }
    return found;
  });
  for (const { inode } of socketQueues()) live.inodes.add(inode);
  return live;
}

/**
 * The sockets of processes and of those that were forked meanwhile, which `forked` gives: whoever was
 * may have what its parent has closed since.
 */
export function socketsOfAll(
  pids: readonly number[],
  socketsOf: (pids: readonly number[]) => Iterable<number>,
  forked: () => readonly number[],
): LiveSockets {
  const inodes = new Set<number>();
  const known = new Set<number>();
  let found = pids;
  for (let pass = 0; pass < PASSES_MOST; pass++) {
    for (const pid of found) known.add(pid);
    for (const inode of socketsOf(found)) inodes.add(inode);
    found = forked().filter((pid) => !known.has(pid));
    if (found.length === 0) return { inodes, isComplete: true };
  }
  return { inodes, isComplete: false };
}

/** Whether an entry's socket is closed, `inodes` being those of all that are not. */
export function isOver(words: Uint32Array, inodes: ReadonlySet<number>): boolean {
  const inode = readCount(words, EntryWord.inode);
  const calls = words[EntryWord.out + DirectionWord.calls]! | words[EntryWord.in + DirectionWord.calls]!;
  // Its descriptor may be closed, but a thread still wait in a call.
  return inode !== 0 && !inodes.has(inode) && (calls & Constant.callsActiveMask) === 0;
}

function sentences(session: Session, taken: TakenSession, sum: Sum): string[] {
  const { pids } = taken;
  const listed = pids.length > PIDS_NAMED ? [...pids.slice(0, PIDS_NAMED), "…"] : pids;
  const told = [
    `took over ${count(pids.length, "process", "es")} (pid ${listed.join(", ")}) with ` +
      `${count(sum.sockets, "open connection")}: what was called before is not of this measurement`,
  ];
  if (sum.calls + sum.ended > 0) {
    const unrecorded = sum.dropped > 0 ? sum.unrecorded : 0;
    told.push(
      `while nobody measured: ${count(sum.calls, "call")} of ${formatBytes(sum.bytes)} recorded` +
        (unrecorded > 0 ? `, at least ${formatBytes(unrecorded)} more without a record` : "") +
        (sum.ended > 0 ? `, ${count(sum.ended, "socket")} closed` : ""),
    );
  }
  if (sum.dropped > 0) {
    told.push(
      `${count(sum.dropped, "record")} were dropped because rings were full, since their processes ` +
        "started",
    );
  }
  if (!session.isFound) {
    told.push(
      `the session's socket ${taken.socket} cannot be made again: processes that are started from ` +
        "now on are not measured",
    );
  }
  return told;
}

function count(number: number, what: string, plural = "s"): string {
  return `${number} ${what}${number === 1 ? "" : plural}`;
}

function noteEntry(
  away: Map<string, Away>, table: number, entry: number, words: Uint32Array,
): void {
  const generation = words[EntryWord.state]! >>> Constant.stateBits;
  for (const [kind, at] of [[Kind.Out, EntryWord.out], [Kind.In, EntryWord.in]] as const) {
    const off = readCount(words, at + DirectionWord.off);
    away.set(keyOf(table, entry, generation, kind), { off, first: -1, bytes: 0 });
  }
}

function noteCall(away: Away | undefined, slot: Uint32Array): void {
  if (away === undefined) return;
  const off = readCount(slot, SlotWord.off);
  if (away.first < 0 || off < away.first) away.first = off;
  away.bytes += slot[SlotWord.bytes]!;
}

/** Tells the join on which ports the processes listen, as `listen` did when it was called. */
function announceListeners(session: Session, taken: TakenSession, inodes: Set<number>): void {
  const table = taken.rings.find(({ ring }) => !ring.closed)?.ring.table;
  if (table === undefined) return;
  const slot = new Uint32Array(SLOT_WORDS);
  const ports = new Set<number>();
  for (const socket of socketQueues({ states: 1 << TcpState.Listen })) {
    if (inodes.has(socket.inode)) ports.add(socket.localPort);
  }
  for (const port of ports) {
    slot[SlotWord.kind] = Kind.Listen;
    slot[SlotWord.off] = port;
    session.collector.record(table, slot);
  }
}

function keyOf(table: number, entry: number, generation: number, kind: number): string {
  return `${table}/${entry}/${generation}/${kind}`;
}
