// The join with its outputs: the one thing behind a live session and a replayed one. It is fed
// rounds of entries, records, packets and ticks; it gives the log, the books and the summary.

import { DirectionStats } from "../output/stats.ts";
import { formatBytes, formatTime } from "../output/units.ts";
import type { Log } from "../output/log.ts";
import { lossSentences } from "../output/losses.ts";
import { EVERY_LINE, type LineSelection, selectedLines } from "../output/selection.ts";
import { adviceOn, type Circumstances, type FilterKind } from "../output/advice.ts";
import { Reason, REASONS } from "../output/reasons.ts";
import { buildSummary, type Losses, type Summary } from "../output/summary.ts";
import type { StepsTold } from "../match/clock-steps.ts";
import { Engine } from "../match/engine.ts";
import { type IntervalBooks, Intervals } from "../match/intervals.ts";
import type { LabelMode } from "../match/label-modes.ts";
import { Labels } from "../match/labels.ts";
import type { CallSink } from "../match/merge.ts";
import type { OtherSockets } from "../match/other-sockets.ts";
import type { QueueSink } from "../match/queue-samples.ts";
import { Measurement, type Standing, standing } from "../match/measurement.ts";
import type { Rule } from "../match/rules.ts";

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
  /** All sockets are measured; else only those that programs register. */
  everything: boolean;
  /** Queue lengths are read, and go to the session's log. */
  queues: boolean;
  /** The capture's filter picks packets out of connections. */
  isPartial: boolean;
  /** What the filter may be to blame for; recordings of earlier versions do not tell. */
  filter?: FilterKind | undefined;
  /** The capture is of one interface. */
  isOneDevice?: boolean | undefined;
  /** How many sockets the summary lists one by one; recordings of earlier versions have none. */
  socketsListed?: number | undefined;
  /** Which calls have a line in the session's log; without it, in recordings of earlier versions: all. */
  lines?: LineSelection | null;
  /** How long an interval is, ns; 0: there are none. */
  intervalNs?: number;
  /** Tells this session from all others, in its logs; recordings of earlier versions have none. */
  session?: number;
}

/** Where the intervals go. */
export interface IntervalSink {
  write(summary: Summary): void;
  /** What a summary says besides the join, as it stands. */
  end(): JoinEnd;
}

/** Losses that version 4 of recordings does not tell of. */
type LaterLoss = "captureGaps" | "unheardProcesses";

/** What the summary says besides the join. */
export interface JoinEnd {
  endNs: number;
  exitCode: number | null;
  signal: string | null;
  pids: number[];
  /** Recordings of earlier versions do not have all. */
  losses: Omit<Losses, "badRecords" | "logLines" | LaterLoss> & { [loss in LaterLoss]?: number };
  badRecords: number;
  /** Calls that have no time, for their threads may not read the clock. */
  noClock?: number | undefined;
  /** Processes lived on: see `Collector.detach`. */
  isDetached: boolean;
  /** Of a replay: the recording ends before the session did. */
  isCut?: boolean | undefined;
  warnings: string[];
}

/** The outputs of a handle that a program opened. */
interface HandleOutput {
  readonly log: Log | null;
  readonly startNs: number;
}

/** How the log of a handle ended that was freed. */
export interface Freed {
  readonly linesLost: number;
  /** Why a write failed, in words; null if none has. */
  readonly failure: string | null;
  /** Of the whole session, by now. */
  readonly losses: Losses;
}

/** What a handle asks for. */
export interface HandleSetup {
  readonly handle: number;
  /** Lines of inbound, of outbound calls. */
  readonly in: boolean;
  readonly out: boolean;
  /** Lines of queue lengths. */
  readonly queues: boolean;
  /** When it was opened, ns relative to the base. */
  readonly startNs: number;
}

const UNREAD: QueueSink = { queues: () => {} };

