// The join as its definition says it: each call's atoms against what was sighted of them.

import { Reason } from "../../src/output/reasons.ts";
import { Histogram } from "../../src/output/histogram.ts";
import {
  type CallSpec,
  type History,
  INNER_DEVICE,
  type SideSpec,
  type SocketSpec,
  type Stream,
} from "./history-types.ts";
import { fdOf, type Outcome, pidOf } from "./schedule.ts";
import { type Cell, Sighted, TIMED } from "./sighted.ts";
import { LineSink } from "./sink.ts";
import { TcpFlag } from "./words.ts";

/** Stands for every reason of a socket that was not found on the wire. */
export const UNFOUND = 99;

export class SideBooks {
  calls = 0;
  called = 0;
  matched = 0;
  readonly missed = new Map<number, number>();
  inFlight = 0;
  unread = 0;
  unexplained = 0;
  retransmitted = 0;
  readonly callNs = new Histogram();
  readonly byteNs = new Histogram();
  readonly reassemblyNs = new Histogram();
}

export interface ModelResult {
  books: Map<number, { out: SideBooks; in: SideBooks }>;
  lines: string[];
  /** Atoms whose time is not that of their first transmission. */
  wrong: string[];
}

interface Booked {
  first: number;
  last: number;
  timeNs: number;
  fd: number;
  pid: number;
  reason: number;
  counts: boolean;
}

/** The calls with what the records alone say of them. */
function bookedCalls(side: SideSpec, fd: number, pid: number): Booked[] {
  const list: Booked[] = [];
  const { calls } = side;
  // A lost neighbour may have been of the same group.
  const company = (call: CallSpec | undefined, group: number): boolean =>
    call !== undefined && (call.lost || (call.overlap && call.group === group));
  let latestNs = 0;
  calls.forEach((call, i) => {
    const previous = list[list.length - 1];
    if (call.lost) {
      if (i > 0 && calls[i - 1]!.lost) previous!.last = call.last;
      else {
        list.push({ first: call.first, last: call.last, timeNs: latestNs, fd: -1, pid: 0,
          reason: Reason.ringDrop, counts: false });
      }
      return;
    }
    const beside = [calls[i - 1], calls[i + 1]];
    const shared = call.overlap && beside.some((other) => company(other, call.group));
    const cut = call.overlap && i === calls.length - 1 && side.cut > 0;
    list.push({ first: call.first, last: call.last, timeNs: call.timeNs, fd, pid,
      reason: shared || cut ? Reason.concurrent : TIMED, counts: true });
    latestNs = Math.max(latestNs, call.timeNs);
  });
  return list;
}

class SideModel {
  readonly books = new SideBooks();
  readonly wrong: string[] = [];

  constructor(
    readonly socket: SocketSpec,
    readonly out: boolean,
    readonly stream: Stream,
    readonly calls: Booked[],
    readonly sink: LineSink,
  ) {}

  /** Books each call; `cellOf` tells what the wire said of an atom. */
  book(sighted: Sighted | null, open: number | null): void {
    const { books, stream } = this;
    for (const call of this.calls) {
      const bytes = stream.starts[call.last]! - stream.starts[call.first]!;
      books.called += bytes;
      if (call.counts) books.calls++;
      this.#one(call, sighted, open);
    }
  }

