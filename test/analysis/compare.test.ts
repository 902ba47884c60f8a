// The difference of two logs, and whether its interval deserves its name.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { BlockBootstrap, poissonWeight } from "../../src/analysis/bootstrap.ts";
import { compareSides, type Difference, SideBuilder } from "../../src/analysis/compare.ts";
import { readLogs } from "../../src/analysis/log-reader.ts";
import { Window } from "../../src/analysis/window.ts";
import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";
import { kqtime } from "../lib/kqtime.ts";
import { Scope } from "../lib/process.ts";
import { random } from "../lib/synthetic-log.ts";

const OPTIONS = { by: "label", blockNs: 1e9, resamples: 400, seed: 1 } as const;
let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

let files = 0;

/**
 * A log of `seconds` seconds: every second has a queue of its own, of 10 ms × `scale` in the median,
 * and its 50 calls wait about that long: they are as dependent as can be.
 */
function writeLog(seed: number, seconds: number, scale: number, label = "out:443"): string {
  const path = scope.path(`compare-${files++}.log`);
  const log = Log.open(path, { baseSec: 1700000000, onError: (message) => expect(message).toBe("") });
  const next = random(seed);
  const uniform = () => (next() + 0.5) / 2 ** 32;
  const name = encodeName(label);
  for (let second = 0; second < seconds; second++) {
    const queueNs = 1e7 * scale * Math.exp(uniform() + uniform() + uniform() - 1.5);
    for (let call = 0; call < 50; call++) {
      const at = second * 1e9 + call * 1.9e7;
      const waitNs = Math.round(queueNs * (0.95 + uniform() / 10));
      log.call(0, at, at + waitNs, at + waitNs, 0, 1000, 0, 1, 3, 1, 4000, 443, name);
    }
  }
  log.close();
  return path;
}

function compare(a: string, b: string, options: { seed?: number; blockNs?: number } = {}): Difference[] {
  const sides = [a, b].map((path, index) => {
    const builder = new SideBuilder({ ...OPTIONS, ...options }, new Window(null, null), index);
    readLogs([path], builder);
    return builder.finish();
  });
  return compareSides(sides[0]!, sides[1]!);
}

function p50(rows: readonly Difference[]): Difference {
  return rows.find(({ quantile, weight }) => quantile === "p50" && weight === "call")!;
}

test("a difference is found, with its size; the same log has none", () => {
  const [a, b] = [writeLog(1, 200, 1), writeLog(2, 200, 1.5)];
  const rows = compare(a, b);
  expect(rows.length).toBe(8);
  const row = p50(rows);
  expect(row).toMatchObject({ group: "out:443", direction: "out", differs: true });
  expect(row.aNs! / 1e7).toBeCloseTo(1, 0);
  expect(row.differenceNs! / 1e6).toBeGreaterThan(2.5);
  expect(row.differenceNs! / 1e6).toBeLessThan(7.5);
  expect([row.lowNs! < row.differenceNs!, row.highNs! > row.differenceNs!]).toEqual([true, true]);
  const same = compare(a, a);
  expect(same.map(({ differenceNs }) => differenceNs)).toEqual(same.map(() => 0));
  expect(same.some(({ differs }) => differs)).toBe(false);
});

test("the same seed gives the same intervals, another one others", () => {
  const [a, b] = [writeLog(3, 60, 1), writeLog(4, 60, 1.1)];
  expect(compare(a, b)).toEqual(compare(a, b));
  expect(p50(compare(a, b, { seed: 2 })).lowNs).not.toBe(p50(compare(a, b)).lowNs);
});

test("of logs that do not differ, about one in twenty is said to; resampled calls would say it often", () => {
  // 50 dependent calls a second: blocks that hold one call each are as good as resampling calls.
  const count = (blockNs: number): number => {
    let differ = 0;
    for (let seed = 0; seed < 60; seed++) {
      const [a, b] = [writeLog(1000 + seed, 40, 1), writeLog(2000 + seed, 40, 1)];
      if (p50(compare(a, b, { blockNs })).differs) differ++;
    }
    return differ;
  };
  expect(count(1e9)).toBeLessThanOrEqual(9);
  expect(count(1e7)).toBeGreaterThan(25);
}, 60_000);

