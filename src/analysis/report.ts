// The summary of a run from its log. Where the log holds the run's own books (KQTIME-BOOKS), they
// are taken, and the report equals the summary; where it does not (a window, single sockets, a run
// that was killed), books are made from the lines of the calls.

import { type Books, parseBooks } from "../output/books.ts";
import { Histogram } from "../output/histogram.ts";
import { DirectionStats } from "../output/stats.ts";
import {
  buildSummary,
  type Direction as Measured,
  type Losses,
  type Summary,
} from "../output/summary.ts";
import { VERSION } from "../version.ts";
import { CallAccounts, CallBooks } from "./call-books.ts";
import { callTimeNs, Grouper, type Grouping, groupName, GROUPS_MOST, OTHER_GROUPS } from "./groups.ts";
import { type LogLine, type LogVisitor } from "./log-line.ts";
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

export class ReportBuilder implements LogVisitor {
  readonly #options: ReportOptions;
  readonly #grouper: Grouper;
  /** Finished: books of the groups, from runs' own books and from calls. */
  readonly #done: CallBooks[] = [];
  /** Calls since the last books. */
  #pending = new CallAccounts();
  /** The books at the end of a run, as they come, until the next line of a call. */
  #books: Books[] = [];
  readonly #losses = new Map<string, number>();
  readonly #queues = [new Histogram(), new Histogram()];
  readonly #pids = new Set<number>();
  #fromRuns = 0;
  #fromCalls = 0;
  #unended = 0;
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
    if (this.#within(line, callTimeNs(line))) this.#pending.call(line, this.#grouper.of(line));
  }