export class Join {
  readonly engine: Engine;
  readonly #setup: JoinSetup;
  readonly #log: Log | null;
  /** Those that are open. */
  logs: readonly Log[] = [];
  readonly #everything: Measurement | null;
  readonly #handles = new Map<number, HandleOutput>();
  readonly #intervals: Intervals | null = null;
  readonly #intervalSink: IntervalSink | null;
  /** As of the end of the last interval. */
  #before: { losses: Losses; datagram: Summary["datagram"]; others: OtherSockets; warnings: ReadonlySet<string> } | null = null;
  /** How everything ended, if it has. */
  #ended: JoinEnd | null = null;

  constructor(setup: JoinSetup, log: Log | null, intervals: IntervalSink | null = null) {
    this.#setup = setup;
    this.#log = log;
    this.#intervalSink = intervals;
    if (log !== null) this.logs = [log];
    const lines = log === null ? null : selectedLines(log, setup.lines ?? EVERY_LINE);
    this.#everything = setup.everything
      ? new Measurement(new Labels(setup.label), lines, setup.label === "peer", setup.socketsListed)
      : null;
    if (this.#everything !== null && setup.intervalNs) {
      const onEnd = (books: IntervalBooks) => this.#intervalEnded(books);
      this.#intervals = new Intervals(this.#everything, setup.startNs, setup.intervalNs, onEnd);
      this.#everything.intervals = this.#intervals;
    }
    // Without a log they are read for a recording, whose replay may have one.
    if (this.#everything !== null && setup.queues) this.#everything.queues = log ?? UNREAD;
    this.engine = new Engine({
      baseSec: setup.baseSec,
      out: setup.direction !== "in",
      in: setup.direction !== "out",
      everything: this.#everything,
      isPartial: setup.isPartial,
    });
    const { engine } = this;
    engine.onTick = (capturedNs) => this.#intervals?.tick(capturedNs, engine.live);
  }

  /** Whether a tick up to `capturedNs` asks what all sockets do at the moment. */
  isIntervalDue(capturedNs: number): boolean {
    return this.#intervals?.isDue(capturedNs) === true;
  }

  /** A program opened a handle, with a log of its own or none. */
  open(setup: HandleSetup, log: Log | null): void {
    const sink = log === null ? null : linesOf(log, setup);
    this.engine.handles.open(setup.handle, sink, setup.queues ? log : null);
    this.#handles.set(setup.handle, { log, startNs: setup.startNs });
    if (log !== null) this.logs = [...this.logs, log];
  }

  /** Sockets with these addresses are measured for a handle from `askedNs` on, or no longer. */
  rule(handle: number, rule: Rule, remove: boolean, askedNs: number): void {
    if (remove) this.engine.handles.removeRule(handle, rule, askedNs);
    else this.engine.handles.addRule(handle, rule, askedNs);
  }

  /** The summary of a handle as it stands; null if there is none. */
  snapshot(handle: number, end: JoinEnd): Summary | null {
    const output = this.#handles.get(handle);
    const books = this.engine.handles.standing(handle);
    if (output === undefined || books === null) return null;
    // Lines that cannot be written are known for such then.
    output.log?.sync();
    return this.#summary(books, output.startNs, output.log, end);
  }

  /**
   * Ends a handle: its log gets its books, and is closed. Null if there is no such handle.
   * `end` is needed for a log alone.
   */
  free(handle: number, endNs: number, end: JoinEnd | null): Freed | null {
    const output = this.#handles.get(handle);
    const books = this.engine.handles.free(handle, endNs);
    this.#handles.delete(handle);
    if (output === undefined || books === null || end === null) return null;
    this.#close(output, books, endNs, end);
    const { log } = output;
    const failure = log?.failure ?? null;
    return { linesLost: log?.linesLost ?? 0, failure, losses: this.#losses(end, log) };
  }

  /** Settles every socket, writes the books to the logs, and builds the summary of everything. */
  finish(end: JoinEnd): Summary {
    this.engine.isDetached = end.isDetached;
    this.engine.finish();
    this.#ended = end;
    this.#intervals?.finish(end.endNs);
    for (const handle of [...this.#handles.keys()]) this.free(handle, end.endNs, end);
    const everything = this.#everything ?? new Measurement(new Labels("none"), null);
    const books = standing(everything, []);
    const { startNs } = this.#setup;
    this.#close({ log: this.#log, startNs }, books, end.endNs, end);
    return this.#summary(books, startNs, this.#log, end);
  }

  /** A summary of what was counted since the last one. */
  #intervalEnded({ startNs, endNs, labels, sockets }: IntervalBooks): void {
    const sink = this.#intervalSink;
    if (sink === null) return;
    const end = this.#ended ?? sink.end();
    const before = this.#before;
    const losses = this.#losses(end, this.#log);
    const datagram = { ...this.engine.datagram };
    const others = { ...this.engine.otherSockets };
    this.#before = { losses, datagram, others, warnings: new Set(end.warnings) };
    const lost = less(losses, before?.losses);
    const books = [...labels].map(([label, both]) => ({ label: label.text, ...both }));
    sink.write(
      buildSummary({
        ...this.#frame(end),
        startNs,
        endNs,
        labels: books,
        sockets: sockets.listed,
        socketsRest: sockets.rest,
        datagram: less(datagram, before?.datagram),
        otherSockets: less(others, before?.others),
        losses: lost,
        warnings: [
          ...end.warnings.filter((warning) => before?.warnings.has(warning) !== true),
          ...howClockWasSet(this.engine.clock.takeInterval(), this.#setup.baseSec),
          ...whatIsMissing(books, this.#circumstances(end, losses)),
          ...lossSentences(lost),
        ],
      }),
    );
  }

  #close({ log, startNs }: HandleOutput, { labels }: Standing, endNs: number, end: JoinEnd): void {
    if (log === null) return;
    for (const { encoded, out, in: inbound } of labels) {
      if (this.engine.out) log.books(0, startNs, endNs, out, encoded);
      if (this.engine.in) log.books(1, startNs, endNs, inbound, encoded);
    }
    log.losses(startNs, endNs, this.#setup.session ?? 0, this.#losses(end, log));
    log.close();
    this.logs = this.logs.filter((open) => open !== log);
  }

  #losses(end: JoinEnd, log: Log | null): Losses {
    const { badRecords, instances } = this.engine;
    return {
      captureGaps: 0,
      unheardProcesses: 0,
      ...end.losses,
      badRecords: end.badRecords + badRecords,
      badPackets: end.losses.badPackets + instances.badPackets,
      logLines: log?.linesMissing ?? 0,
    };
  }

  #summary(books: Standing, startNs: number, log: Log | null, end: JoinEnd): Summary {
    const { engine } = this;
    const { labels, sockets } = books;
    const warnings = [...end.warnings, ...books.notes];
    if (engine.interrupted > 0) {
      warnings.push(
        `${engine.interrupted} call${engine.interrupted === 1 ? " was" : "s were"} cut off by the ` +
          "end of its process; what the wire shows of it is booked to it",
      );
    }
    warnings.push(...howClockWasSet(engine.clock.told, this.#setup.baseSec));
    warnings.push(...engine.handles.notes(), ...whatIsOlder(engine));
    const losses = this.#losses(end, log);
    warnings.push(...whatIsMissing(labels, this.#circumstances(end, losses)));
    warnings.push(...lossSentences(losses));
    sockets.trim();
    return buildSummary({
      ...this.#frame(end),
      startNs,
      endNs: end.endNs,
      labels,
      sockets: sockets.listed,
      socketsRest: sockets.rest,
      datagram: engine.datagram,
      otherSockets: engine.otherSockets,
      losses,
      warnings,
    });
  }

  #circumstances({ noClock = 0, isCut = false }: JoinEnd, losses: Losses): Circumstances {
    const { filter, isOneDevice = false } = this.#setup;
    const { ringRecords: ringFull, memoryRecords: noMemory } = losses;
    return { filter, isOneDevice, isCut, ringFull, noMemory, noClock };
  }

  /** What all summaries have. */
  #frame({ exitCode, signal, pids }: JoinEnd) {
    const { version, command, direction, baseSec, socketsListed } = this.#setup;
    return { version, command, direction, exitCode, signal, pids, baseSec, socketsListed };
  }
}

/** Counters since an earlier state of them. */
function less<T extends object>(now: T, before: T | undefined): T {
  if (before === undefined) return now;
  const earlier = before as Record<string, number>;
  const counters = Object.entries(now as Record<string, number>);
  return Object.fromEntries(counters.map(([key, count]) => [key, count - earlier[key]!])) as T;
}

/** The kinds of lines that a handle asked for. */
function linesOf(log: Log, setup: HandleSetup): CallSink | null {
  if (setup.out && setup.in) return log;
  if (!setup.out && !setup.in) return null;
  const wanted = setup.out ? 0 : 1;
  return {
    call: (direction, ...rest) => {
      if (direction === wanted) log.call(direction, ...rest);
    },
    miss: (direction, ...rest) => {
      if (direction === wanted) log.miss(direction, ...rest);
    },
  };
}

/** One sentence for each time, the first ones: a daemon may set a clock that runs wrong for ever. */
function howClockWasSet({ count, first }: StepsTold, baseSec: number): string[] {
  const sentences = first.map(({ toNs, byNs }) => {
    const way = byNs < 0 ? "back" : "forward";
    const at = new Date(baseSec * 1000 + toNs / 1e6).toISOString();
    return `the clock was set ${way} by ${formatTime(Math.abs(byNs))} at ${at}: all times go on by the clock ` +
      "as it was at the start";
  });
  const more = count - sentences.length;
  if (more > 0) sentences.push(`the clock was set ${more} times more`);
  return sentences;
}

/** What became of sockets that are older than the capture; one sentence each. */
function whatIsOlder({ anchors, waiting }: Engine): string[] {
  const { contradicted, bytesDoubtful, partial } = anchors;
  const sockets = (count: number) => `${count} socket${count === 1 ? "" : "s"} older than the capture`;
  const warnings: string[] = [];
  if (contradicted > 0) {
    const doubtful = bytesDoubtful > 0
      ? `; the times of ${formatBytes(bytesDoubtful)} of theirs, matched before, may be wrong`
      : "";
    warnings.push(
      `${sockets(contradicted)} moved bytes in calls that nobody recorded, or in an order that cannot ` +
        `be: they are booked as no anchor from there on${doubtful}`,
    );
  }
  if (partial > 0) {
    warnings.push(
      `${sockets(partial)} cannot be measured, for the capture shows only some of their packets: use a ` +
        "--filter that selects whole connections, and an interface that all their packets pass",
    );
  }
  if (waiting.givenUp > 0) {
    const calls = `${waiting.givenUp} call${waiting.givenUp === 1 ? "" : "s"}`;
    warnings.push(`${calls} waited for an anchor until the memory for them was full: no anchor`);
  }
  return warnings;
}

/** What a reader of the figures must know first; one sentence each. */
function whatIsMissing(
  labels: Iterable<{ out: DirectionStats; in: DirectionStats }>, circumstances: Circumstances,
): string[] {
  const warnings: string[] = [];
  const out = new DirectionStats();
  const inbound = new DirectionStats();
  for (const label of labels) {
    out.merge(label.out);
    inbound.merge(label.in);
  }
  const unexplained = out.bytesUnexplained + inbound.bytesUnexplained;
  if (unexplained > 0) {
    warnings.push(
      `${formatBytes(unexplained)} passed over measured sockets in calls that a preload library ` +
        "cannot see (C stdio, io_uring, a program that it was not loaded into)",
    );
  }
  for (const [reason, name] of REASONS.entries()) {
    if (reason === Reason.closedUnsent) continue;
    const bytes = out.unmatched[reason]! + inbound.unmatched[reason]!;
    if (bytes > 0) warnings.push(`${formatBytes(bytes)} ${name}: ${adviceOn(reason, circumstances)}`);
  }
  return warnings;
}
