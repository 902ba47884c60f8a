// The table, as a user sees it.

import { expect, test } from "bun:test";
import { lossSentences } from "../../src/output/losses.ts";
import { Reason } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { buildSummary, type SummaryInput } from "../../src/output/summary.ts";
import { renderSummary } from "../../src/output/table.ts";
import {
  formatBytes,
  formatCount,
  formatExact,
  formatShare,
  formatTime,
} from "../../src/output/units.ts";
import { busyInput, missed, summaryInput, traffic } from "./summary-input.ts";

function table(input: SummaryInput, columns: number, color = false): string {
  return renderSummary(buildSummary(input), { columns, color });
}

test("100 columns", () => {
  expect(table(busyInput(), 100)).toMatchSnapshot();
});

test("80 columns", () => {
  expect(table(busyInput(), 80)).toMatchSnapshot();
});

test("no traffic", () => {
  expect(table(summaryInput(), 100)).toMatchSnapshot();
});

test("a direction that was not measured is not called empty", () => {
  const text = table({ ...busyInput(), direction: "out" }, 100);
  expect(text).toContain("not measured (--direction out)");
  expect(text).toMatch(/^called +[\d,]+ +–$/m);
  expect(text).not.toContain("no bytes");
});

test("a reader is told what columns and labels mean", () => {
  const text = table(busyInput(), 120);
  expect(text).toContain("out:PORT = the program connected to PORT, in:PORT = it accepted on PORT");
  expect(text).toContain("pids 4321, 4322, 4323 and 9 more");
  const alone = { label: "NULL", out: traffic(3, 10), in: traffic(0, 0) };
  expect(table(summaryInput({ labels: [alone] }), 100)).toMatch(/^all +3 /m);
  const named = { label: "relay", out: traffic(5, 10), in: traffic(0, 0) };
  expect(table(summaryInput({ labels: [alone, named] }), 100)).toMatch(/^\(no name\) +3 /m);
});

test("arguments are quoted as a shell takes them", () => {
  const command = ["sh", "-c", "it's; $HOME", "", "--a=b/c"];
  expect(table(summaryInput({ command }), 100)).toContain("sh -c 'it'\\''s; $HOME' '' --a=b/c");
});

test("a process in its parent's ring is no loss, unless that ring was full", () => {
  const { losses } = buildSummary(summaryInput());
  expect(lossSentences({ ...losses, inheritedRings: 1 })).toEqual([]);
  const full = lossSentences({ ...losses, inheritedRings: 1, ringRecords: 5 });
  expect(full).toEqual([
    "5 records dropped, the ring was full",
    "1 forked process in the ring of its parent, which was full: raise --ring",
  ]);
});

test("no losses, and yet unmatched bytes: why is said above", () => {
  const labels = [{ label: "out:443", out: missed(traffic(1, 1), Reason.filtered, 9), in: traffic(0, 0) }];
  expect(table(summaryInput({ labels }), 100)).toContain("Losses: none; bytes are unmatched for");
});

function hugeInput(): SummaryInput {
  const out = new DirectionStats();
  out.sockets = 1234567;
  out.calls = 9.87654e14;
  out.bytesCalled = 2 ** 53 - 1;
  out.bytesMatched = 2 ** 53 - 2;
  out.unmatched[Reason.clock] = 1;
  out.callNs.record(99999499999999, 1);
  out.byteNs.record(2 ** 53 - 1, 1e15);
  const label = "a relay with a very long name 日本語日本語日本語日本語日本語日本語 $0123456789ABCDEF";
  const inbound = traffic(1, 1);
  return summaryInput({ labels: [{ label, out, in: inbound }], command: ["x".repeat(300)] });
}

test("huge values and long names", () => {
  expect(table(hugeInput(), 100)).toMatchSnapshot();
});

test("books that do not balance come first", () => {
  const broken = traffic(5, 10);
  broken.bytesCalled += 7;
  const labels = [{ label: "out:443", out: broken, in: traffic(0, 0) }];
  const text = table(summaryInput({ labels }), 80);
  expect(text).toStartWith("warning: the books of out:443, outbound, do not balance");
  expect(text).toContain("THE BOOKS DO NOT BALANCE");
});