  miss(line: LogLine): void {
    if (this.#within(line, line.startNs)) this.#pending.miss(line, this.#grouper.of(line));
  }

  queues(line: LogLine): void {
    if (!this.#within(line, line.startNs)) return;
    if (line.sndLen >= 0) this.#queues[0]!.record(line.sndLen, 1);
    if (line.rcvLen >= 0) this.#queues[1]!.record(line.rcvLen, 1);
  }

  socketQueues(): void {}

  text(kind: "books" | "loss", text: string): boolean {
    if (kind === "loss") return this.#loss(text);
    let books: Books | null;
    try {
      books = parseBooks(text);
    } catch {
      return false;
    }
    if (books === null) return false;
    this.#measured.add(books.direction);
    if (!this.#begun) this.#begin(Number(books.start.split(".")[0]));
    this.#books.push(books);
    return true;
  }

  /** Call once, after the last line. */
  finish(): Report {
    this.#endOfRun();
    const { by } = this.#options;
    const whole = this.#firstNs <= this.#lastNs;
    const startNs = whole ? this.#firstNs : 0;
    const endNs = whole ? this.#lastNs : 0;
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
      losses: this.#lossesFound(),
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
      lossesKnown: this.#losses.size > 0,
      empty: !whole,
    };
  }

  #begin(baseSec: number): void {
    this.#begun = true;
    this.#baseSec = baseSec;
  }

  #within(line: LogLine, timeNs: number): boolean {
    if (!this.#begun) this.#begin(line.baseSec);
    if (this.#books.length > 0) this.#endOfRun();
    return this.#options.window.holds(line, timeNs);
  }

  /** Settles what came since the last run's end. */
  #endOfRun(): void {
    const pending = this.#pending;
    const books = this.#books;
    this.#pending = new CallAccounts();
    this.#books = [];
    this.#grouper.run++;
    for (const pid of pending.pids) this.#pids.add(pid);
    let startNs = Number.POSITIVE_INFINITY;
    let endNs = Number.NEGATIVE_INFINITY;
    for (const { start, end } of books) {
      startNs = Math.min(startNs, this.#timeNs(start));
      endNs = Math.max(endNs, this.#timeNs(end));
    }
    // Calls that ended before the run began are another one's, which left no books.
    const whole = books.length > 0 && !(pending.leastEndNs < startNs);
    if (whole && this.#options.window.whole && this.#options.by !== "socket") {
      for (const { direction, label, stats } of books) {
        const group = this.#grouper.named(groupName(this.#options.by, label));
        const sum = this.#group(group);
        (direction === 0 ? sum.out : sum.in).merge(stats);
      }
      this.#cover(startNs, endNs);
      this.#fromRuns++;
      return;
    }
    if (pending.calls === 0) return;
    pending.groups.forEach((calls, group) => {
      const sum = this.#group(group);
      sum.out.merge(calls.out);
      sum.in.merge(calls.in);
    });
    this.#cover(pending.firstNs, pending.lastNs);
    this.#fromCalls++;
    if (pending.foreign) this.#foreign = true;
    else if (!whole) this.#unended++;
  }

  #group(group: number): CallBooks {
    while (this.#done.length <= group) this.#done.push(new CallBooks());
    return this.#done[group]!;
  }

  #cover(startNs: number, endNs: number): void {
    this.#firstNs = Math.min(this.#firstNs, startNs);
    this.#lastNs = Math.max(this.#lastNs, endNs);
  }

  /** Unix seconds with decimals, relative to the base. */
  #timeNs(text: string): number {
    const [sec = "0", fraction = ""] = text.split(".");
    return (Number(sec) - this.#baseSec) * 1e9 + Number(fraction.slice(0, 9).padEnd(9, "0"));
  }

  #direction(): Measured {
    if (this.#fromRuns === 0 || this.#fromCalls > 0 || this.#measured.size !== 1) return "both";
    return this.#measured.has(0) ? "out" : "in";
  }

  /** `KQTIME-LOSS;start=…,end=…,key=N,…;`: what was lost up to there, summed over the log. */
  #loss(text: string): boolean {
    const pairs = text.split(";")[1];
    if (pairs === undefined) return false;
    const counts = new Map<string, number>();
    for (const pair of pairs.split(",")) {
      const [, key, number] = pair.match(/^(\w+)=(-?\d+(?:\.\d+)?)$/) ?? [];
      if (key === undefined) return false;
      if (key === "start" || key === "end") continue;
      const count = Number(number);
      if (!Number.isSafeInteger(count) || count < 0) return false;
      counts.set(key, count);
    }
    for (const [key, count] of counts) this.#losses.set(key, (this.#losses.get(key) ?? 0) + count);
    return true;
  }

  #lossesFound(): Losses {
    const of = (key: keyof Losses): number => this.#losses.get(key) ?? 0;
    return {
      ringRecords: of("ringRecords"),
      capturePackets: of("capturePackets"),
      interfacePackets: of("interfacePackets"),
      badRecords: of("badRecords"),
      badPackets: of("badPackets"),
      logLines: of("logLines"),
      memoryRecords: of("memoryRecords"),
      tableSockets: of("tableSockets"),
      descriptorSockets: of("descriptorSockets"),
      addressSockets: of("addressSockets"),
      staleCalls: of("staleCalls"),
      inheritedRings: of("inheritedRings"),
      fragments: of("fragments"),
    };
  }

  #notes(): string[] {
    const notes: string[] = [];
    if (this.#fromCalls > 0) notes.push(MADE_FROM_CALLS);
    if (this.#foreign) {
      notes.push("of libkqtime's logs and of parsed data only the calls and their times are known");
    }
    if (this.#unended > 0) {
      notes.push(
        "the log holds calls of a run that wrote no books: its kqtime was killed, its disk was full, " +
          "it goes on, or its log does in another file",
      );
    }
    if (this.#losses.size === 0) {
      notes.push("the log does not tell what was lost on the way: the summary of the run does");
    }
    if (this.#grouper.merged || this.#grouper.names.includes(OTHER_GROUPS)) {
      const rest = `the later ones are summed as ${OTHER_GROUPS}`;
      notes.push(`there are more than ${GROUPS_MOST} groups: ${rest}`);
    }
    return notes;
  }
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
