// Reports from logs: equal to the summary where the log has its books, from the calls where not.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Grouper, type Grouping, GROUPS_MOST } from "../../src/analysis/groups.ts";
import { readLogs } from "../../src/analysis/log-reader.ts";
import { formatMoment, parseDurationNs, parseMoment } from "../../src/analysis/moments.ts";
import { type Report, ReportBuilder } from "../../src/analysis/report.ts";
import { csvField, reportCsv } from "../../src/analysis/report-csv.ts";
import { Window } from "../../src/analysis/window.ts";
import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";
import { Reason } from "../../src/output/reasons.ts";
import { EVERY_LINE, writeMeta } from "../../src/output/selection.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { buildSummary, type Summary } from "../../src/output/summary.ts";
import { summaryInput } from "../output/summary-input.ts";
import { BUN, ROOT } from "../lib/kqtime.ts";
import { peakOf } from "../lib/peak.ts";
import { Scope } from "../lib/process.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";
import { random } from "../lib/synthetic-log.ts";

const BASE = 1700000000;
let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

function moment(text: string) {
  const found = parseMoment(text);
  if (found === null) throw new Error(text);
  return found;
}

function report(path: string, by: Grouping = "label", since?: string, until?: string): Report {
  const window = new Window(since ? moment(since) : null, until ? moment(until) : null);
  const builder = new ReportBuilder({ by, window });
  readLogs([path], builder);
  return builder.finish();
}

interface Run {
  startNs: number;
  seconds: number;
  seed: number;
  /** Ended as it should: with books. */
  books: boolean;
}

const NAMES = ["out:443", "relay-1", ""];

/** A log of runs, one after another; returns the summaries that they printed. */
function writeRuns(path: string, runs: readonly Run[]): Summary[] {
  return runs.map(({ startNs, seconds, seed, books }) => {
    const head = writeMeta(EVERY_LINE, startNs, BASE);
    const log = Log.open(path, { baseSec: BASE, onError: (message) => expect(message).toBe(""), head });
    const next = random(seed);
    const labels = NAMES.map((label) => ({ label, out: new DirectionStats(), in: new DirectionStats() }));
    const seen = new Set<string>();
    for (let i = 0; i < seconds * 100; i++) {
      const at = startNs + i * 1e7;
      const which = next() % 3;
      const name = encodeName(NAMES[which]!);
      const direction = (next() % 2) as 0 | 1;
      const stats = direction === 0 ? labels[which]!.out : labels[which]!.in;
      const waitNs = 1000 + (next() % 1e8);
      const bytes = 1 + (next() % 5000);
      const sock = which + 1;
      if (!seen.has(`${sock} ${direction}`)) stats.sockets++;
      seen.add(`${sock} ${direction}`);
      stats.calls++;
      stats.bytesCalled += bytes;
      const endNs = at + waitNs;
      const callNs = direction === 0 ? at : endNs;
      if (next() % 10 === 0) {
        log.miss(direction, callNs, callNs, bytes, 0, 77, 5, sock, 4000 + sock, 443, Reason.nat, name);
        stats.unmatched[Reason.nat]! += bytes;
        if (next() % 2 === 0) continue;
        stats.bytesCalled += bytes;
      }
      stats.bytesMatched += bytes;
      stats.callNs.record(waitNs, 1);
      stats.byteNs.record(waitNs, bytes);
      const firstNs = direction === 0 ? endNs : at;
      log.call(direction, at, endNs, firstNs, at, bytes, 0, 77, 5, sock, 4000 + sock, 443, name);
    }
    // What no line of a call tells.
    labels[0]!.out.bytesInFlight = 5;
    labels[0]!.out.bytesCalled += 5;
    labels[0]!.in.bytesUnread = 6;
    labels[0]!.out.bytesRetransmitted = 7;
    labels[0]!.in.reassemblyNs.record(5000, 3);
    const endNs = startNs + seconds * 1e9;
    for (const { label, out, in: inbound } of books ? labels : []) {
      log.books(0, startNs, endNs, out, encodeName(label));
      log.books(1, startNs, endNs, inbound, encodeName(label));
    }
    log.close();
    return buildSummary(summaryInput({ labels, baseSec: BASE, startNs, endNs, pids: [77] }));
  });
}

