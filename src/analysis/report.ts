// The summary of a run from its log. Where the log holds the run's own books (KQTIME-BOOKS), they
// are taken, and the report equals the summary; where it does not (a window, single sockets, a run
// that was killed), books are made from the lines of the calls. Of a log with several runs all are
// summed, each from what there is of it.

import { type Books, parseBooks } from "../output/books.ts";
import { Histogram } from "../output/histogram.ts";
import { OTHER_LABEL } from "../match/labels.ts";
import { DirectionStats } from "../output/stats.ts";
import { buildSummary, type Direction as Measured, type Summary } from "../output/summary.ts";
import { formatExact } from "../output/units.ts";
import { VERSION } from "../version.ts";
import { type CallAccounts, CallBooks } from "./call-books.ts";
import { type Epoch, Epochs } from "./epochs.ts";
import { callTimeNs, Grouper, type Grouping, groupName, GROUPS_MOST, OTHER_GROUPS } from "./groups.ts";
import type { LogLine, LogVisitor, TextKind } from "./log-line.ts";
import { LossCounts } from "./loss-counts.ts";
import { formatMoment } from "./moments.ts";
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
  /** Its calls, as its lines tell them. Null: these count, and the books do not. */
  readonly accounts: readonly CallAccounts[] | null;
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
  readonly #epochs = new Epochs((epoch) => this.#unbooked(epoch));
  /** By start and end of the run. */
  readonly #booked = new Map<string, BookedRun>();
  readonly #losses = new LossCounts();
  readonly #queues = [new Histogram(), new Histogram()];
  readonly #pids = new Set<number>();
  #pid = Number.NaN;
  #fromRuns = 0;
  #fromCalls = 0;
  #belowZero = 0;
  #unended = false;
  #shared = false;
  #cut = false;
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
    if (!this.#within(line, callTimeNs(line))) return;
    // libkqtime's logs have some.
    if (line.waitNs < 0) this.#belowZero++;
    else this.#accountOf(line).call(line, this.#grouper.of(line));
  }

  miss(line: LogLine): void {
    if (this.#within(line, line.startNs)) this.#accountOf(line).miss(line, this.#grouper.of(line));
  }

  queues(line: LogLine): void {
    if (!this.#within(line, line.startNs)) return;
    if (line.sndLen >= 0) this.#queues[0]!.record(line.sndLen, 1);
    if (line.rcvLen >= 0) this.#queues[1]!.record(line.rcvLen, 1);
  }

  socketQueues(): void {}

  nextLog(): void {
    this.#epochs.nextLog();
  }

  text(kind: TextKind, text: string, line: LogLine): boolean {
    if (kind === "meta") return this.#meta(text, line);
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
    if (run.accounts === null) return true;
    const { direction, label, stats } = books;
    const group = this.#grouper.named(groupName(this.#options.by, label));
    const sum = this.#group(group);
    (direction === 0 ? sum.out : sum.in).merge(stats);
    run.booked.add(group * 2 + direction);
    if (label === OTHER_LABEL || this.#grouper.names[group] === OTHER_GROUPS) run.isSummed = true;
    return true;
  }

  /** Call once, after the last line. */
  finish(): Report {
    for (const key of [...this.#booked.keys()]) this.#close(key, false);
    this.#epochs.finish();
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

  #accountOf(line: LogLine): CallAccounts {
    const { pid } = line;
    if (pid !== this.#pid) {
      this.#pid = pid;
      if (pid >= 0 && this.#pids.size < PIDS_MOST) this.#pids.add(pid);
    }
    const epoch = this.#epochs.of(line);
    this.#grouper.run = epoch.number;
    return epoch.account;
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
    const accounts = this.#takesBooks ? this.#epochs.settle(startNs) : null;
    const run: BookedRun = { accounts, booked: new Set(), isSummed: false };
    this.#booked.set(key, run);
    if (accounts !== null) {
      this.#cover(startNs, endNs);
      this.#fromRuns++;
      return run;
    }
    const epoch = this.#epochs.take(startNs);
    if (epoch !== null && this.#takesBooks) this.#unbooked(epoch);
    else if (epoch !== null) this.#addCalls(epoch.account);
    return run;
  }

  /** Settles the calls of a run: they are in its books, unless some of these did not come. */
  #close(key: string, isComplete: boolean): void {
    const run = this.#booked.get(key);
    this.#booked.delete(key);
    if (run === undefined || run.accounts === null) return;
    const { accounts, booked, isSummed } = run;
    if (!isComplete && isSummed) this.#cut = true;
    for (const account of accounts) {
      if (isComplete || isSummed) {
        account.release();
      } else if (this.#addCalls(account, booked)) {
        this.#unended = true;
        if (accounts.length > 1) this.#shared = true;
      }
    }
  }

  /** Counts the calls of an epoch whose run wrote no books, or none that tell its calls from others. */
  #unbooked({ account, hasCalls, isShared }: Epoch): void {
    if (!account.foreign && (hasCalls || isShared)) this.#unended = true;
    if (isShared) this.#shared = true;
    this.#addCalls(account);
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

  /** The first line of a run. */
  #meta(text: string, line: LogLine): boolean {
    const baseSec = this.#begun ? this.#baseSec : line.baseSec;
    const startNs = timeNs(text.match(/\bstart=([\d.]+)/)?.[1] ?? "", baseSec);
    if (Number.isNaN(startNs)) return false;
    this.#begin(baseSec);
    this.#epochs.begin(startNs);
    return true;
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
    if (this.#belowZero > 0) {
      const calls = this.#belowZero === 1 ? "1 call is" : `${formatExact(this.#belowZero)} calls are`;
      notes.push(`${calls} left out: their time is below zero`);
    }
    if (this.#unended) {
      notes.push(
        "the log holds calls of a run that wrote no books: its kqtime was killed, its disk was full, " +
          "it goes on, or its log does in another file",
      );
    }
    if (this.#shared || this.#epochs.isDoubtful) {
      notes.push(
        "a run wrote no books, or not all of them, and another one wrote to the same log: if both ran " +
          "at the same time, some calls of that time may be missing, or counted twice",
      );
    }
    if (this.#cut) {
      notes.push(
        "books of a run were cut off, and others sum many labels: calls of some labels may be missing",
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
