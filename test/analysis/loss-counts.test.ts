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