  #one(call: Booked, sighted: Sighted | null, open: number | null): void {
    const { books, stream, out, socket, sink } = this;
    const { sizes, starts } = stream;
    const { wire, client } = socket;
    const lport = client ? wire.clientPort : wire.serverPort;
    const rport = client ? wire.serverPort : wire.clientPort;
    const direction = out ? 0 : 1;
    const timed: Cell[] = [];
    let matched = 0;
    let missStart = 0;
    let missBytes = 0;
    let missReason = TIMED;
    const writeMiss = (): void => {
      if (missBytes > 0) {
        sink.miss(direction, call.timeNs, call.timeNs, missBytes, missStart, call.pid, call.fd, 0,
          lport, rport, missReason);
      }
      missBytes = 0;
    };
    for (let a = call.first; a < call.last; a++) {
      const cell = sighted === null ? null : sighted.cells[a]!;
      if (cell !== null && cell.reason === null && open === null) {
        books.inFlight += sizes[a]!;
        continue;
      }
      let reason = sighted === null ? UNFOUND : (cell!.reason ?? open!);
      if (call.reason !== TIMED) reason = call.reason;
      const seenNs = cell?.seenNs ?? NaN;
      const delayNs = out ? seenNs - call.timeNs : call.timeNs - seenNs;
      if (reason === TIMED && delayNs < 0) reason = Reason.clock;
      if (reason === TIMED) {
        writeMiss();
        timed.push(cell!);
        matched += sizes[a]!;
        books.byteNs.record(delayNs, sizes[a]!);
        const waitedNs = Math.max(0, cell!.inorderNs - cell!.seenNs);
        if (!out) books.reassemblyNs.record(waitedNs, sizes[a]!);
        if (cell!.seenNs !== stream.firstNs[a]) this.wrong.push(`${socket.index} atom ${a}`);
        continue;
      }
      books.missed.set(reason, (books.missed.get(reason) ?? 0) + sizes[a]!);
      if (missReason !== reason) writeMiss();
      if (missBytes === 0) missStart = starts[a]!;
      missReason = reason;
      missBytes += sizes[a]!;
    }
    writeMiss();
    books.matched += matched;
    if (matched === 0) return;
    const last = timed[timed.length - 1]!;
    const startNs = out ? call.timeNs : last.seenNs;
    const endNs = out ? last.seenNs : call.timeNs;
    books.callNs.record(endNs - startNs, 1);
    sink.call(direction, startNs, endNs, timed[0]!.seenNs, last.inorderNs, matched,
      starts[call.first]!, call.pid, call.fd, 0, lport, rport);
  }
}

/** What the wire showed of a socket's connection, in the order in which packets were fed. */
function sight(history: History, socket: SocketSpec, bornAt: number) {
  const { wire, client } = socket;
  const outStream = client ? wire.up : wire.down;
  const inStream = client ? wire.down : wire.up;
  let found: { out: Sighted; in: Sighted } | null = null;
  let kept = client || wire.listened;
  let resetOut = false;
  let reset = false;
  history.packets.forEach((packet, index) => {
    if (packet.wire !== wire || packet.device === INNER_DEVICE) return;
    const { flags, timeNs, now, drained } = packet;
    if ((flags & TcpFlag.SYN) !== 0) {
      if ((flags & TcpFlag.ACK) === 0 || found !== null) return;
      found = { out: new Sighted(outStream, drained), in: new Sighted(inStream, drained) };
      if (bornAt <= index) kept = true;
      return;
    }
    if (found === null) return;
    if (!kept && bornAt <= index) {
      kept = true;
      found.out.unborn();
      found.in.unborn();
    }
    const out = packet.fromClient === client;
    const mine = out ? found.out : found.in;
    const theirs = out ? found.in : found.out;
    if ((flags & TcpFlag.RST) !== 0) {
      const length = mine.stream.starts[mine.stream.sent]!;
      if (packet.off === length) {
        reset = true;
        if (out) resetOut = true;
      }
      return;
    }
    if (packet.off === -1) {
      if (kept) mine.device(packet.device);
    } else if (packet.last > packet.first) {
      if (kept) mine.data(packet.first, packet.last, timeNs, packet.device, now, drained);
      else {
        // Only how far it got is remembered.
        for (let a = 0; a < packet.last; a++) mine.cells[a]!.reason ??= Reason.unborn;
      }
    }
    if ((flags & TcpFlag.FIN) !== 0) mine.finAt = packet.off;
    if (packet.ack >= 0) theirs.acknowledge(packet.ack, now);
  });
  return found === null ? null : { ...(found as { out: Sighted; in: Sighted }), resetOut, reset };
}

