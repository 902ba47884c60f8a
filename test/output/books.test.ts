// BOOKS lines carry everything that the summary of a label says.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { join } from "node:path";
import { parseBooks, writeBooks } from "../../src/output/books.ts";
import { encodeName } from "../../src/output/name.ts";
import { REASONS } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { buildSummary } from "../../src/output/summary.ts";
import { BASE_SEC, inFolder, openLog, readLines } from "./log-lines.ts";
import { busyInput } from "./summary-input.ts";

const bytes = fc.maxSafeInteger().map(Math.abs);
const records = fc.array(fc.tuple(bytes, fc.integer({ min: 1, max: 2 ** 31 })), { maxLength: 50 });

test("what is written is read back", () => {
  const sums = fc.array(bytes, { minLength: 8, maxLength: 8 });
  const unmatched = fc.array(bytes, { minLength: REASONS.length, maxLength: REASONS.length });
  fc.assert(
    fc.property(sums, unmatched, records, records, fc.string(), (sum, miss, calls, parts, label) => {
      const stats = new DirectionStats();
      stats.sockets = sum[0]!;
      stats.calls = sum[1]!;
      stats.bytesCalled = sum[2]!;
      stats.bytesMatched = sum[3]!;
      stats.bytesInFlight = sum[4]!;
      stats.bytesUnread = sum[5]!;
      stats.bytesUnexplained = sum[6]!;
      stats.bytesRetransmitted = sum[7]!;
      stats.unmatched.set(miss);
      for (const [ns, weight] of calls) stats.callNs.record(ns, weight);
      for (const [ns, weight] of parts) stats.reassemblyNs.record(ns, weight);
      const name = encodeName(label);
      const line = new TextDecoder().decode(writeBooks(1, 5, 6.2e9, stats, name, 100));
      expect(line.endsWith(";\n")).toBe(true);
      const books = parseBooks(line.trimEnd())!;
      expect(books.label).toBe(new TextDecoder().decode(name));
      expect(books.direction).toBe(1);
      expect([books.start, books.end]).toEqual(["100.000000005", "106.200000000"]);
      expect(snapshot(books.stats)).toEqual(snapshot(stats));
    }),
  );
});

function snapshot(stats: DirectionStats): unknown {
  const histograms = [stats.callNs, stats.byteNs, stats.reassemblyNs].map((histogram) => {
    const buckets: number[][] = [];
    histogram.forEachBucket((bucket, weight) => buckets.push([bucket, weight]));
    return [buckets, histogram.count, histogram.sum, histogram.min, histogram.max];
  });
  const sums = Object.entries(stats).filter(([, value]) => typeof value === "number");
  return [Object.fromEntries(sums), [...stats.unmatched], histograms];
}

test("every line but a whole BOOKS line is refused", () => {
  const stats = new DirectionStats();
  stats.callNs.record(5, 1);
  const line = new TextDecoder().decode(writeBooks(0, 0, 0, stats, encodeName("x"), 100)).trimEnd();
  expect(parseBooks(line)).not.toBeNull();
  expect(parseBooks(line.replace("BOOKS", "OUT"))).toBeNull();
  expect(parseBooks(line.slice(0, 60))).toBeNull();
  expect(parseBooks(line.replace("calls=0", "calls=x"))).toBeNull();
  expect(parseBooks("KQTIME-BOOKS")).toBeNull();
  // Numbers no writer writes: no crash, no bucket.
  expect(parseBooks(line.replace("call_5=1", "call_99999=1"))!.stats.callNs.count).toBe(0);
});

test("a summary made of the log's books equals the one made in memory", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    const input = busyInput();
    const log = openLog(path);
    for (const { label, out, in: inbound } of input.labels) {
      log.books(0, input.startNs, input.endNs, out, encodeName(label));
      log.books(1, input.startNs, input.endNs, inbound, encodeName(label));
    }
    log.close();
    const labels = new Map<string, { label: string; out: DirectionStats; in: DirectionStats }>();
    for (const line of readLines(path)) {
      const { label, direction, stats } = parseBooks(line)!;
      let entry = labels.get(label);
      if (!entry) {
        entry = { label, out: new DirectionStats(), in: new DirectionStats() };
        labels.set(label, entry);
      }
      entry[direction === 0 ? "out" : "in"].merge(stats);
    }
    const memory = buildSummary(input);
    const fromLog = buildSummary({ ...input, labels: labels.values() });
    expect(fromLog.directions).toEqual(memory.directions);
    expect(fromLog.labels).toEqual(memory.labels);
  }));

test("a key of a bucket cannot be mistaken for another", () => {
  const stats = new DirectionStats();
  stats.callNs.record(7, 2);
  stats.byteNs.record(7, 3);
  stats.reassemblyNs.record(7, 4);
  const line = new TextDecoder().decode(writeBooks(0, 0, 0, stats, encodeName("x"), 0));
  expect(line).toContain(
    ",call_min=7,call_max=7,call_sum=14,call_7=2,byte_min=7,byte_max=7,byte_sum=21,byte_7=3," +
      "reasm_min=7,reasm_max=7,reasm_sum=28,reasm_7=4;x;",
  );
});

test("books of values that there cannot be are damaged", () => {
  const stats = new DirectionStats();
  for (const ns of [5, 700, 90_000]) stats.callNs.record(ns, 1);
  const line = new TextDecoder().decode(writeBooks(0, 0, 5e9, stats, encodeName("x"), BASE_SEC)).trimEnd();
  expect(parseBooks(line)).not.toBeNull();
  const isRead = (text: string): boolean => {
    expect(text).not.toBe(line);
    try {
      return parseBooks(text) !== null;
    } catch {
      return false;
    }
  };
  for (const [was, is] of [
    ["called=0", "called=9999999999999999999999"], ["called=0", "called=9007199254740992"],
    ["called=0", "called=00"], ["called=0", "called=-0"], ["unread=0", "unread=0.0"],
    ["call_5=1", "call_5=9007199254740992"], ["dir=0", "dir=0,miss3=1e3"],
    ["call_min=5", "call_min=6"], ["call_min=5", "call_min=99999"], ["call_max=90000", "call_max=0"],
    ["call_sum=90705", "call_sum=0"], ["call_sum=90705", "call_sum=999999999"], ["call_5=1", "call_5=0"],
    ["calls=0", "calls=-1"], ["calls=0", "calls=0.5"], ["dir=0", "dir=7"], ["dir=0,", ""],
    [/start=\d+/, `start=${"9".repeat(400)}`], [/end=\d+\.\d+,/, ""],
  ] as const) {
    expect([is, isRead(line.replace(was, is))]).toEqual([is, false]);
  }
});