test("weights are Poisson(1), whatever the block", () => {
  for (const block of [0, 1, -5, 1700000000, 2 ** 40]) {
    const counts = new Array<number>(13).fill(0);
    for (let resample = 0; resample < 20000; resample++) counts[poissonWeight(9, block, resample)]!++;
    const mean = counts.reduce((sum, count, k) => sum + k * count, 0) / 20000;
    expect([block, Math.abs(mean - 1) < 0.03]).toEqual([block, true]);
    expect(Math.abs(counts[0]! / 20000 - Math.exp(-1))).toBeLessThan(0.02);
  }
  let sum = 0;
  for (let block = 0; block < 20000; block++) sum += poissonWeight(1, block, 3);
  expect(Math.abs(sum / 20000 - 1)).toBeLessThan(0.03);
});

test("blocks may come in any order, and in pieces", () => {
  const run = (order: readonly number[]) => {
    const bootstrap = new BlockBootstrap(1e9, 50, 1);
    for (const second of order) {
      for (let call = 0; call < 5; call++) {
        bootstrap.histogram(0, second * 1e9).record((second + 1) * 1e6 + call, 1);
      }
    }
    return { estimates: bootstrap.finish([0.5, 0.9]), blocks: bootstrap.blocks };
  };
  const rising = [...Array(100).keys()];
  const twice = [...rising, ...rising].sort((a, b) => a - b);
  const mixed = [...rising.map((n) => (n * 37) % 100), ...rising];
  expect(run(mixed)).toEqual(run(twice));
});

test("kqtime compare: a table for people, JSON for programs, a word if there is too little", async () => {
  const [a, b] = [writeLog(5, 8, 1), writeLog(6, 8, 3)];
  const exit = await kqtime(scope, ["compare", a, b]).success();
  expect(exit.stdout).toMatch(/^A {2}.*: 400 calls, 2023-11-1\dT.*\nB {2}/);
  expect(exit.stdout).toMatch(/^out:443 call p50 +\d.* ms +\d.* ms +\+.* ms +\S+ .s +\+.* \?$/m);
  expect(exit.stdout).toMatch(/^ +p99( +-){5}$/m);
  expect(exit.stdout).toMatch(/repeat the pair[^]*\n- = too few calls.* p99 500, [^]*\n\? = .* fewer than 20 blocks/);
  expect(exit.stderr).toMatch(/fewer than 20 blocks of 1.00 s have calls of out:443 outbound: 8: such/);
  const json = await kqtime(scope, ["compare", "--json", "--since", "+2s", a, b]).success();
  const found = JSON.parse(json.stdout);
  expect([found.a.calls, found.b.blocks, found.confidence, found.seed]).toEqual([300, 6, 0.95, 1]);
  expect(found.differences.length).toBe(8);
  const few = { aCalls: 300, bCalls: 300, aBlocks: 6, bBlocks: 6 };
  expect(found.differences[0]).toMatchObject({ ...few, quantile: "p50", note: "too few blocks", differs: false });
  const none = { aNs: null, bNs: null, differenceNs: null, lowNs: null, highNs: null, differs: false };
  expect(found.differences[2]).toMatchObject({ ...few, quantile: "p99", note: "too few calls", ...none });
});

test("no name is told as such in a table, and as the log has it to programs", async () => {
  const [a, b] = [writeLog(5, 8, 1, ""), writeLog(6, 8, 3, "")];
  const exit = await kqtime(scope, ["compare", a, b]).success();
  expect(exit.stdout).toMatch(/^\(no name\) +call p50 /m);
  expect(exit.stderr).toContain("have calls of (no name) outbound: 8");
  const json = await kqtime(scope, ["compare", "--json", a, b]).success();
  expect(JSON.parse(json.stdout).differences[0].group).toBe("NULL");
});

