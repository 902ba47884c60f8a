// Connections that are older than their measurement: what the program moves over them from then on,
// exactly, against the calls that it logged itself and the packets that an independent tcpdump saw.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IN, OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BASE_SEC, booksFlaws, directionOf, kqtime, ROOT, timeFlaws } from "../lib/kqtime.ts";
import { readLog } from "../lib/kqlog.ts";
import { withLab, withLoopback, type LabOptions } from "../lib/network.ts";
import { judgeOlder, transferOlder, type OlderEnd, type OlderOptions } from "../lib/older.ts";

const SHAPED: LabOptions = { shape: { rate: "20mbit" }, shapeBack: { rate: "20mbit" } };
/** What can have waited, unread, when the program got the connections: nobody saw it arrive. */
const MOST_WAITING = 600_000;

/** Every line true, every byte in a book; nothing unmatched but what had arrived before. */
function expectTrue(end: OlderEnd, mostWaiting: number): void {
  expect(judgeOlder(end, { lossy: true }).report()).toBe("");
  expect(booksFlaws(end.measurement)).toEqual([]);
  const log = end.measurement.log();
  expect(timeFlaws(log)).toEqual([]);
  const summary = end.measurement.summary();
  expect(summary.booksBalance).toBe(true);
  for (const direction of [OUT, IN] as const) {
    const books = directionOf(summary, direction);
    const truth = end.calls.filter((stream) => stream.direction === direction);
    const called = truth.reduce((sum, stream) => sum + stream.bytes, 0);
    const { "no anchor": unanchored = 0, ...others } = books.bytesUnmatched;
    expect(books.bytesCalled).toBe(called);
    expect(others).toEqual({});
    expect(books.bytesUnexplained).toBe(0);
    expect(unanchored).toBeLessThanOrEqual(direction === OUT ? 0 : mostWaiting);
    expect(books.bytesMatched).toBe(called - unanchored);
  }
}

async function measure(lab: LabOptions, options: OlderOptions, mostWaiting: number): Promise<void> {
  await withLab(lab, async ({ scope, left, right }) => {
    expectTrue(await transferOlder(scope, left, right, options), mostWaiting);
  });
}

for (const mode of ["poll", "threads"]) {
  for (const measured of ["client", "server"] as const) {
    for (const way of ["one way", "both ways"]) {
      const flow = ["--total", "3000000", "--mode", mode, ...(way === "both ways" ? ["--both"] : [])];
      e2e(`a full link, the ${measured} measured, ${way} (${mode})`, () =>
        measure(SHAPED, { prelude: 5000, measure: measured, flow }, MOST_WAITING));
    }
  }
}

for (const v6 of [false, true]) {
  e2e(`connections that are silent between calls (${v6 ? "IPv6" : "IPv4"})`, () =>
    // The first bytes wait for their anchor as well as all others.
    measure(
      SHAPED,
      {
        prelude: 70_000, v6,
        flow: ["--conns", "20", "--total", "90000", "--size", "2000", "--write-sleep", "60"],
      },
      0,
    ));
}

for (const measured of ["client", "server"] as const) {
  e2e(`both ends on one host, the ${measured} measured`, () =>
    withLoopback(async (node, scope) => {
      const flow = [
        "--total", "1000000", "--size", "20000", "--both", "--conns", "3", "--write-sleep", "20",
      ];
      const end = await transferOlder(scope, node, node, { prelude: 3000, measure: measured, flow });
      expectTrue(end, MOST_WAITING);
    }));
}

for (const filter of ["greater 400", "src port 7000"]) {
  e2e(`a capture that shows only a part of the packets: no wrong time (${filter})`, () =>
    withLab(SHAPED, async ({ scope, left, right }) => {
      const end = await transferOlder(scope, left, right, {
        prelude: 5000,
        flow: ["--total", "60000", "--size", "2000", "--write-sleep", "10", "--conns", "2", "--both"],
        kqtime: ["--filter", `tcp and ${filter}`],
      });
      expect(judgeOlder(end, { lossy: true }).report()).toBe("");
      const summary = end.measurement.summary();
      expect(summary.booksBalance).toBe(true);
      for (const direction of [OUT, IN] as const) {
        expect(directionOf(summary, direction).bytesMatched).toBe(0);
      }
      // What the filter's text tells is said; of the others nothing is ever proven.
      const told = /2 sockets older than the capture cannot be measured/.test(summary.warnings.join("\n"));
      expect(told).toBe(filter.startsWith("greater"));
    }));
}

e2e("a recording of it gives the identical log and summary", () =>
  withLab(SHAPED, async ({ scope, left, right }) => {
    const folder = scope.path("recording");
    const end = await transferOlder(scope, left, right, {
      prelude: 5000, flow: ["--total", "400000", "--both", "--conns", "8"], kqtime: ["--record", folder],
    });
    // The more connections, the more of what is sent has come before the program.
    expectTrue(end, 2 * MOST_WAITING);
    const [log, json] = [scope.path("again.log"), scope.path("again.json")];
    await kqtime(scope, ["replay", folder, "--log", log, "--json", json, "--quiet"]).success();
    expect(readFileSync(log, "utf8")).toBe(readFileSync(end.measurement.logPath, "utf8"));
    expect(readFileSync(json, "utf8")).toBe(readFileSync(end.measurement.jsonPath, "utf8"));
  }));

e2e("a program that measures itself from the middle of a connection on, a reader waiting in it", () =>
  withLoopback(async (node, scope) => {
    const build = join(ROOT, "build");
    const path = scope.path("late.log");
    const program = await fixture("late");
    const words = [`LD_LIBRARY_PATH=${build}`, `LD_PRELOAD=${join(build, "libkqtime-preload.so")}`];
    const run = await scope.run([program, path, "30"], { prefix: [...node.prefix, "env", ...words] });
    const [sent, received] = run.stdout.trim().split(" ").map(Number);
    const { books, calls } = readLog(path, BASE_SEC);
    const of = (direction: number, name: string) =>
      books.find((line) => line.direction === direction && line.name === name)!.values;
    expect(of(OUT, "client")).toMatchObject({ calls: 30, called: sent, matched: sent });
    expect(of(IN, "server")).toMatchObject({ calls: 29, called: received, matched: received });
    // Loopback: it arrived when it departed, and each call of the reader returned what one sent.
    const departures = calls.filter((line) => line.direction === OUT).slice(1);
    const arrivals = calls.filter((line) => line.direction === IN);
    expect(arrivals.map((line) => line.startNs)).toEqual(departures.map((line) => line.endNs));
    expect(arrivals.map((line) => line.bytes)).toEqual(departures.map((line) => line.bytes));
  }));
