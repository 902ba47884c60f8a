// The summary of a run from its log. Where the log holds the run's own books (KQTIME-BOOKS), they
// are taken, and the report equals the summary; where it does not (a window, single sockets, a run
// that was killed), books are made from the lines of the calls. Of a log with several runs all are
// summed, each from what there is of it.

import { type Books, parseBooks } from "../output/books.ts";
import { Histogram } from "../output/histogram.ts";
import { OTHER_LABEL } from "../match/labels.ts";
import { DirectionStats } from "../output/stats.ts";
import { buildSummary, type Direction as Measured, type Summary } from "../output/summary.ts";
import { VERSION } from "../version.ts";
import { type CallAccounts, CallBooks } from "./call-books.ts";
import { callTimeNs, Grouper, type Grouping, groupName, GROUPS_MOST, OTHER_GROUPS } from "./groups.ts";
import { type LogLine, type LogVisitor } from "./log-line.ts";
import { LossCounts } from "./loss-counts.ts";
import { formatMoment } from "./moments.ts";
import { PendingCalls } from "./pending-calls.ts";
import type { Window } from "./window.ts";

export interface ReportOptions {
  readonly by: Grouping;
  readonly window: Window;
}

/** Of the bytes in all send or receive queues together, each time that they were looked at. */
export interface QueueLengths {
  readonly samples: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

export interface Report {
  readonly summary: Summary;
  /** What the report covers, as text with its zone. */
  readonly from: string;
  readonly to: string;
  readonly by: Grouping;
  /** `run`: the run's own books; `calls`: made from the lines of calls; `both` in one log. */
  readonly source: "run" | "calls" | "both";
  /** Sentences about what the figures are and are not. */
  readonly notes: string[];
  readonly queues: { readonly out: QueueLengths; readonly in: QueueLengths };
  /** Whether the log tells what was lost; if not, `summary.losses` says nothing. */
  readonly lossesKnown: boolean;
  /** Whether there was anything in the log, within the window. */
  readonly empty: boolean;
}

const MADE_FROM_CALLS =
  "made from the lines of calls: of the bytes of a call those between the first and the last are " +
  "taken to lie evenly between them, so that figures by byte are wrong where a connection stalled " +
  "within a call (a lost packet inbound, a closed window outbound); what was in flight, unread, " +
  "unexplained or retransmitted, and the wait for missing bytes, are not in them";

/** A run whose books are being read. */
interface BookedRun {
  /** Its calls, as its lines tell them. */
  readonly accounts: readonly CallAccounts[];
  /** Groups that have come, times two and the direction. */
  readonly booked: Set<number>;
  /** There are books that stand for many labels: which ones, they do not say. */
  isSummed: boolean;
}

/** Runs that write their books at the same time. */
const BOOKED_MOST = 4;
const SIDES = [[0, "out"], [1, "in"]] as const;
const PIDS_MOST = 10000;
/** As of all times in a log (log-pairs.ts). */
const SECONDS_LIMIT = 2 ** 33;

export class ReportBuilder implements LogVisitor {
  readonly #options: ReportOptions;
  readonly #grouper: Grouper;
  /** Finished: books of the groups, from runs' own books and from calls. */
  readonly #done: CallBooks[] = [];
  readonly #pending = new PendingCalls();
  /** By start and end of the run. */
  readonly #booked = new Map<string, BookedRun>();
  readonly #losses = new LossCounts();
  readonly #queues = [new Histogram(), new Histogram()];
  readonly #pids = new Set<number>();
  #pid = Number.NaN;
  #fromRuns = 0;
  #fromCalls = 0;
  #unended = false;
  #mixed = false;
  #foreign = false;
  #measured = new Set<number>();
  #baseSec = 0;
  #begun = false;
  #firstNs = Number.POSITIVE_INFINITY;
  #lastNs = Number.NEGATIVE_INFINITY;

  constructor(options: ReportOptions) {
    this.#options = options;
    this.#grouper = new Grouper(options.by);
  }