function settleOut(model: SideModel, sighted: Sighted, reset: boolean, now: number): void {
  const { socket, stream, books, calls } = model;
  const side = socket.out;
  const called = calls.length === 0 ? 0 : calls[calls.length - 1]!.last;
  const callNs = side.cutNs;
  let end = called;
  if (side.cut > 0 && sighted.high > called) {
    end = sighted.high;
    const last = side.calls[side.calls.length - 1];
    // Whatever overlapped it, or is not known, may have gone first.
    const alone = side.cut === 1 && (last === undefined || (!last.lost && !last.overlap));
    const latestNs = Math.max(0, ...calls.map((call) => call.timeNs));
    calls.push(alone
      ? { first: called, last: end, timeNs: callNs, fd: fdOf(socket), pid: pidOf(socket),
          reason: TIMED, counts: true }
      : { first: called, last: end, timeNs: latestNs, fd: -1, pid: 0, reason: Reason.interrupted,
          counts: false });
  }
  // Something behind them was sighted, or they were acknowledged, or a FIN followed them.
  const acknowledged = sighted.finAt >= 0
    ? Math.min(sighted.acknowledged, sighted.finAt)
    : sighted.acknowledged;
  const sentBytes = Math.max(acknowledged, sighted.finAt);
  let sent = sighted.high;
  while (sent < end && stream.starts[sent]! < sentBytes) sent++;
  sighted.giveUp(sent, now);
  // They left unseen, or never will, and only a reset tells which.
  const why = !reset && now > sighted.dropsAtLast ? Reason.captureDrop : Reason.closedUnsent;
  model.book(sighted, socket.queued > 0 ? null : why);
  books.unexplained = Math.max(0, stream.starts[sighted.edge]! - stream.starts[end]!);
}

function settleIn(
  model: SideModel,
  sighted: Sighted,
  finOut: boolean,
  resetOut: boolean,
  now: number,
): void {
  const { socket, stream, books, calls } = model;
  const read = calls.length === 0 ? 0 : calls[calls.length - 1]!.last;
  sighted.giveUp(read, now);
  model.book(sighted, null);
  const edge = sighted.edge;
  const rest = Math.max(0, stream.starts[edge]! - stream.starts[read]!);
  const knownUnread = socket.unbindNs < 0 ? -1 : socket.unread;
  let unread = rest;
  if (!resetOut && knownUnread < 0) unread = finOut ? 0 : rest;
  else if (!resetOut && rest > knownUnread) {
    let late = 0;
    for (let a = read; a < edge; a++) {
      if (sighted.cells[a]!.seenNs >= socket.unbindNs) late += stream.sizes[a]!;
    }
    unread = Math.min(rest, knownUnread + late);
  }
  books.unexplained = rest - unread;
  for (let a = Math.max(edge, read); a < sighted.cells.length; a++) {
    if (sighted.cells[a]!.reason !== null) unread += stream.sizes[a]!;
  }
  books.unread = unread;
}

export function expected(history: History, outcome: Outcome): ModelResult {
  const { bornAt, dropsAt } = outcome;
  const sink = new LineSink();
  const result: ModelResult = { books: new Map(), lines: sink.lines, wrong: [] };
  for (const socket of history.sockets) {
    const { wire, client } = socket;
    const sighted = sight(history, socket, bornAt.get(socket.index) ?? Infinity);
    const now = dropsAt.get(socket.index)!;
    const fd = fdOf(socket);
    const pid = pidOf(socket);
    const out = new SideModel(socket, true, client ? wire.up : wire.down,
      bookedCalls(socket.out, fd, pid), sink);
    const inbound = new SideModel(socket, false, client ? wire.down : wire.up,
      bookedCalls(socket.in, fd, pid), sink);
    if (sighted === null) {
      out.book(null, UNFOUND);
      inbound.book(null, UNFOUND);
    } else {
      if (!bornBefore(history, socket, bornAt)) {
        sighted.out.unborn();
        sighted.in.unborn();
      }
      out.books.retransmitted = sighted.out.retransmitted;
      inbound.books.retransmitted = sighted.in.retransmitted;
      settleIn(inbound, sighted.in, sighted.out.finAt >= 0, sighted.resetOut, now);
      settleOut(out, sighted.out, sighted.reset, now);
    }
    result.books.set(socket.index, { out: out.books, in: inbound.books });
    result.wrong.push(...out.wrong, ...inbound.wrong);
  }
  return result;
}

/** Whether the birth was known before the last packet. */
function bornBefore(
  history: History,
  socket: SocketSpec,
  bornAt: ReadonlyMap<number, number>,
): boolean {
  return (
    socket.client || socket.wire.listened ||
    (bornAt.get(socket.index) ?? Infinity) < history.packets.length
  );
}