test("with the run's books the report is the run's summary", () => {
  const path = scope.path("run.log.gz");
  const [run] = writeRuns(path, [{ startNs: 5e8, seconds: 5, seed: 1, books: true }]);
  const { summary, source, notes } = report(path);
  expect(summary.directions).toEqual(run!.directions);
  expect(summary.labels).toEqual(run!.labels);
  expect(summary.target.pids).toEqual(run!.target.pids);
  expect([summary.startUnixNs, summary.durationNs]).toEqual([run!.startUnixNs, run!.durationNs]);
  expect(source).toBe("run");
  expect(notes.join()).not.toContain("made from the lines");
});

test("without them it is made from the calls: the same calls, bytes and times by call", () => {
  const path = scope.path("killed.log");
  const [run] = writeRuns(path, [{ startNs: 0, seconds: 5, seed: 2, books: false }]);
  const { summary, source, notes } = report(path);
  expect(source).toBe("calls");
  expect(notes.join()).toMatch(/made from the lines of calls.*a run that wrote no books/);
  expect(summary.booksBalance).toBe(true);
  for (const direction of ["out", "in"] as const) {
    const [made, printed] = [summary.directions[direction], run!.directions[direction]];
    for (const key of ["sockets", "calls", "bytesMatched", "bytesUnmatched", "callNs", "byteNs"] as const) {
      expect([direction, key, made[key]]).toEqual([direction, key, printed[key]]);
    }
  }
});

test("runs in one log are summed, also where one was killed in between", () => {
  const path = scope.path("runs.log");
  const runs = writeRuns(path, [
    { startNs: 0, seconds: 2, seed: 3, books: true },
    { startNs: 10e9, seconds: 2, seed: 4, books: false },
    { startNs: 20e9, seconds: 2, seed: 5, books: true },
    { startNs: 30e9, seconds: 2, seed: 6, books: false },
  ]);
  const { summary, source } = report(path);
  expect(source).toBe("both");
  for (const direction of ["out", "in"] as const) {
    const sum = (of: (summary: Summary) => number) => runs.reduce((total, run) => total + of(run), 0);
    const made = summary.directions[direction];
    expect(made.calls).toBe(sum((run) => run.directions[direction].calls));
    expect(made.bytesMatched).toBe(sum((run) => run.directions[direction].bytesMatched));
  }
  // What no line of a call tells is there from both runs that wrote books.
  expect(summary.directions.out.bytesInFlight).toBe(10);
  expect(summary.directions.in.bytesUnread).toBe(12);
});

/** A line of a call that took a ms, at `atMs` of the log. */
function callLine(atMs: number, pid: number, off: number, name = "a"): string {
  return `KQTIME-OUT;${times(atMs, atMs + 1)},fd=3,bytes=10,off=${off},pid=${pid},sock=1,lport=1,rport=2;${name};\n`;
}

/** Books of one label: of so many calls of 10 bytes, with 7 more in flight. */
function booksLine(fromMs: number, toMs: number, calls: number, name = "a"): string {
  const sums = `sockets=1,calls=${calls},called=${calls * 10 + 7},matched=${calls * 10},inflight=7`;
  return `KQTIME-BOOKS;${times(fromMs, toMs)},dir=0,${sums},oldest=5000;${name};\n`;
}

function lossLine(fromMs: number, toMs: number): string {
  return `KQTIME-LOSS;${times(fromMs, toMs)},ringRecords=1;NULL;\n`;
}

function times(fromMs: number, toMs: number): string {
  const [start, end] = [fromMs, toMs].map((ms) => `${BASE + Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, "0")}`);
  return `start=${start},end=${end}`;
}

