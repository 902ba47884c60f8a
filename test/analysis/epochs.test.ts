// Whose calls are whose, in logs of several runs: one after another, killed, gone on with, at the same
// time, rotated over files, and several logs read at once. The report must have each call once.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import type { Grouping } from "../../src/analysis/groups.ts";
import { orderLogs } from "../../src/analysis/log-order.ts";
import { readLogs } from "../../src/analysis/log-reader.ts";
import { type Report, ReportBuilder } from "../../src/analysis/report.ts";
import { Window } from "../../src/analysis/window.ts";
import { EVERY_LINE, writeMeta } from "../../src/output/selection.ts";
import { Scope } from "../lib/process.ts";
import { random } from "../lib/synthetic-log.ts";

const BASE = 1700000000;
const DOUBT = "some calls of that time may be missing, or counted twice";
const UNENDED = "a run that wrote no books";
let scope: Scope;
let texts = 0;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

function time(ms: number): string {
  return `${BASE + Math.floor(ms / 1000)}.${String(Math.round(ms % 1000)).padStart(3, "0")}`;
}

function meta(ms: number): string {
  return new TextDecoder().decode(writeMeta(EVERY_LINE, ms * 1e6, BASE));
}

interface Of {
  pid?: number;
  sock?: number;
  off?: number;
  name?: string;
}

/** Calls of 10 bytes that took a ms, one each 10 ms. */
function calls(fromMs: number, count: number, { pid = 7, sock = 1, off = 0, name = "a" }: Of = {}): string {
  return Array.from({ length: count }, (_, i) => {
    const at = fromMs + i * 10;
    const place = `off=${off + i * 10},pid=${pid},sock=${sock},lport=${4000 + sock},rport=443`;
    return `KQTIME-OUT;start=${time(at)},end=${time(at + 1)},fd=3,bytes=10,first=${time(at + 1)},${place};${name};\n`;
  }).join("");
}

/** … without a time. */
function missed(ms: number): string {
  return `KQTIME-MISS;start=${time(ms)},end=${time(ms)},fd=3,bytes=10,off=0,pid=7,sock=1,lport=4001,rport=443,dir=0,reason=3;a;\n`;
}

/** Books of one label, with 7 bytes more in flight. */
function booksOnly(fromMs: number, toMs: number, count: number, name = "a"): string {
  const sums = `sockets=1,calls=${count},called=${count * 10 + 7},matched=${count * 10},inflight=7`;
  return `KQTIME-BOOKS;start=${time(fromMs)},end=${time(toMs)},dir=0,${sums};${name};\n`;
}

function books(fromMs: number, toMs: number, count: number): string {
  const loss = `KQTIME-LOSS;start=${time(fromMs)},end=${time(toMs)},ringRecords=0;NULL;\n`;
  return booksOnly(fromMs, toMs, count) + loss;
}

/** Of libkqtime: no socket, no process, never books. */
function ancestors(fromMs: number, count: number): string {
  return Array.from({ length: count }, (_, i) =>
    `KQTIME-OUT;start=${time(fromMs + i)},end=${time(fromMs + i + 1)},fd=5;anc;\n`).join("");
}

function write(name: string, text: string): string {
  const path = scope.path(name);
  writeFileSync(path, text);
  return path;
}

function report(paths: readonly string[], by: Grouping = "label"): Report {
  const builder = new ReportBuilder({ by, window: new Window(null, null) });
  readLogs(orderLogs(paths).paths, builder);
  return builder.finish();
}

/** Calls and bytes in flight (7 of each run whose books count), and what the notes say. */
function totals(...logs: string[]): [number, number, string] {
  const number = texts++;
  const { summary, notes } = report(logs.map((text, i) => write(`t${number}-${"abc"[i]}.log`, text)));
  const { calls, bytesInFlight } = summary.directions.out;
  const said = [[UNENDED, "unended"], [DOUBT, "doubt"], ["books of a run were cut off", "cut"]] as const;
  return [calls, bytesInFlight, said.filter(([text]) => notes.join().includes(text)).map(([, word]) => word).join()];
}

test("a call without a time that is older than its run is in the run's books", () => {
  const text = missed(100) + calls(405, 20) + books(400, 900, 21);
  expect(totals(meta(400) + text)).toEqual([21, 7, ""]);
  expect(totals(text)).toEqual([21, 7, ""]);
});

test("a run that goes on at once with one that was killed does not count its calls again", () => {
  const [killed, rest] = [calls(5, 100), missed(1010) + calls(1020, 50, { off: 1000 }) + books(1010, 2000, 51)];
  expect(totals(meta(0) + killed + meta(1010) + rest)).toEqual([151, 7, "unended,doubt"]);
  expect(totals(meta(0) + killed, meta(1010) + rest)).toEqual([151, 7, "unended"]);
  // Of earlier versions: nothing tells the two runs apart, and all count from their lines.
  expect(totals(killed + rest)).toEqual([151, 0, "unended"]);
  expect(totals(killed, rest)).toEqual([151, 7, "unended"]);
});

