// The summary of a measurement as one plain object: what `--json` prints, what the table shows, and
// what docs/summary.schema.json describes. All times in it are nanoseconds.

import type { Histogram } from "./histogram.ts";
import { encodeName, printable } from "./name.ts";
import { REASONS } from "./reasons.ts";
import { DirectionStats } from "./stats.ts";
import { formatExact } from "./units.ts";

/** Sockets listed one by one unless told otherwise; the others are summed. */
export const SOCKETS_LISTED = 100;

/** What was lost on the way; all of them numbers of things, 0 if none. */
export interface Losses {
  /** Records dropped because the target's ring was full. */
  ringRecords: number;
  /** Packets that the kernel dropped because the capture buffer was full. */
  capturePackets: number;
  /** Packets that the network interface dropped. */
  interfacePackets: number;
  /** How often the capture stopped, for its device was gone: it saw nothing until it was back. */
  captureGaps: number;
  /** Records in the ring that made no sense. */
  badRecords: number;
  /** Packets that could not be decoded. */
  badPackets: number;
  /** Lines of the log that were not written. */
  logLines: number;
  /** Records dropped because a ring could not be extended. */
  memoryRecords: number;
  /** Sockets not measured: the socket table was full. */
  tableSockets: number;
  /** Sockets not measured: the descriptor was beyond the table of descriptors. */
  descriptorSockets: number;
  /** Sockets whose addresses could not be learnt. */
  addressSockets: number;
  /** Calls on sockets that the collector had let go of: they are not measured. */
  staleCalls: number;
  /** Forked processes that went on in an inherited ring. */
  inheritedRings: number;
  /** Processes not measured: they could not reach the collector when they started. */
  unheardProcesses: number;
  /** IP fragments of TCP segments: they cannot be joined. */
  fragments: number;
}

/** Those that every caller knows. */
type BasicLoss =
  | "ringRecords"
  | "capturePackets"
  | "interfacePackets"
  | "badRecords"
  | "badPackets"
  | "logLines";

/** @internal */
export interface SocketInput {
  sock: number;
  pid: number;
  fd: number;
  lport: number;
  rport: number;
  label: string;
  /** Address of the peer; only where the user asked for it. */
  peer?: string | undefined;
  out: DirectionStats;
  in: DirectionStats;
}

export type Direction = "in" | "out" | "both";

/** @internal */
export interface SummaryInput {
  version: string;
  command: string[];
  exitCode: number | null;
  signal: string | null;
  pids: number[];
  /** What was measured; the other direction has no figures. */
  direction?: Direction;
  /** Unix seconds that the times are relative to. */
  baseSec: number;
  startNs: number;
  endNs: number;
  labels: Iterable<{ label: string; out: DirectionStats; in: DirectionStats }>;
  sockets: Iterable<SocketInput>;
  /** Sockets that the caller has summed already. */
  socketsRest: { count: number; out: DirectionStats; in: DirectionStats };
  /** How many of them are listed; default SOCKETS_LISTED. */
  socketsListed?: number | undefined;
  datagram: { sockets: number; calls: number; bytes: number };
  /** Those of other kinds, by kind. */
  otherSockets?: Readonly<Record<string, number>>;
  losses: Pick<Losses, BasicLoss> & Partial<Omit<Losses, BasicLoss>>;
  warnings: string[];
}

/** Of a distribution of times, in ns; `count` is its weight, calls or bytes. */
export interface Distribution {
  count: number;
  min: number | null;
  mean: number | null;
  p50: number | null;
  p90: number | null;
  p99: number | null;
  p999: number | null;
  max: number | null;
}

interface DirectionSummary {
  sockets: number;
  calls: number;
  bytesCalled: number;
  bytesMatched: number;
  bytesUnmatched: Record<string, number>;
  coverage: number | null;
  callNs: Distribution;
  byteNs: Distribution;
  bytesRetransmitted: number;
  bytesUnexplained: number;
}

export interface OutSummary extends DirectionSummary {
  bytesInFlight: number;
  /** Since the call of the oldest byte that has not left yet; null if none is known to wait. */
  oldestUnsentNs: number | null;
}

export interface InSummary extends DirectionSummary {
  bytesUnread: number;
  /** Since the arrival of the oldest byte that nobody has read yet; null if none is known to wait. */
  oldestUnreadNs: number | null;
  reassemblyNs: Distribution;
}

export interface BothSummary {
  out: OutSummary;
  in: InSummary;
}

export interface SocketSummary extends BothSummary {
  sock: number;
  pid: number;
  fd: number;
  lport: number;
  rport: number;
  label: string;
  peer?: string;
}

export interface Summary {
  version: string;
  target: { command: string[]; exitCode: number | null; signal: string | null; pids: number[] };
  /** What was measured: what stands under the other direction says nothing. */
  direction: Direction;
  /** Decimal: more digits than a JSON number keeps. */
  startUnixNs: string;
  durationNs: number;
  booksBalance: boolean;
  warnings: string[];
  directions: BothSummary;
  labels: ({ label: string } & BothSummary)[];
  sockets: SocketSummary[];
  socketsRest: { count: number } & BothSummary;
  datagram: { sockets: number; calls: number; bytes: number };
  /** Sockets of other kinds that were seen and not measured, by kind; only those that there were. */
  otherSockets: Record<string, number>;
  losses: Losses;
}

function whole(ns: number | null): number | null {
  return ns === null ? null : Math.round(ns);
}

/**
 * Beyond 2^53 the sum depends on the order of the additions, in its last digits: not shown. Of a mean
 * that is so great that it has no thousandths the product would be inexact.
 */
function thousandths(ns: number): number {
  return ns < 2 ** 43 ? Math.round(ns * 1000) / 1000 : Math.round(ns);
}