  call(line: LogLine): void {
    if (this.#within(line, callTimeNs(line))) this.#count(line).call(line, this.#grouper.of(line));
  }

  miss(line: LogLine): void {
    if (this.#within(line, line.startNs)) this.#count(line).miss(line, this.#grouper.of(line));
  }

  queues(line: LogLine): void {
    if (!this.#within(line, line.startNs)) return;
    if (line.sndLen >= 0) this.#queues[0]!.record(line.sndLen, 1);
    if (line.rcvLen >= 0) this.#queues[1]!.record(line.rcvLen, 1);
  }

  socketQueues(): void {}

  text(kind: "books" | "loss", text: string, line: LogLine): boolean {
    if (kind === "loss") return this.#loss(text);
    let books: Books | null;
    try {
      books = parseBooks(text);
    } catch {
      return false;
    }
    if (books === null) return false;
    const baseSec = this.#begun ? this.#baseSec : line.baseSec;
    const startNs = timeNs(books.start, baseSec);
    const endNs = timeNs(books.end, baseSec);
    if (!(startNs <= endNs)) return false;
    this.#begin(baseSec);
    this.#measured.add(books.direction);
    const run = this.#runOf(startNs, endNs);
    if (!this.#takesBooks) return true;
    const { direction, label, stats } = books;
    const group = this.#grouper.named(groupName(this.#options.by, label));
    const sum = this.#group(group);
    (direction === 0 ? sum.out : sum.in).merge(stats);
    run.booked.add(group * 2 + direction);
    if (label === OTHER_LABEL) run.isSummed = true;
    return true;
  }

  /** Call once, after the last line. */
  finish(): Report {
    for (const key of [...this.#booked.keys()]) this.#close(key, false);
    for (const account of this.#pending.takeAll()) {
      if (!account.foreign) this.#unended = true;
      this.#addCalls(account);
    }
    const { by } = this.#options;
    const whole = this.#firstNs <= this.#lastNs;
    const startNs = whole ? this.#firstNs : 0;
    const endNs = whole ? this.#lastNs : 0;
    for (const { out, in: inbound } of this.#done) {
      // In books it is told from the end of the run: that it waited so long is so at the log's end too.
      out.waitingSinceNs += endNs;
      inbound.waitingSinceNs += endNs;
    }
    const summary = buildSummary({
      version: VERSION,
      command: [],
      exitCode: null,
      signal: null,
      pids: [...this.#pids].sort((a, b) => a - b),
      direction: this.#direction(),
      baseSec: this.#baseSec,
      startNs,
      endNs,
      labels: this.#done.map((books, group) => ({ label: this.#grouper.names[group]!, ...books })),
      sockets: [],
      socketsRest: { count: 0, out: new DirectionStats(), in: new DirectionStats() },
      datagram: { sockets: 0, calls: 0, bytes: 0 },
      losses: this.#losses.sums,
      warnings: [],
    });
    return {
      summary,
      from: formatMoment(this.#baseSec, startNs),
      to: formatMoment(this.#baseSec, endNs),
      by,
      source: this.#fromCalls === 0 ? "run" : this.#fromRuns === 0 ? "calls" : "both",
      notes: this.#notes(),
      queues: { out: lengths(this.#queues[0]!), in: lengths(this.#queues[1]!) },
      lossesKnown: this.#losses.isKnown,
      empty: !whole,
    };
  }

  #begin(baseSec: number): void {
    this.#begun = true;
    this.#baseSec = baseSec;
  }

  #within(line: LogLine, atNs: number): boolean {
    if (!this.#begun) this.#begin(line.baseSec);
    return this.#options.window.holds(line, atNs);
  }

  #count({ pid }: LogLine): PendingCalls {
    if (pid !== this.#pid) {
      this.#pid = pid;
      if (pid >= 0 && this.#pids.size < PIDS_MOST) this.#pids.add(pid);
    }
    return this.#pending;
  }

  /** Whether runs' own books are what is asked for. */
  get #takesBooks(): boolean {
    return this.#options.window.whole && this.#options.by !== "socket";
  }

  #runOf(startNs: number, endNs: number): BookedRun {
    const key = `${startNs} ${endNs}`;
    const found = this.#booked.get(key);
    if (found !== undefined) return found;
    if (this.#booked.size >= BOOKED_MOST) this.#close(this.#booked.keys().next().value!, false);
    this.#grouper.run++;
    if (this.#pending.isMixed(startNs)) this.#mixed = true;
    const accounts = this.#pending.takeWithin(startNs, endNs);
    const run = { accounts, booked: new Set<number>(), isSummed: false };
    this.#booked.set(key, run);
    if (this.#takesBooks) {
      this.#cover(startNs, endNs);
      this.#fromRuns++;
    }
    return run;
  }

  /** Settles the calls of a run: they are in its books, unless some of these did not come. */
  #close(key: string, isComplete: boolean): void {
    const run = this.#booked.get(key);
    if (run === undefined) return;
    this.#booked.delete(key);
    for (const account of run.accounts) {
      if (!this.#takesBooks) this.#addCalls(account);
      else if (isComplete || run.isSummed) account.release();
      else if (this.#addCalls(account, run.booked)) this.#unended = true;
    }
  }

  /** Sums an account, but for the groups and directions that are booked. False: all are. */
  #addCalls(account: CallAccounts, booked?: ReadonlySet<number>): boolean {
    account.release();
    let isAdded = false;
    account.groups.forEach((calls, group) => {
      if (calls === undefined) return;
      for (const [direction, side] of SIDES) {
        if (calls[side].calls === 0 || booked?.has(group * 2 + direction) === true) continue;
        this.#group(group)[side].merge(calls[side]);
        isAdded = true;
      }
    });
    if (!isAdded) return false;
    this.#cover(account.firstNs, account.lastNs);
    this.#fromCalls++;
    if (account.foreign) this.#foreign = true;
    return true;
  }

  #group(group: number): CallBooks {
    while (this.#done.length <= group) this.#done.push(new CallBooks());
    return this.#done[group]!;
  }

  #cover(startNs: number, endNs: number): void {
    this.#firstNs = Math.min(this.#firstNs, startNs);
    this.#lastNs = Math.max(this.#lastNs, endNs);
  }

  #direction(): Measured {
    if (this.#fromRuns === 0 || this.#fromCalls > 0 || this.#measured.size !== 1) return "both";
    return this.#measured.has(0) ? "out" : "in";
  }

  /** The last line of a run: its books are complete. */
  #loss(text: string): boolean {
    const losses = this.#losses;
    if (!losses.add(text)) return false;
    const [startNs, endNs] = [losses.start, losses.end].map((time) => timeNs(time, this.#baseSec));
    this.#close(`${startNs} ${endNs}`, true);
    return true;
  }

  #notes(): string[] {
    const notes: string[] = [];
    if (this.#fromCalls > 0) notes.push(MADE_FROM_CALLS);
    if (this.#foreign) {
      notes.push("of libkqtime's logs and of parsed data only the calls and their times are known");
    }
    if (this.#unended) {
      notes.push(
        "the log holds calls of a run that wrote no books: its kqtime was killed, its disk was full, " +
          "it goes on, or its log does in another file",
      );
    }
    if (this.#mixed) {
      notes.push(
        "runs without books of their own and others are of more processes than are told apart here: " +
          "some calls may be counted twice",
      );
    }
    if (!this.#losses.isKnown) {
      notes.push("the log does not tell what was lost on the way: the summary of the run does");
    }
    if (this.#grouper.merged || this.#grouper.names.includes(OTHER_GROUPS)) {
      const rest = `the later ones are summed as ${OTHER_GROUPS}`;
      notes.push(`there are more than ${GROUPS_MOST} groups: ${rest}`);
    }
    return notes;
  }
}

/** Unix seconds with decimals, relative to the base; NaN if they are none. */
function timeNs(text: string, baseSec: number): number {
  const [sec = "", fraction = ""] = text.split(".");
  const isMoment = /^\d+$/.test(sec) && Number(sec) < SECONDS_LIMIT;
  return isMoment ? (Number(sec) - baseSec) * 1e9 + Number(fraction.slice(0, 9).padEnd(9, "0")) : Number.NaN;
}

function lengths(histogram: Histogram): QueueLengths {
  return {
    samples: histogram.count,
    p50: histogram.quantile(0.5),
    p90: histogram.quantile(0.9),
    p99: histogram.quantile(0.99),
    max: histogram.max,
  };
}