test("no line is wider than the terminal", () => {
  for (const input of [busyInput(), summaryInput(), hugeInput()]) {
    for (const columns of [80, 81, 99, 100, 101, 120, 200]) {
      for (const line of table(input, columns).split("\n")) {
        expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
      }
    }
  }
});

test("colour changes nothing but the colour, and odd widths do no harm", () => {
  expect(Bun.stripANSI(table(busyInput(), 100, true))).toBe(table(busyInput(), 100));
  expect(table(busyInput(), 100, true)).not.toBe(table(busyInput(), 100));
  for (const columns of [0, 1, Number.NaN, 39]) {
    expect(table(busyInput(), columns)).toContain("out:443");
  }
});

test("no control character of the program's reaches the terminal", () => {
  const labels = [{ label: "\x1b]0;x\x07", out: traffic(1, 1), in: traffic(0, 0) }];
  const text = table(summaryInput({ labels, command: ["a\x1b[2J\nb"], warnings: ["w\x9b"] }), 80);
  expect(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(text)).toBe(false);
});

test("beyond thirty labels the rest is counted", () => {
  const labels = Array.from({ length: 35 }, (_, i) => ({
    label: `out:${i}`,
    out: traffic(100 - i, 10),
    in: traffic(0, 0),
  }));
  const text = table(summaryInput({ labels }), 100);
  expect(text).toContain("out:29 ");
  expect(text).not.toContain("out:30 ");
  expect(text).toContain("and 5 more labels, in the JSON summary");
});

test("coverage below 100 % is never printed as 100 %", () => {
  const almost = missed(traffic(1000, 10), Reason.clock, 4);
  expect(almost.coverage()).toBeGreaterThan(0.999995);
  const labels = [{ label: "out:443", out: almost, in: traffic(0, 0) }];
  const text = table(summaryInput({ labels }), 100);
  expect(text).toContain("99.99 %");
  expect(text).not.toContain("100 %");
  const shares = [1, 0.9999999999999999, 0.999996, 0.57, 0.29, 0.5, 0.0001, 0.00001, 0, null];
  expect(shares.map(formatShare)).toEqual([
    "100 %",
    "99.99 %",
    "99.99 %",
    "57.00 %",
    "29.00 %",
    "50.00 %",
    "0.01 %",
    "<0.01 %",
    "0 %",
    "-",
  ]);
});

test("units", () => {
  const times = [0, 1, 999, 1000, 12345, 999499, 999500, 9994999, 9995000, 1.5e9, 999.4e9, 999.5e9];
  expect(times.map(formatTime)).toEqual([
    "0 ns",
    "1 ns",
    "999 ns",
    "1.00 µs",
    "12.3 µs",
    "999 µs",
    "1.00 ms",
    "9.99 ms",
    "10.0 ms",
    "1.50 s",
    "999 s",
    "1000 s",
  ]);
  expect([1e12, 99999.4e9, 1e14, 2 ** 53, null].map(formatTime)).toEqual([
    "1000 s",
    "99999 s",
    "27.8 h",
    "2502 h",
    "-",
  ]);
  expect([0, 999, 1000, 999499, 999500, 1.5e9, 9e15].map(formatBytes)).toEqual([
    "0 B",
    "999 B",
    "1.00 kB",
    "999 kB",
    "1.00 MB",
    "1.50 GB",
    "9.00 PB",
  ]);
  expect([0, 99999, 100000, 123456789].map(formatCount)).toEqual(["0", "99999", "100 k", "123 M"]);
  expect([0, 999, 1000, 1234567, 2 ** 53].map(formatExact)).toEqual([
    "0",
    "999",
    "1,000",
    "1,234,567",
    "9,007,199,254,740,992",
  ]);
});

test("sockets of other kinds are named, also where nothing else was seen", () => {
  const otherSockets = { MPTCP: 1, SCTP: 1200, DCCP: 0 };
  for (const input of [summaryInput({ otherSockets }), { ...busyInput(), otherSockets }]) {
    const lines = table(input, 100).split("\n");
    expect(lines.filter((line) => /^not measured: .*(MPTCP|SCTP)/.test(line)))
      .toEqual(["not measured: 1 MPTCP socket", "not measured: 1200 SCTP sockets"]);
  }
});