/** Lines of `count` calls, one each 10 ms. */
function callLines(fromMs: number, count: number, pid: number, name?: string): string {
  return Array.from({ length: count }, (_, i) => callLine(fromMs + i * 10, pid, i * 10, name)).join("");
}

function totals(text: string): [number, number, string] {
  const path = scope.path(`totals-${Bun.hash(text)}.log`);
  writeFileSync(path, text);
  const { summary, source, notes } = report(path);
  const { calls, bytesInFlight } = summary.directions.out;
  doubt = notes.join().includes("some calls of that time may be missing, or counted twice");
  return [calls, bytesInFlight, source];
}

/** Of the last `totals`: whether a note says that they may be wrong. */
let doubt = false;

test("without KQTIME-META too every call counts once, whatever stands before a run's books", () => {
  const run = (fromMs: number, pid: number) =>
    callLines(fromMs + 5, 20, pid) + booksLine(fromMs, fromMs + 300, 20) + lossLine(fromMs, fromMs + 300);
  const killed = callLines(5, 20, 7);
  // One after another, also far apart, and where the first wrote none of its calls.
  expect(totals(run(0, 7) + run(400, 7))).toEqual([40, 14, "run"]);
  expect(totals(run(0, 7) + run(3e10, 7))).toEqual([40, 14, "run"]);
  expect(totals(booksLine(0, 300, 20) + lossLine(0, 300) + run(3_600_000, 7))).toEqual([40, 14, "run"]);
  expect(totals(booksLine(0, 300, 20) + run(3_600_000, 7))).toEqual([40, 14, "run"]);
  // Behind one that was killed: which calls are whose cannot be told, and their lines count.
  expect(totals(killed + run(400, 8))).toEqual([40, 0, "calls"]);
  expect(totals(killed + run(400, 7))).toEqual([40, 0, "calls"]);
  expect(totals(killed.slice(0, -30) + run(400, 7))).toEqual([39, 0, "calls"]);
  expect(totals(killed + run(400, 7) + run(800, 7))).toEqual([60, 7, "both"]);
  expect(totals(run(0, 7) + callLines(405, 20, 7) + run(800, 7))).toEqual([60, 7, "both"]);
  expect(totals(run(0, 7) + callLines(405, 20, 7))).toEqual([40, 7, "both"]);
  // A call without a time may be older than the run that knows of it.
  const older = `KQTIME-MISS;${times(100, 100)},fd=3,bytes=9,off=0,pid=7,sock=1,lport=1,rport=2,dir=0,reason=3;a;\n`;
  expect(totals(older + run(400, 7))).toEqual([20, 7, "run"]);
  expect(doubt).toBe(false);
  // Two at once into one log: which calls are whose cannot be told, and a note says it.
  const first = callLines(5, 60, 7).split(/(?<=\n)/);
  const second = callLines(105, 20, 8).split(/(?<=\n)/);
  const mixed = first.slice(0, 40).map((line, i) => line + (second[i] ?? "")).join("");
  const rest = first.slice(40).join("");
  const booksOfSecond = booksLine(100, 400, 20) + lossLine(100, 400);
  const booksOfFirst = booksLine(0, 700, 60) + lossLine(0, 700);
  expect(totals(mixed + booksOfSecond + rest + booksOfFirst)).toEqual([80, 0, "calls"]);
  expect(doubt).toBe(true);
  // Both at the end, line by line.
  const both = booksLine(0, 700, 60) + booksLine(100, 700, 20) + booksLine(0, 700, 5, "b") + booksLine(100, 700, 6, "b");
  expect(totals(mixed + rest + both + lossLine(0, 700) + lossLine(100, 700))).toEqual([91, 28, "run"]);
});