test("books settle calls of their own log only, and never libkqtime's", () => {
  const a = calls(10_000, 100) + books(0, 100_000, 100);
  const b = calls(5000, 300, { pid: 8, name: "b" });
  expect(totals(meta(0) + a, meta(4000) + b)).toEqual([400, 7, "unended"]);
  expect(totals(a, b)).toEqual([400, 7, "unended"]);
  expect(totals(meta(0) + calls(5, 10), meta(100) + b, books(0, 9000, 10))).toEqual([310, 7, "unended"]);
  // Behind a run's end comes one of an earlier version.
  const mixed = meta(1000) + calls(1005, 10) + books(1000, 1500, 10) + calls(2005, 10) + books(2000, 2500, 10);
  expect(totals(meta(0) + calls(5, 10), mixed)).toEqual([30, 14, "unended"]);
  expect(totals(a, ancestors(1000, 50))).toEqual([150, 7, ""]);
  expect(totals(ancestors(1000, 50) + meta(0) + ancestors(1500, 50) + a)).toEqual([200, 7, ""]);
});

test("a socket is one, whoever uses it, and another one in each run", () => {
  const used = [1, 2, 3, 1].map((pid, i) => calls(5 + i * 2000, 5, { pid, off: i * 50 })).join("");
  const path = write("sockets.log", meta(0) + used);
  expect(report([path]).summary.directions.out.sockets).toBe(1);
  const both = write("both.log", meta(0) + used + meta(9000) + calls(9005, 4));
  expect(report([both]).summary.directions.out.sockets).toBe(2);
  const labels = report([both], "socket").summary.labels.map(({ label, out }) => [label, out.calls]);
  expect(labels.sort()).toEqual([["#1 4001-443 a", 20], ["#2/1 4001-443 a", 4]]);
  // One run ends while another goes on.
  const within = write("within.log", meta(0) + calls(5, 5) + meta(100) + calls(105, 3, { sock: 2 }) + books(100, 200, 3) +
    calls(205, 5, { off: 50 }));
  expect(report([within], "socket").summary.labels.map(({ out }) => out.calls).sort()).toEqual([10, 3]);
});

test("where books were cut off the rest is made from lines; what cannot be told is in a note", () => {
  const all = meta(0) + calls(5, 20) + calls(205, 30, { name: "b" });
  expect(totals(all + booksOnly(0, 900, 20))).toEqual([50, 7, "unended"]);
  expect(totals(all + booksOnly(0, 900, 20) + booksOnly(0, 900, 30, "b"))).toEqual([50, 14, ""]);
  expect(totals(all + booksOnly(0, 900, 20) + booksOnly(0, 900, 9, "(other)"))).toEqual([29, 14, "cut"]);
  const many = Array.from({ length: 1001 }, (_, i) => `n${i}`);
  const lines = many.map((name, i) => calls(1000 + i, 1, { name })).join("") + calls(9000, 5, { name: "late" });
  const some = many.map((name) => booksOnly(0, 9900, 1, name)).join("");
  expect(totals(meta(0) + lines + some)[2]).toBe("cut");
});

test("of two runs at once each counts from its books; where one has none, a note says so", () => {
  const [s1, s2, s3] = [meta(0) + calls(5, 10), calls(305, 10, { off: 100 }), calls(605, 10, { off: 200 })];
  const [t1, t2] = [meta(200) + calls(205, 10, { sock: 2 }), calls(405, 10, { sock: 2, off: 100 })];
  const [s, t] = [books(0, 1000, 30), books(200, 600, 20)];
  expect(totals(s1 + t1 + s2 + t2 + t + s3 + s)).toEqual([50, 14, ""]);
  expect(totals(s1 + t1 + s2 + s3 + s + t2 + t)).toEqual([50, 14, ""]);
  expect(totals(s1 + t1 + s2 + t2 + t + s3)).toEqual([40, 7, "unended,doubt"]);
  expect(totals(s1 + t1 + s2 + t2 + s3 + s)).toEqual([30, 7, "unended,doubt"]);
  expect(totals(s1 + t1 + s2 + s3 + s + t2)).toEqual([40, 7, "unended,doubt"]);
  expect(totals(s1 + t1 + s2 + t2 + s3)).toEqual([50, 0, "unended"]);
});

test("a run's first line in a later file does not begin it anew, whatever stands between", () => {
  const first = meta(0) + calls(5, 10);
  const last = meta(0) + calls(205, 10, { off: 100 }) + books(0, 900, 20);
  const path = scope.path("rotated.log");
  writeFileSync(`${path}.1`, first);
  writeFileSync(path, last);
  expect(report([path, `${path}.1`]).summary.directions.out).toMatchObject({ calls: 20, bytesInFlight: 7 });
  // Under names that do not tell that they are of one log, and with another one between.
  expect(totals(first, last)).toEqual([20, 7, ""]);
  expect(totals(first, meta(100) + calls(105, 10), last)).toEqual([30, 7, "unended"]);
});

