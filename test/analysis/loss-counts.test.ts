// Losses as a log tells them.

import { expect, test } from "bun:test";
import { LossCounts } from "../../src/analysis/loss-counts.ts";

test("losses are counts, or the line is damaged and counts for nothing", () => {
  const losses = new LossCounts();
  const line = (pairs: string) => `KQTIME-LOSS;start=1.0,end=2.0,${pairs};NULL;`;
  expect(losses.add(line("ringRecords=3,badRecords=1"))).toBe(true);
  for (const count of ["-3", "-0", "0.5", "1.0", "03", "0x1", "9".repeat(30), "9".repeat(400), "x", ""]) {
    expect([count, losses.add(line(`badRecords=1,ringRecords=${count}`))]).toEqual([count, false]);
  }
  expect(losses.add(line("ringRecords=1").replace("end=2.0", "end=-2.0"))).toBe(false);
  expect(losses.add("KQTIME-LOSS")).toBe(false);
  expect([losses.sums.ringRecords, losses.sums.badRecords]).toEqual([3, 1]);
});

test("what a session lost counts once, however many of its logs tell it; the lines of each log count", () => {
  const losses = new LossCounts();
  const add = (session: string, ringRecords: number, logLines: number) =>
    losses.add(`KQTIME-LOSS;start=1.0,end=2.0,${session}ringRecords=${ringRecords},logLines=${logLines};NULL;`);
  const sums = () => [losses.sums.ringRecords, losses.sums.logLines];
  // The one that ended first knows less; in which order they are read does not matter.
  for (const records of [5, 3, 5]) add("session=4503599627370496,", records, 10);
  expect(sums()).toEqual([5, 30]);
  add("session=4503599627370496,", 7, 0);
  expect(sums()).toEqual([7, 30]);
  add("session=4503599627370495,", 100, 1);
  expect(sums()).toEqual([107, 31]);
  // Logs of earlier versions do not tell it.
  for (const session of ["", "", "session=0,"]) add(session, 1000, 0);
  expect(sums()).toEqual([3107, 31]);
});