test("a side of several files, named in any order, is the same side as one file", async () => {
  const [a, b] = [writeLog(8, 24, 1), writeLog(9, 24, 1.2)];
  const folder = scope.path("sides");
  mkdirSync(folder);
  /** Three files, oldest first, as rotation names them. */
  const split = (path: string, name: string): string[] => {
    const lines = readFileSync(path, "utf8").split(/(?<=\n)/);
    return [".2.gz", ".1.gz", ""].map((suffix, part) => {
      const text = lines.slice((lines.length * part) / 3, (lines.length * (part + 1)) / 3).join("");
      writeFileSync(join(folder, name + suffix), suffix === "" ? text : gzipSync(text));
      return join(folder, name + suffix);
    });
  };
  const [as, bs] = [split(a, "a.log"), split(b, "b.log")];
  const run = async (words: string[]) => {
    const { stdout, stderr } = await kqtime(scope, ["compare", "--json", "--since", "+4s", ...words]).success();
    const { a, b, ...rest } = JSON.parse(stdout);
    const { log: logA, logs: logsA, ...sideA } = a;
    const { log: logB, logs: logsB, ...sideB } = b;
    return { figures: { ...rest, sideA, sideB }, names: [logA, logsA, logB, logsB], stderr };
  };
  const whole = await run([a, b]);
  expect(whole.figures.sideA).toMatchObject({ calls: 1000, blocks: 20 });
  expect(whole.names).toEqual([a, [a], b, [b]]);
  // `+4s` counts from the side's oldest file, and a file that is named twice is read once.
  const newestFirst = as.toReversed();
  const parts = await run([...newestFirst, as[0]!, "--", ...bs]);
  expect(parts.figures).toEqual(whole.figures);
  expect(parts.names).toEqual([[...newestFirst, as[0]].join(", "), [...newestFirst, as[0]], bs.join(", "), bs]);
  expect(parts.stderr).toContain(`${as[0]} was named twice: it is read once\n`);
  expect(parts.stderr).toContain(`the logs are read in the order of their time: ${as.join(", ")}\n`);
  expect((await run([a, "--", ...bs.toReversed()])).figures).toEqual(whole.figures);
  expect((await run([a, "--", b])).figures).toEqual(whole.figures);
});

test("a group has the quantiles that its own calls allow, and intervals by its own blocks", () => {
  const write = (waitMs: number): string => {
    const path = writeLog(7, 40, 1);
    const log = Log.open(path, { baseSec: 1700000000, onError: (message) => expect(message).toBe("") });
    const calls = (label: string, count: number, everyNs: number) => {
      const name = encodeName(label);
      for (let i = 0; i < count; i++) {
        const at = i * everyNs;
        const end = at + waitMs * 1e6 + i;
        log.call(0, at, end, end, 0, 1000, 0, 1, 3, 1, 4000, 443, name);
      }
    };
    calls("nine", 9, 1e9);
    calls("49", 49, 0.8e9);
    calls("crowd", 500, 2e7);
    log.close();
    return path;
  };
  const rows = compare(write(5), write(10));
  const notes = (wanted: string) =>
    rows.filter(({ group }) => group === wanted).map(({ note, differs }) => (differs ? "*" : note));
  const twice = <T>(words: T[]) => [...words, ...words];
  const few = "too few calls";
  expect(notes("nine")).toEqual(twice([few, few, few, few]));
  expect(notes("49")).toEqual(twice(["*", few, few, few]));
  const blocks = "too few blocks";
  expect(notes("crowd")).toEqual(twice([blocks, blocks, blocks, few]));
  expect(rows.find(({ group }) => group === "crowd")).toMatchObject({ aCalls: 500, aBlocks: 10, bBlocks: 10 });
});
