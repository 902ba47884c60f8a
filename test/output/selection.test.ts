// Which calls have a line: what --log-min and --log-sample leave out, and that nobody is fooled.

import { expect, test } from "bun:test";
import { encodeName } from "../../src/output/name.ts";
import { Reason } from "../../src/output/reasons.ts";
import { Chance, type LineSelection, SelectedLines, writeMeta } from "../../src/output/selection.ts";
import { LineSink } from "../match/sink.ts";
import { BASE_SEC } from "./log-lines.ts";

const NAME = encodeName("x");

/** Gives `count` calls to a selection; which of them have a line. */
function chosen(selection: LineSelection, count: number, waitedNs = (_: number) => 1000): number[] {
  const kept: number[] = [];
  const sink = new SelectedLines(
    { call: (...call) => void kept.push(call[6]), miss: () => {} },
    selection,
  );
  for (let n = 0; n < count; n++) {
    sink.call(0, n, n + waitedNs(n), n, 0, 10, n, 1, 3, 1, 2, 3, NAME);
  }
  return kept;
}

test("only calls that waited at least so long have a line", () => {
  const waits = [4999, 5000, 5001, 0, 1e12];
  expect(chosen({ minNs: 5000, sample: 1, seed: 1 }, 5, (n) => waits[n]!)).toEqual([1, 2, 4]);
  expect(chosen({ minNs: 0, sample: 1, seed: 1 }, 5, (n) => waits[n]!)).toEqual([0, 1, 2, 3, 4]);
});

test("bytes without a time have a line but where a least time is asked for", () => {
  const lines = (selection: LineSelection) => {
    const sink = new LineSink();
    const selected = new SelectedLines(sink, selection);
    for (let n = 0; n < 1000; n++) selected.miss(1, 1, 1, 8, n, 1, 3, 1, 2, 3, Reason.nat, NAME);
    return sink.lines.length;
  };
  expect(lines({ minNs: 0, sample: 1, seed: 1 })).toBe(1000);
  expect(lines({ minNs: 1, sample: 1, seed: 1 })).toBe(0);
  const sampled = lines({ minNs: 0, sample: 10, seed: 1 });
  expect(sampled).toBeGreaterThan(50);
  expect(sampled).toBeLessThan(150);
});

test("one call in N, whatever the traffic's rhythm", () => {
  const count = 400_000;
  for (const sample of [2, 3, 10, 100]) {
    for (const seed of [0, 1, 2, 0xffffffff]) {
      const kept = chosen({ minNs: 0, sample, seed }, count);
      // Of every phase of a rhythm as many as of the others: five standard deviations.
      for (const period of [1, 2, sample, 16]) {
        const byPhase = new Array<number>(period).fill(0);
        for (const n of kept) byPhase[n % period]!++;
        const expected = count / period / sample;
        for (const found of byPhase) expect(Math.abs(found - expected)).toBeLessThan(5 * Math.sqrt(expected));
      }
      // Independent: two neighbours are both kept as often as chance has it.
      let pairs = 0;
      for (let i = 1; i < kept.length; i++) if (kept[i] === kept[i - 1]! + 1) pairs++;
      const expected = count / sample ** 2;
      expect(Math.abs(pairs - expected)).toBeLessThan(5 * Math.sqrt(expected) + 1);
    }
  }
});

test("even the largest N leaves the sum of the lines times N unbiased", () => {
  const [n, draws] = [1e9, 200_000];
  const chance = new Chance(n, 7);
  let calls = 0;
  for (let i = 0; i < draws; i++) calls += chance.gap() + 1;
  expect(Math.abs(calls / draws / n - 1)).toBeLessThan(5 / Math.sqrt(draws));
});

test("the seed decides, and nothing else", () => {
  const one = chosen({ minNs: 0, sample: 7, seed: 42 }, 10_000);
  expect(chosen({ minNs: 0, sample: 7, seed: 42 }, 10_000)).toEqual(one);
  expect(chosen({ minNs: 0, sample: 7, seed: 43 }, 10_000)).not.toEqual(one);
});

test("the log's first line says so, in numbers alone", () => {
  const line = writeMeta({ minNs: 5e6, sample: 10, seed: 7 }, 1.5e9, BASE_SEC);
  expect(new TextDecoder().decode(line)).toBe(
    "KQTIME-META;start=1732345679.500000000,end=1732345679.500000000,log_min_ns=5000000," +
      "log_sample=10,log_seed=7;NULL;\n",
  );
});
