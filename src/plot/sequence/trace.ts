// Everything that is known of one socket of a recording: what the application wrote and read, from
// the join's own log of it, and what passed on the wire.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Direction, type LogLine, type LogVisitor } from "../../analysis/log-line.ts";
import { readLogs } from "../../analysis/log-reader.ts";
import type { LogStart, Window } from "../../analysis/window.ts";
import { KQTimeError } from "../../errors.ts";
import type { Summary } from "../../output/summary.ts";
import { replay } from "../../session/replay.ts";
import { HEADERS_FILE } from "../../session/tape.ts";
import { Marks } from "./marks.ts";
import { readWires, type Stream, type Wire } from "./wire.ts";

const SOCKETS_NAMED = 8;
const NS_PER_SEC = 1_000_000_000n;

export interface SocketTrace {
  readonly sock: number;
  readonly name: string;
  /** Unix seconds that all times are relative to. */
  readonly originSec: number;
  /** The recording's start, relative to it. */
  readonly startSec: number;
  /** The ends of the window that were asked for, within the recording; null: its first or last mark. */
  readonly fromSec: number | null;
  readonly untilSec: number | null;
  /** Bytes [from, to) handed to a call of the application at a time. */
  readonly written: Curve;
  /** Bytes [from, to) that a call gave to the application, at its return. */
  readonly read: Curve;
  readonly out: WireMarks;
  readonly in: WireMarks;
}

/** A number of bytes that grows. */
export interface Curve {
  /** The steps within the window. */
  readonly marks: Marks;
  /** Bytes before the window; NaN where there are no steps, in it or outside. */
  readonly level: number;
}

/** One direction on the wire. */
export interface WireMarks {
  readonly packets: Marks;
  readonly again: Marks;
  readonly acks: Curve;
}

/** The calls of one socket. */
class Calls implements LogVisitor {
  readonly written = new Marks();
  readonly read = new Marks();
  name = "";
  lport = -1;
  rport = -1;

  constructor(private readonly sock: number) {}

  call(line: LogLine): void {
    if (line.sock !== this.sock) return;
    this.name = line.name();
    this.#add(line);
  }

  /** Bytes without a time were called for all the same. */
  miss(line: LogLine): void {
    if (line.sock === this.sock) this.#add(line);
  }

  queues(): void {}

  socketQueues(): void {}

  text(): boolean {
    return true;
  }

  #add(line: LogLine): void {
    this.lport = line.lport;
    this.rport = line.rport;
    if (line.off < 0 || line.bytes <= 0) return;
    const isOut = line.direction === Direction.Out;
    const marks = isOut ? this.written : this.read;
    marks.add((isOut ? line.startNs : line.endNs) / 1e9, line.off, line.off + line.bytes);
  }
}

/** @throws KQTimeError `E_RECORD`, `E_SOCKET`, `E_PCAP_FILE` */
export function traceSocket(
  folder: string,
  sock: number,
  window: Window,
  onWarning: (message: string) => void,
): SocketTrace {
  const scratch = mkdtempSync(join(tmpdir(), "kqtime-plot-"));
  const calls = new Calls(sock);
  let summary: Summary;
  let start: LogStart;
  try {
    const log = join(scratch, "replay.log.gz");
    summary = replay({ folder, log, json: null, everyCall: true, onWarning });
    start = readLogs([log], calls);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  const { written, read, name, lport, rport } = calls;
  const originSec = start.baseSec;
  if (written.count + read.count === 0) throw noSuchSocket(folder, sock, summary);
  const firstSec = Math.min(
    written.count > 0 ? written.sorted().atSec[0]! : Infinity,
    read.count > 0 ? read.sorted().atSec[0]! : Infinity,
  );
  const wire = wireOf(
    readWires(join(folder, HEADERS_FILE), originSec, lport, rport),
    firstSec,
    sock,
  );
  const [sinceNs, untilNs] = window.boundsNs(start);
  const fromSec = sinceNs / 1e9;
  const startSec = start.logStartNs / 1e9;
  const summaryStartNs = Number(BigInt(summary.startUnixNs) - BigInt(originSec) * NS_PER_SEC);
  const endSec = (summaryStartNs + summary.durationNs) / 1e9;
  const cut = (marks: Marks): Marks => marks.between(fromSec, untilNs / 1e9);
  const cutCurve = (marks: Marks): Curve => ({ marks: cut(marks), level: marks.levelAt(fromSec) });
  const cutWire = ({ packets, again, acks }: Stream): WireMarks => ({
    packets: cut(packets),
    again: cut(again),
    acks: cutCurve(acks),
  });
  return {
    sock,
    name,
    originSec,
    startSec,
    fromSec: window.since === null ? null : Math.max(fromSec, startSec),
    untilSec: window.until === null ? null : Math.min(untilNs / 1e9, endSec),
    written: cutCurve(written.sorted()),
    read: cutCurve(read.sorted()),
    out: cutWire(wire.out),
    in: cutWire(wire.in),
  };
}

/**
 * Of connections between the same ports, the last one that began before the socket's first call, on
 * the device that is nearest to the wire: its SYN leaves there last, or arrives there first.
 */
function wireOf(wires: readonly Wire[], firstSec: number, sock: number): Wire {
  const begun = wires.filter(({ startSec }) => startSec <= firstSec);
  const onDevice = new Map(begun.map((wire) => [wire.device, wire]));
  const [wire] = [...onDevice.values()].sort((a, b) =>
    a.isActive ? b.startSec - a.startSec : a.startSec - b.startSec,
  );
  if (wire === undefined) {
    throw new KQTimeError("E_SOCKET", "plot", `no packets of socket ${sock} are in the recording`);
  }
  if (begun.some((other) => other.addresses !== wire.addresses)) {
    const why = `several peers use the ports of socket ${sock}: its packets cannot be told apart`;
    throw new KQTimeError("E_SOCKET", "plot", why);
  }
  if (!wire.out.isAnchored || !wire.in.isAnchored) {
    const why = `the handshake of socket ${sock} is not in the recording, to count bytes from`;
    throw new KQTimeError("E_SOCKET", "plot", why);
  }
  return wire;
}

function noSuchSocket(folder: string, sock: number, { sockets }: Summary): KQTimeError {
  const named = sockets.slice(0, SOCKETS_NAMED).map((one) => `${one.sock} (${one.label})`);
  const more = sockets.length > SOCKETS_NAMED ? ", …" : "";
  const has =
    named.length === 0
      ? "it has none with bytes"
      : `those with most bytes: ${named.join(", ")}${more}`;
  return new KQTimeError("E_SOCKET", "plot", `${folder} has no socket ${sock} with bytes; ${has}`);
}
