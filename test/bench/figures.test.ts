// How the benchmarks judge: verdicts, figures with their intervals, the processor time of another
// process, and that a load of nothing is no measurement.

import { expect, test } from "bun:test";
import { type BenchSummary, requireCalls, requireLoad } from "../../tools/bench/bench.ts";
import { processorNs } from "../../src/ffi/clocks.ts";
import { judged, Report, type Target } from "../../tools/bench/report.ts";
import { geometricMean, median, seeded, spread } from "../../tools/bench/stats.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";

const figure = (value: number, low = value, high = value) => ({ value, low, high, count: 10 });

test("a target is met by the whole interval, missed by all of it, or open", () => {
  const most: Target = { sign: "<=", value: 5 };
  const least: Target = { sign: ">=", value: 5 };
  const same: Target = { sign: "=", value: 5 };
  for (const [spread, verdicts] of [
    [figure(4, 3, 5), ["met", "open", "open"]],
    [figure(4, 3, 4.9), ["met", "missed", "missed"]],
    [figure(4, 3, 6), ["open", "open", "open"]],
    [figure(6, 5, 7), ["open", "met", "open"]],
    [figure(6, 5.1, 7), ["missed", "met", "missed"]],
    [figure(5), ["met", "met", "met"]],
    [figure(Number.NaN), ["missed", "missed", "missed"]],
  ] as const) {
    expect([most, least, same].map((target) => judged(spread, target))).toEqual([...verdicts]);
  }
});

test("only what is missed counts as missed", () => {
  const report = new Report(() => {});
  const target: Target = { sign: "<=", value: 5 };
  report.add("b", "met", "", figure(4, 3, 5), { target });
  report.add("b", "open", "", figure(5, 3, 6), { target });
  report.add("b", "above", "", figure(7, 6, 8), { target });
  report.add("b", "not judged", "", figure(7, 6, 8));
  expect(report.missed.map(({ what }) => what)).toEqual(["above"]);
  expect(report.table()).toMatch(/open .* open\n/);
  expect(report.table()).toMatch(/above .* MISSED\n/);
});

test("the interval of a ratio holds what is true, whatever the machine did to both sides", () => {
  for (const figure of [median, geometricMean]) {
    let held = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const random = seeded(seed);
      const ratios = Array.from({ length: 10 }, () => 1.2 * (0.9 + 0.2 * random()));
      const { value, low, high, count } = spread(ratios, figure);
      expect(low).toBeLessThan(value);
      expect(high).toBeGreaterThan(value);
      expect(high - low).toBeLessThan(0.2);
      expect(count).toBe(10);
      if (low <= 1.2 && 1.2 <= high) held++;
    }
    expect(held).toBeGreaterThan(80);
  }
});

test("a geometric mean is that of the factors; one value has no interval", () => {
  expect(geometricMean([1, 4, 16])).toBeCloseTo(4, 12);
  expect(spread([2, 0.5], geometricMean).value).toBeCloseTo(1, 12);
  expect(spread([3])).toEqual({ value: 3, low: 3, high: 3, count: 1 });
  expect(median([3, 1, 2])).toBe(2);
});

test("of a load of nothing there is no figure", () => {
  const summary = (out: number, inbound: number) =>
    ({ directions: { out: { calls: out }, in: { calls: inbound } } }) as unknown as BenchSummary;
  requireCalls(summary(1, 1), "x");
  expect(() => requireCalls(summary(0, 3), "x")).toThrow("x: kqtime has measured 0 calls out and 3 in");
  expect(() => requireCalls(summary(3, 0), "x")).toThrow();
  expect(requireLoad(0.5, "x")).toBe(0.5);
  for (const none of [0, -1, Number.NaN]) expect(() => requireLoad(none, "x")).toThrow("moved nothing");
});

testUnless(reason(!isLinux && "needs Linux"), "processor time counts threads that have ended", async () => {
  const script = `
    const code = "const end = performance.now() + 150; while (performance.now() < end); postMessage(0)";
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    await new Promise((resolve) => (worker.onmessage = resolve));
    const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
    worker.terminate();
    await closed;
    const { user, system } = process.cpuUsage();
    console.log((user + system) * 1000);
    for await (const _ of process.stdin);
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { stdin: "pipe", stdout: "pipe" });
  const { value } = await child.stdout.getReader().read();
  const toldNs = Number(new TextDecoder().decode(value));
  expect(toldNs).toBeGreaterThan(50e6);
  expect(processorNs(child.pid)).toBeGreaterThanOrEqual(toldNs * 0.98);
  expect(processorNs(child.pid)).toBeLessThan(toldNs + 1e9);
  child.stdin.end();
  await child.exited;
  expect(processorNs(child.pid)).toBe(0);
});