test("where a run's books were cut off the rest is made from its calls", () => {
  const calls = callLines(5, 20, 7, "a") + callLines(205, 20, 7, "b");
  expect(totals(calls + booksLine(0, 500, 20, "a"))).toEqual([40, 7, "both"]);
  expect(totals(calls + booksLine(0, 500, 20, "a") + booksLine(0, 500, 20, "b").slice(0, 60))).toEqual([40, 7, "both"]);
  expect(totals(calls + booksLine(0, 500, 20, "a") + booksLine(600, 700, 1, "a"))).toEqual([41, 14, "both"]);
  expect(totals(calls + booksLine(0, 500, 20, "a") + booksLine(0, 500, 20, "b"))).toEqual([40, 14, "run"]);
  // Of a run with more labels than it keeps apart nobody can tell which are missing.
  expect(totals(calls + booksLine(0, 500, 20, "a") + booksLine(0, 500, 20, "(other)"))).toEqual([40, 14, "run"]);
});

test("how long the oldest byte had waited is told as of its run's end", () => {
  const path = scope.path("oldest.log");
  writeFileSync(path, callLines(5, 2, 7) + booksLine(0, 500, 2) + booksLine(60_000, 60_500, 2));
  expect(report(path).summary.directions.out.oldestUnsentNs).toBe(5000);
});

test("books that make no sense are damaged lines", () => {
  const path = scope.path("senseless.log");
  const many = "9".repeat(400);
  const bad = [
    `KQTIME-BOOKS;${times(0, 9)},dir=0,calls=${many};a;\n`, `KQTIME-BOOKS;start=${many}.0,end=1.0,dir=0,calls=1;a;\n`,
    "KQTIME-BOOKS;start=9.0,end=1.0,dir=0,calls=1;a;\n", `KQTIME-LOSS;${times(0, 9)},ringRecords=${many};NULL;\n`,
  ];
  writeFileSync(path, callLines(5, 2, 7) + bad.join(""));
  const builder = new ReportBuilder({ by: "label", window: new Window(null, null) });
  expect(readLogs([path], builder).damaged).toBe(bad.length);
  expect(builder.finish().summary.directions.out.calls).toBe(2);
});

testUnless(reason(!isLinux && "needs Linux"), "books and losses without end take no memory", async () => {
  const path = scope.path("endless.log");
  const books = (i: number): string =>
    booksLine(i, i + 500, 1, `n${i % 900}`).replace("oldest=5000", "call_min=1,call_max=9,call_sum=9,call_1=1,call_3071=1");
  const peak = async (count: number): Promise<number> => {
    let text = callLines(5, 2, 7);
    for (let i = 0; i < count; i++) text += books(i);
    // Counters of later versions.
    for (let i = 0; i < count * 50; i++) text += i % 5000 === 0 ? `KQTIME-LOSS;${times(0, 1)},k${i}=1` : `,k${i}=1${i % 5000 === 4999 ? ";NULL;\n" : ""}`;
    writeFileSync(path, text);
    const { code, mib } = await peakOf([BUN, "run", "kqtime", "report", "--json", path], ROOT);
    expect(code).toBe(0);
    return mib;
  };
  const once = await peak(6000);
  expect(await peak(24000)).toBeLessThan(once + 150);
}, 60_000);

test("a window holds the calls that were made in it, relative or absolute", () => {
  const path = scope.path("window.log");
  writeRuns(path, [{ startNs: 0, seconds: 10, seed: 7, books: true }]);
  const all = report(path).summary.directions.out.calls;
  const parts = [
    report(path, "label", undefined, "+4s"),
    report(path, "label", "+4s", "+6s"),
    report(path, "label", new Date((BASE + 6) * 1000).toISOString(), undefined),
  ];
  const calls = parts.map(({ summary }) => summary.directions.out.calls);
  // The log's first line need not be the first call, but is one of the first.
  expect(Math.abs(calls.reduce((sum, count) => sum + count, 0) - all)).toBeLessThan(12);
  for (const count of calls) expect(count).toBeGreaterThan(50);
  expect(parts.map(({ source }) => source)).toEqual(["calls", "calls", "calls"]);
  expect(report(path, "label", "+1h").empty).toBe(true);
});