function distribution(histogram: Histogram): Distribution {
  const { mean } = histogram;
  return {
    count: histogram.count,
    min: whole(histogram.min),
    mean: mean === null ? null : thousandths(mean),
    p50: histogram.quantile(0.5),
    p90: histogram.quantile(0.9),
    p99: histogram.quantile(0.99),
    p999: histogram.quantile(0.999),
    max: whole(histogram.max),
  };
}

function direction(stats: DirectionStats): DirectionSummary {
  const bytesUnmatched: Record<string, number> = {};
  stats.unmatched.forEach((bytes, reason) => {
    if (bytes !== 0) bytesUnmatched[REASONS[reason]!] = bytes;
  });
  return {
    sockets: stats.sockets,
    calls: stats.calls,
    bytesCalled: stats.bytesCalled,
    bytesMatched: stats.bytesMatched,
    bytesUnmatched,
    coverage: stats.coverage(),
    callNs: distribution(stats.callNs),
    byteNs: distribution(stats.byteNs),
    bytesRetransmitted: stats.bytesRetransmitted,
    bytesUnexplained: stats.bytesUnexplained,
  };
}

function both(stats: { out: DirectionStats; in: DirectionStats }, endNs: number): BothSummary {
  return {
    out: {
      ...direction(stats.out),
      bytesInFlight: stats.out.bytesInFlight,
      oldestUnsentNs: age(stats.out, endNs),
    },
    in: {
      ...direction(stats.in),
      bytesUnread: stats.in.bytesUnread,
      oldestUnreadNs: age(stats.in, endNs),
      reassemblyNs: distribution(stats.in.reassemblyNs),
    },
  };
}

/** Of the oldest byte that waits at the end. */
function age({ waitingSinceNs }: DirectionStats, endNs: number): number | null {
  return waitingSinceNs === Infinity ? null : Math.max(0, Math.round(endNs - waitingSinceNs));
}

function calledBytes(stats: { out: DirectionStats; in: DirectionStats }): number {
  return stats.out.bytesCalled + stats.in.bytesCalled;
}

/** The label as the log has it, so that a report made from the log has the same. */
function labelText(label: string): string {
  return new TextDecoder().decode(encodeName(label));
}

function imbalance(label: string, where: string, stats: DirectionStats): string {
  const booked = stats.bytesMatched + stats.bytesInFlight + stats.bytesUnmatched();
  const difference = stats.bytesCalled - booked;
  const what =
    difference === 0
      ? "times below zero were measured"
      : `${formatExact(stats.bytesCalled)} bytes were called, ${formatExact(booked)} are booked`;
  return `the books of ${label}, ${where}, do not balance: ${what}; do not trust these figures`;
}

/**
 * Builds the summary. The totals are the merge of the labels.
 * @internal
 */
export function buildSummary(input: SummaryInput): Summary {
  const labels = Array.from(input.labels, (entry) => ({ ...entry, label: labelText(entry.label) }));
  // A fixed order, also for the sums: the same books give the same summary, from memory or a log.
  labels.sort((a, b) => calledBytes(b) - calledBytes(a) || (a.label < b.label ? -1 : 1));
  const total = { out: new DirectionStats(), in: new DirectionStats() };
  const imbalances: string[] = [];
  for (const entry of labels) {
    total.out.merge(entry.out);
    total.in.merge(entry.in);
    if (!entry.out.balances()) imbalances.push(imbalance(entry.label, "outbound", entry.out));
    if (!entry.in.balances()) imbalances.push(imbalance(entry.label, "inbound", entry.in));
  }

  const sockets = Array.from(input.sockets);
  sockets.sort((a, b) => calledBytes(b) - calledBytes(a) || a.sock - b.sock);
  const rest = { out: new DirectionStats(), in: new DirectionStats() };
  rest.out.merge(input.socketsRest.out);
  rest.in.merge(input.socketsRest.in);
  const others = sockets.splice(input.socketsListed ?? SOCKETS_LISTED);
  for (const socket of others) {
    rest.out.merge(socket.out);
    rest.in.merge(socket.in);
  }

  const startNs = Math.round(input.startNs);
  const { endNs } = input;
  return {
    version: input.version,
    target: {
      command: [...input.command],
      exitCode: input.exitCode,
      signal: input.signal,
      pids: [...input.pids],
    },
    direction: input.direction ?? "both",
    startUnixNs: String(BigInt(input.baseSec) * 1000000000n + BigInt(startNs)),
    durationNs: Math.round(input.endNs) - startNs,
    booksBalance: imbalances.length === 0,
    warnings: [...imbalances, ...input.warnings],
    directions: both(total, endNs),
    labels: labels.map((entry) => ({ label: entry.label, ...both(entry, endNs) })),
    sockets: sockets.map((socket) => ({
      sock: socket.sock,
      pid: socket.pid,
      fd: socket.fd,
      lport: socket.lport,
      rport: socket.rport,
      label: labelText(socket.label),
      ...(socket.peer === undefined ? {} : { peer: printable(socket.peer) }),
      ...both(socket, endNs),
    })),
    socketsRest: { count: input.socketsRest.count + others.length, ...both(rest, endNs) },
    datagram: { ...input.datagram },
    otherSockets: Object.fromEntries(Object.entries(input.otherSockets ?? {}).filter(([, count]) => count > 0)),
    losses: {
      captureGaps: 0,
      memoryRecords: 0,
      tableSockets: 0,
      descriptorSockets: 0,
      addressSockets: 0,
      staleCalls: 0,
      inheritedRings: 0,
      unheardProcesses: 0,
      fragments: 0,
      ...input.losses,
    },
  };
}