test("runs without books, more than are kept apart, count; books that come too late do not", () => {
  const killed = Array.from({ length: 200 }, (_, i) => meta(i * 1000) + calls(i * 1000 + 5, 3)).join("");
  expect(totals(killed + meta(300_000) + calls(300_005, 4) + books(300_000, 301_000, 4))).toEqual([604, 7, "unended,doubt"]);
  expect(totals(killed + books(1000, 301_000, 3))).toEqual([600, 0, "unended,doubt"]);
});

/** A run of a random history. */
interface Run {
  startMs: number;
  calls: number;
  sock: number;
  /** Its file of the log; -1: it has written nothing. */
  file: number;
}

/** The files of log `which`, oldest first, with `most` runs at once. */
function history(next: () => number, which: number, most: number) {
  const files = [""];
  const open: Run[] = [];
  const sum = { calls: 0, booked: 0, sockets: 0, overlaps: false };
  let ms = 100 + (next() % 5) * 1000;
  const put = (run: Run, text: string, file = files.length - 1) => {
    files[file] += run.file === file ? text : meta(run.startMs) + text;
    run.file = file;
  };
  const chunk = (run: Run, file?: number) => {
    const count = 1 + (next() % 5);
    put(run, calls(ms, count, { pid: 7 + (next() % 3), sock: run.sock, off: run.calls * 10 }), file);
    run.calls += count;
    sum.calls += count;
  };
  const end = (run: Run) => {
    put(run, books(run.startMs, ms, run.calls));
    open.splice(open.indexOf(run), 1);
    sum.booked++;
  };
  for (let step = 0; step < 60; step++) {
    ms += 1 + (next() % 3 === 0 ? 3000 : next() % 40);
    const what = next() % 10;
    const run = open[next() % Math.max(1, open.length)];
    if (run === undefined || (open.length < most && what === 0)) {
      // No two begin at the same time.
      while (ms % 3 !== which) ms++;
      open.push({ startMs: ms++, calls: 0, sock: 1 + (next() % 2), file: -1 });
      chunk(open.at(-1)!);
      sum.sockets++;
      if (open.length > 1) sum.overlaps = true;
    } else if (what === 1 || what === 2) {
      const isKilled = what === 1 && (most === 1 || next() % 5 === 0);
      if (isKilled) open.splice(open.indexOf(run), 1);
      else end(run);
    } else if (what === 3) {
      files.push("");
      // Others may find it out a little later.
      for (const other of open) if (other !== run && next() % 2 === 0) chunk(other, files.length - 2);
      ms += 60;
      chunk(run);
    } else {
      chunk(run);
    }
    ms += 60;
  }
  while (open.length > 0 && most % 2 === 0) end(open[0]!);
  return { files, ...sum };
}

test("random histories of runs, killed, at once, rotated, in several logs: the sum is that of all calls", () => {
  let exact = 0;
  for (let seed = 1; seed <= 120; seed++) {
    const next = random(seed);
    const most = 1 + (seed % 3);
    const logs = Array.from({ length: 1 + (next() % 3) }, (_, i) => history(next, i, most));
    const truth = { calls: 0, booked: 0, sockets: 0 };
    for (const { calls, booked, sockets } of logs) {
      truth.calls += calls;
      truth.booked += booked;
      truth.sockets += sockets;
    }
    const overlaps = logs.some((log) => log.overlaps);
    const folder = scope.path(`history-${seed}`);
    mkdirSync(folder);
    const paths = logs.flatMap(({ files }, i) => files.map((text, n) => {
      const number = files.length - 1 - n;
      const path = `${folder}/${"abc"[i]}.log${number === 0 ? "" : `.${number}`}`;
      writeFileSync(path, text);
      return path;
    }));
    const whole = `${folder}/all`;
    writeFileSync(whole, logs.flatMap(({ files }) => files).join(""));
    for (const given of [paths.toReversed(), [whole]]) {
      const { summary, notes } = report(given);
      const { calls, bytesInFlight, sockets } = summary.directions.out;
      const about = `seed ${seed}, ${given.length} files`;
      expect([about, bytesInFlight]).toEqual([about, truth.booked * 7]);
      if (overlaps && notes.join().includes(DOUBT)) {
        expect([about, calls > truth.calls]).toEqual([about, false]);
      } else {
        expect([about, calls]).toEqual([about, truth.calls]);
        exact++;
      }
      if (!overlaps) expect([about, sockets]).toEqual([about, truth.sockets]);
      const each = report(given, "socket").summary;
      expect([about, each.directions.out.calls]).toEqual([about, truth.calls]);
      if (!overlaps) expect([about, each.labels.length]).toEqual([about, truth.sockets]);
    }
  }
  expect(exact).toBeGreaterThan(100);
});