test("+30s counts from the log's start: that of its first line, the run's own where KQTIME-META has it", () => {
  const path = scope.path("start.log");
  const meta = `KQTIME-META;start=${BASE}.5,end=${BASE}.5,log_min_ns=9,log_sample=1,log_seed=1;NULL;\n`;
  const stats = `KQTIME-STATS;start=${BASE + 2}.0,end=${BASE + 2}.1,num_fds=1;fd=3,snd_len=1,rcv_len=1;\n`;
  const calls = [5, 8].map((sec) => `KQTIME-OUT;start=${BASE + sec}.0,end=${BASE + sec + 1}.0,fd=3,bytes=9;x;\n`).join("");
  const counted = (text: string, since: string) => {
    writeFileSync(path, text);
    const { empty, summary } = report(path, "label", since);
    return empty ? 0 : summary.directions.out.calls;
  };
  // The first line begins at 0.5 s, 2 s, 5 s: the second call is 7.5 s, 6 s, 3 s behind it.
  for (const [head, second] of [[meta + stats, 7.5], [stats, 6], ["", 3]] as const) {
    const before = (head === "" ? [] : [second - 3.1]).map((sec) => counted(head + calls, `+${sec}s`));
    expect(before).toEqual(before.map(() => 2));
    expect(counted(head + calls, `+${second}s`)).toBe(1);
    expect(counted(head + calls, `+${second + 0.1}s`)).toBe(0);
  }
});

test("a log that begins with the books of a run without calls has one base for all", () => {
  const path = scope.path("idle.log");
  writeRuns(path, [{ startNs: 0, seconds: 0, seed: 1, books: true }]);
  writeRuns(path, [{ startNs: 50e9, seconds: 2, seed: 2, books: true }]);
  const { summary } = report(path);
  expect(BigInt(summary.startUnixNs)).toBe(BigInt(BASE) * 1000000000n);
  expect(summary.durationNs).toBe(52e9);
});

test("by name only names that the program gave count; by socket each socket", () => {
  const path = scope.path("groups.log");
  writeRuns(path, [
    { startNs: 0, seconds: 2, seed: 8, books: true },
    { startNs: 10e9, seconds: 2, seed: 9, books: true },
  ]);
  const names = (by: Grouping) => report(path, by).summary.labels.map(({ label }) => label).sort();
  expect(names("label")).toEqual(["NULL", "out:443", "relay-1"]);
  expect(names("name")).toEqual(["NULL", "relay-1"]);
  expect(names("socket")).toEqual([
    "#1 4001-443 out:443", "#2 4002-443 relay-1", "#2/1 4001-443 out:443", "#2/2 4002-443 relay-1",
    "#2/3 4003-443 NULL", "#3 4003-443 NULL",
  ]);
  const total = report(path, "name").summary.directions;
  expect(total).toEqual(report(path, "label").summary.directions);
});

test("queue lengths and losses of a log are in its report", () => {
  const path = scope.path("queues.log");
  const stats = (sec: number, bytes: number) =>
    `KQTIME-STATS;start=${sec}.0,end=${sec}.1,num_fds=2;fd=3,snd_len=${bytes},rcv_len=1;fd=4,snd_len=0,rcv_len=1;\n`;
  writeFileSync(path, [1, 2, 3].map((n) => stats(BASE + n, n * 10)).join("") +
    `KQTIME-OUT;start=${BASE}.5,end=${BASE}.6,fd=3,bytes=9;x;\n` +
    `KQTIME-LOSS;start=${BASE}.5,end=${BASE}.6,ringRecords=3,capturePackets=4,later=5;;\n`);
  const { queues, summary, lossesKnown } = report(path);
  expect(queues.out).toMatchObject({ samples: 3, p50: 20, max: 30 });
  expect(queues.in).toMatchObject({ samples: 3, max: 2 });
  expect([lossesKnown, summary.losses.ringRecords, summary.losses.capturePackets]).toEqual([true, 3, 4]);
});

test("parsed data is no run that was killed", () => {
  const path = scope.path("parsed.dat");
  writeFileSync(path, `${BASE}.5 KQTIME-OUT 7.0\n${BASE}.6 KQTIME-IN 8.0\n`);
  const { summary, notes } = report(path);
  expect(summary.directions.out.callNs).toMatchObject({ count: 1, max: 7e6 });
  expect(notes.join()).toContain("only the calls and their times are known");
  expect(notes.join()).not.toContain("killed");
});

