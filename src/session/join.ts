// The join with its outputs: the one thing behind a live session and a replayed one. It is fed
// rounds of entries, records, packets and ticks; it gives the log, the books and the summary.

import { DirectionStats } from "../output/stats.ts";
import { formatBytes } from "../output/units.ts";
import type { Log } from "../output/log.ts";
import { Reason, REASON_HELP, REASONS } from "../output/reasons.ts";
import { buildSummary, type Losses, type Summary } from "../output/summary.ts";
import type { Connection } from "../match/connection.ts";
import { Engine } from "../match/engine.ts";
import type { LabelMode } from "../match/label-modes.ts";
import { formatAddress } from "../match/labels.ts";

/** Sockets that the summary lists; the others are summed. */
const SOCKETS_SHOWN = 100;

/** What decides what the join does: kept in a recording. */
export interface JoinSetup {
  /** Unix seconds that all times are relative to. */
  baseSec: number;
  /** The session's start, ns relative to the base. */
  startNs: number;
  direction: "in" | "out" | "both";
  label: LabelMode;
  command: string[];
  version: string;
}

/** What the summary says besides the join. */
export interface JoinEnd {
  endNs: number;
  exitCode: number | null;
  signal: string | null;
  pids: number[];
  losses: Omit<Losses, "badRecords" | "logLines">;
  badRecords: number;
  warnings: string[];
}

interface ShownSocket {
  sock: number;
  pid: number;
  fd: number;
  lport: number;
  rport: number;
  label: string;
  peer?: string;
  out: DirectionStats;
  in: DirectionStats;
}

export class Join {
  readonly engine: Engine;
  readonly #setup: JoinSetup;
  readonly #log: Log | null;
  #shown: ShownSocket[] = [];
  readonly #rest = { count: 0, out: new DirectionStats(), in: new DirectionStats() };

  constructor(setup: JoinSetup, log: Log | null) {
    this.#setup = setup;
    this.#log = log;
    this.engine = new Engine({
      baseSec: setup.baseSec,
      out: setup.direction !== "in",
      in: setup.direction !== "out",
      label: setup.label,
      sink: log,
    });
    this.engine.onSettled = (connection) => this.#settled(connection);
  }

  /** Settles every socket, writes the books to the log, and builds the summary. */
  finish(end: JoinEnd): Summary {
    const { engine } = this;
    const setup = this.#setup;
    engine.finish();
    const warnings = [...end.warnings];
    if (engine.interrupted > 0) {
      warnings.push(
        `${engine.interrupted} call${engine.interrupted === 1 ? " was" : "s were"} cut off by the ` +
          "end of its process; what the wire shows of it is booked to it",
      );
    }
    const total = { out: new DirectionStats(), in: new DirectionStats() };
    for (const label of engine.labels.all()) {
      total.out.merge(label.out);
      total.in.merge(label.in);
    }
    warnings.push(...whatIsMissing(total.out, total.in));
    const labels = [...engine.labels.all()].map((label) => ({
      label: label.name === "" ? "NULL" : label.name,
      encoded: label.encoded,
      out: label.out,
      in: label.in,
    }));
    if (this.#log !== null) {
      for (const { encoded, out, in: inbound } of labels) {
        if (engine.out) this.#log.books(0, setup.startNs, end.endNs, out, encoded);
        if (engine.in) this.#log.books(1, setup.startNs, end.endNs, inbound, encoded);
      }
      this.#log.close();
    }
    this.#trim(SOCKETS_SHOWN);
    return buildSummary({
      version: setup.version,
      command: setup.command,
      direction: setup.direction,
      exitCode: end.exitCode,
      signal: end.signal,
      pids: end.pids,
      baseSec: setup.baseSec,
      startNs: setup.startNs,
      endNs: end.endNs,
      labels,
      sockets: this.#shown,
      socketsRest: this.#rest,
      datagram: engine.datagram,
      losses: {
        ...end.losses,
        badRecords: end.badRecords + engine.badRecords,
        badPackets: end.losses.badPackets + engine.instances.badPackets,
        logLines: this.#log?.linesLost ?? 0,
      },
      warnings,
    });
  }

  #settled(connection: Connection): void {
    const socket: ShownSocket = {
      sock: connection.sock,
      pid: connection.pid,
      fd: connection.fd,
      lport: connection.lport,
      rport: connection.rport,
      label: connection.label.name === "" ? "NULL" : connection.label.name,
      out: connection.out.stats,
      in: connection.in.stats,
    };
    if (this.#setup.label === "peer") {
      socket.peer = `${formatAddress(connection.remote)}:${connection.rport}`;
    }
    if (socket.out.sockets + socket.in.sockets === 0) return;
    this.#shown.push(socket);
    if (this.#shown.length >= SOCKETS_SHOWN * 2) this.#trim(SOCKETS_SHOWN);
  }

  /** Keeps the `most` sockets with the most bytes, and sums the others. */
  #trim(most: number): void {
    const size = (socket: ShownSocket) => socket.out.bytesCalled + socket.in.bytesCalled;
    this.#shown.sort((a, b) => size(b) - size(a) || a.sock - b.sock);
    for (const socket of this.#shown.splice(most)) {
      this.#rest.count++;
      this.#rest.out.merge(socket.out);
      this.#rest.in.merge(socket.in);
    }
  }
}

/** What a reader of the figures must know first; one sentence each. */
function whatIsMissing(out: DirectionStats, inbound: DirectionStats): string[] {
  const warnings: string[] = [];
  const unexplained = out.bytesUnexplained + inbound.bytesUnexplained;
  if (unexplained > 0) {
    warnings.push(
      `${formatBytes(unexplained)} passed over measured sockets in calls that a preload library ` +
        "cannot see (C stdio, io_uring, a program that it was not loaded into)",
    );
  }
  for (const [reason, help] of REASON_HELP.entries()) {
    if (reason === Reason.closedUnsent) continue;
    const bytes = out.unmatched[reason]! + inbound.unmatched[reason]!;
    if (bytes > 0) warnings.push(`${formatBytes(bytes)} ${REASONS[reason]}: ${help}`);
  }
  return warnings;
}