test("groups without end become one", () => {
  const path = scope.path("many.log");
  let text = "";
  for (let i = 0; i < GROUPS_MOST + 50; i++) text += `KQTIME-OUT;start=1.0,end=1.5,fd=3,bytes=1;n${i};\n`;
  writeFileSync(path, text);
  const { summary, notes } = report(path);
  expect(summary.labels.length).toBe(GROUPS_MOST + 1);
  expect(summary.labels[0]!.label).toBe("(others)");
  expect(summary.directions.out.calls).toBe(GROUPS_MOST + 50);
  expect(notes.join()).toContain("the later ones are summed");
  expect(new Grouper("label").names).toEqual([]);
});

test("CSV has a row for each group and direction, quoted where it must be", () => {
  const path = scope.path("csv.log");
  writeFileSync(path, `KQTIME-OUT;start=${BASE}.5,end=${BASE}.6,fd=3,bytes=9;a,"b";\n`);
  const [head, out, inbound, end] = reportCsv(report(path).summary).split("\r\n");
  expect(head).toMatch(/^group,direction,sockets,calls,.*,call_p999_ns,call_max_ns,byte_count,/);
  expect(out).toMatch(/^"a,""b""",out,1,1,9,9,1,1,100000000,100000000,100000000,/);
  expect(inbound).toMatch(/^"a,""b""",in,0,0,0,0,,0,,,/);
  expect([end, csvField("=1+1"), csvField("a")]).toEqual(["", "'=1+1", "a"]);
});

test("moments: ISO 8601 with a zone, without one in that of this machine, and +30s", () => {
  const sec = Date.parse("2026-11-23T12:00:00Z") / 1000;
  for (const text of [
    "2026-11-23T12:00:00Z", "2026-11-23T13:00:00+01:00", "2026-11-23 13:00+0100", "2026-11-23T12:00z",
    "2026-11-23T14+02".replace("14", "14:00"),
  ]) {
    expect([text, parseMoment(text)]).toEqual([text, { kind: "unix", sec, ns: 0 }]);
  }
  const local = new Date(2026, 10, 23).getTime() / 1000;
  expect(parseMoment("2026-11-23")).toEqual({ kind: "unix", sec: local, ns: 0 });
  expect(parseMoment("2026-11-23T12:00:00.123456789Z")).toEqual({ kind: "unix", sec, ns: 123456789 });
  expect(parseMoment("+1.5m")).toEqual({ kind: "after", ns: 90e9 });
  for (const text of ["", "12:00", "+", "+3y", "2026-13-01", "2026-11-23T12:00:00+1", "now"]) {
    expect([text, parseMoment(text)]).toEqual([text, null]);
  }
  expect([parseDurationNs("30"), parseDurationNs("250ms"), parseDurationNs("-1s")]).toEqual([30e9, 25e7, null]);
  const shown = formatMoment(sec, 1.5e9);
  expect(shown).toMatch(/^2026-11-2\dT\d\d:\d\d:01\.500[+-]\d\d:\d\d$/);
  expect(parseMoment(shown)).toEqual({ kind: "unix", sec: sec + 1, ns: 5e8 });
});

test("calls with a time below zero, which libkqtime's logs have, are left out and counted", () => {
  const path = scope.path("below-zero.log");
  const line = (start: number, end: number) =>
    `KQTIME-OUT;start=${BASE + start}.500000,end=${BASE + end}.400000;x;\n`;
  writeFileSync(path, line(1, 2) + line(3, 3) + line(4, 6));
  const { summary, notes } = report(path);
  expect(summary.booksBalance).toBe(true);
  expect(summary.directions.out.calls).toBe(2);
  expect(summary.directions.out.callNs.count).toBe(2);
  expect(notes.join()).toContain("1 call is left out: their time is below zero");
});
