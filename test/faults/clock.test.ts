// A clock that is set back or forward by an hour in the middle of everything: in clocks that are
// made up, in a history that is made up, and in a recording whose times are changed. (The machine's
// own clock is left alone.) What is measured is what would have been measured without.

import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ClockSteps } from "../../src/match/clock-steps.ts";
import type { Summary } from "../../src/output/summary.ts";
import { DirectionWord, EntryWord, SlotWord } from "../../src/ring/layout.ts";
import { ClockWatch } from "../../src/session/clock-watch.ts";
import { stepOf } from "../../src/session/recorded.ts";
import { EVENTS_FILE, Frame, HEADERS_FILE } from "../../src/session/tape.ts";
import { fixture } from "../lib/fixtures.ts";
import { BUN, flaws, kqtime, Measurement, ROOT } from "../lib/kqtime.ts";
import { loopback } from "../lib/loopback.ts";
import { MS } from "../match/bench.ts";
import { Random } from "../match/random.ts";
import { FedJoin } from "../session/fed-join.ts";

const HOUR_NS = 3600e9;
const STEPS = [["back", -HOUR_NS], ["forward", HOUR_NS]] as const;

class MadeUpClocks {
  bootNs = 5e12;
  aheadNs = -5e12 + 3e8;
  boottimeNs = () => (this.bootNs += 40);
  realtimeNs = () => (this.bootNs += 40) + this.aheadNs;
}

describe("a watch", () => {
  test("tells a step, once, and goes on by the clock as it was", () => {
    for (const [, byNs] of STEPS) {
      const clocks = new MadeUpClocks();
      const watch = new ClockWatch(0, clocks);
      const startNs = watch.nowNs();
      expect(Math.abs(startNs - 3e8)).toBeLessThan(1000);
      clocks.bootNs += 1e9;
      expect(watch.look()).toBe(null);
      clocks.bootNs += 1e9;
      clocks.aheadNs += byNs;
      const step = watch.look()!;
      expect(Math.abs(step.byNs - byNs)).toBeLessThan(1000);
      expect(Math.abs(step.fromNs - startNs - 1e9)).toBeLessThan(10_000);
      expect(Math.abs(step.toNs - startNs - 2e9)).toBeLessThan(10_000);
      expect(watch.look()).toBe(null);
      expect(Math.abs(watch.nowNs() - startNs - 2e9)).toBeLessThan(10_000);
    }
  });

  test("a slow look, a slewed clock and a machine that sleeps are none", () => {
    const clocks = new MadeUpClocks();
    const watch = new ClockWatch(0, clocks);
    for (let n = 0; n < 1000; n++) {
      clocks.bootNs += n === 500 ? HOUR_NS : 50e6;
      clocks.realtimeNs = () => (clocks.bootNs += n % 7 === 0 ? 30e6 : 40) + clocks.aheadNs;
      expect(watch.look()).toBe(null);
    }
  });
});

test("of two moments that a stamp can mean, the one that is nearer to the last packet", () => {
  const clock = new ClockSteps();
  expect(clock.steady(7)).toBe(7);
  clock.add({ fromNs: 100 * MS, toNs: 120 * MS, byNs: -HOUR_NS });
  clock.add({ fromNs: 900 * MS, toNs: 910 * MS, byNs: 2 * HOUR_NS });
  const stamps: [number, number][] = [
    [50 * MS, 50 * MS], [110 * MS, 110 * MS], [105 * MS - HOUR_NS, 105 * MS],
    [800 * MS - HOUR_NS, 800 * MS], [950 * MS + HOUR_NS, 950 * MS], [90e9 + HOUR_NS, 90e9],
  ];
  for (const [stamp, ns] of stamps) expect(clock.steady(stamp)).toBe(ns);
});

test("the steady time of a stamp is that of all moments which it can mean", () => {
  const random = new Random(5);
  for (let run = 0; run < 50; run++) {
    const clock = new ClockSteps();
    const ahead = [0];
    let latestNs = 0;
    for (let n = 1; n <= 40; n++) {
      const byNs = random.pick([2 * MS, -2 * MS, HOUR_NS, -HOUR_NS, 3e9, -3e9]);
      clock.add({ fromNs: n * 1e9 - MS, toNs: n * 1e9, byNs });
      ahead.push(ahead.at(-1)! + byNs);
      latestNs = n * 1e9 + random.below(900) * MS;
      clock.steadyAll(Float64Array.of(latestNs + ahead.at(-1)!), 1);
      const stamp = random.below(n * 1000) * MS + random.pick(ahead);
      const meant = ahead.map((by) => stamp - by).filter((ns, step) =>
        (step === 0 || ns >= step * 1e9 - MS) && (step === n || ns <= (step + 1) * 1e9),
      );
      if (meant.length === 0) continue;
      const nearest = Math.min(...meant.map((ns) => Math.abs(ns - latestNs)));
      expect(Math.abs(clock.steady(stamp) - latestNs)).toBe(nearest);
    }
    expect([clock.told.count, clock.told.first.length]).toEqual([40, 5]);
    expect([clock.takeInterval().count, clock.takeInterval().count]).toEqual([40, 0]);
  }
});

test("steps without end: those of the last minutes are looked at, and a stamp costs as much as ever", () => {
  const clock = new ClockSteps();
  // Forward each time: no time comes twice, each stamp means one moment.
  for (let n = 1; n <= 100_000; n++) clock.add({ fromNs: n * 1e9 - MS, toNs: n * 1e9, byNs: 3e9 });
  const shown = (ns: number) => ns + Math.floor(ns / 1e9) * 3e9;
  for (const agoNs of [0, 1e9, 20e9, 60e9]) {
    const ns = 100_000e9 + 500 * MS - agoNs;
    expect(clock.steady(shown(ns))).toBe(ns);
  }
  const startMs = performance.now();
  for (let n = 0; n < 100_000; n++) clock.steady(n);
  // All steps for each of them would be minutes.
  expect(performance.now() - startMs).toBeLessThan(2000);
  const rare = new ClockSteps();
  for (let n = 1; n <= 4; n++) rare.add({ fromNs: n * 400e9 - MS, toNs: n * 400e9, byNs: 3e9 });
  for (const agoNs of [0, 300e9, 700e9]) expect(rare.steady(shown3(1600e9 + MS - agoNs))).toBe(1600e9 + MS - agoNs);
});

/** By a clock that is set forward by three seconds each 400. */
function shown3(ns: number): number {
  return ns + Math.floor(ns / 400e9) * 3e9;
}

test("a recording's step that cannot have been is refused", () => {
  const good = [100, 200, -HOUR_NS];
  expect(stepOf(Float64Array.from(good))).toEqual({ fromNs: 100, toNs: 200, byNs: -HOUR_NS });
  for (const odd of [NaN, Infinity, -Infinity, 2 ** 60, -(2 ** 60)]) {
    for (const n of [0, 1, 2]) {
      const step = Float64Array.from(good);
      step[n] = odd;
      expect([odd, n, stepOf(step)]).toEqual([odd, n, null]);
    }
  }
  expect(stepOf(Float64Array.of(201, 200, 1e6))).toBe(null);
});

/** What a history that is made up shows, by a clock that is set at `stepNs`. */
function tell(seed: number, byNs: number, isTold: boolean) {
  const random = new Random(seed);
  const fed = new FedJoin({ intervalNs: 100 * MS, queues: true });
  const { bench } = fed;
  const stepNs = 333 * MS;
  const shown = (ns: number) => (ns > stepNs ? ns + byNs : ns);
  let stepped = false;
  let [sent, left, read] = [0, 0, 0];
  bench.listen();
  const client = bench.connected(1 * MS - 500);
  const server = bench.accepted(1 * MS + 3000);
  bench.handshake(1 * MS);
  for (let atNs = 2 * MS; atNs < 1000 * MS; atNs += 1 + random.below(6 * MS)) {
    if (!stepped && atNs > stepNs) {
      stepped = true;
      if (isTold) bench.engine.clock.add({ fromNs: stepNs - MS, toNs: atNs, byNs });
    }
    const bytes = random.within(1, 3000);
    const kind = random.below(3);
    if (kind === 0) {
      bench.send(client, shown(atNs), sent, bytes);
      sent += bytes;
    } else if (kind === 1 && left < sent) {
      const moved = Math.min(bytes, sent - left);
      bench.packet(shown(atNs), true, left, moved);
      left += moved;
    } else if (read < left) {
      const moved = Math.min(bytes, left - read);
      bench.receive(server, shown(atNs), read, moved);
      read += moved;
    }
    if (random.chance(0.3)) bench.engine.tick(atNs - random.below(30 * MS));
  }
  // Another connection, all of it afterwards.
  bench.renew(77, 99);
  const again = bench.connected(shown(1010 * MS - 500));
  bench.handshake(shown(1010 * MS));
  bench.send(again, shown(1011 * MS), 0, 500);
  bench.packet(shown(1012 * MS), true, 0, 500);
  bench.engine.tick(1100 * MS);
  return { whole: fed.finish(1200 * MS), intervals: fed.intervals };
}

for (const [way, byNs] of STEPS) {
  test(`set ${way} by an hour: the same as without, and said`, () => {
    for (let seed = 1; seed <= 40; seed++) {
      const plain = tell(seed, 0, false);
      const stepped = tell(seed, byNs, true);
      const said = new RegExp(`the clock was set ${way} by 3600 s at 2023-`);
      expect(stepped.whole.warnings.filter((text) => said.test(text)).length).toBe(1);
      expect({ ...stepped.whole, warnings: [] }).toEqual({ ...plain.whole, warnings: [] });
      expect(stepped.whole.directions.out.coverage).toBe(1);
      const bare = (intervals: readonly Summary[]) => intervals.map((one) => ({ ...one, warnings: [] }));
      expect(bare(stepped.intervals)).toEqual(bare(plain.intervals));
      expect(stepped.intervals.filter(({ warnings }) => warnings.some((text) => said.test(text))).length).toBe(1);
    }
  });

  test(`set ${way}, and nobody noticed: never a negative time, and books that balance`, () => {
    let clock = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const { whole, intervals } = tell(seed, byNs, false);
      for (const summary of [whole, ...intervals]) {
        expect(summary.durationNs).toBeGreaterThanOrEqual(0);
        for (const { callNs, byteNs, bytesUnmatched } of [summary.directions.out, summary.directions.in]) {
          for (const { min } of [callNs, byteNs]) expect(min ?? 0).toBeGreaterThanOrEqual(0);
          clock += bytesUnmatched["clock"] ?? 0;
        }
      }
      expect(whole.booksBalance).toBe(true);
    }
    expect(clock > 0).toBe(byNs < 0);
  });
}

/** Adds `byNs` to a time of two u32 words. */
function shift(words: DataView, at: number, byNs: bigint): void {
  words.setBigUint64(at, words.getBigUint64(at, true) + byNs, true);
}

/** The recording as it would be, had the clock been set at `atNs` of the Unix epoch. */
function setClock(folder: string, atNs: bigint, byNs: number): void {
  const by = BigInt(byNs);
  const path = join(folder, EVENTS_FILE);
  const tape = readFileSync(path);
  const parts: Uint8Array[] = [new TextEncoder().encode("kqtime tape 4\n\0\0")];
  let baseNs = 0n;
  let told = false;
  const chunk = (...frames: Uint8Array[]) => {
    const body = Buffer.concat(frames);
    parts.push(new Uint8Array(Uint32Array.of(body.length, ~body.length, Bun.hash.crc32(body)).buffer), body);
  };
  const shifted = (view: DataView, at: number): boolean => {
    if (view.getBigUint64(at, true) <= atNs) return false;
    shift(view, at, by);
    return true;
  };
  let packets = 0;
  const pcap = readFileSync(join(folder, HEADERS_FILE));
  const pcapView = new DataView(pcap.buffer, pcap.byteOffset, pcap.length);
  const stampAt: number[] = [];
  for (let at = 24; at < pcap.length; at += 16 + pcap.readUInt32LE(at + 8)) stampAt.push(at);
  const stampOf = (n: number) =>
    BigInt(pcapView.getUint32(stampAt[n]!, true)) * 1_000_000_000n + BigInt(pcapView.getUint32(stampAt[n]! + 4, true));
  for (let at = 16; at < tape.length; ) {
    const length = tape.readUInt32LE(at);
    const end = at + 12 + length;
    for (at += 12; at < end; ) {
      const type = tape.readUInt32LE(at);
      const bytes = tape.readUInt32LE(at + 4);
      const frame = Uint8Array.from(tape.subarray(at, at + 8 + ((bytes + 3) >> 2) * 4));
      const view = new DataView(frame.buffer);
      at += frame.length;
      let isAfter = false;
      if (type === Frame.Setup) {
        const setup = JSON.parse(new TextDecoder().decode(frame.subarray(8, 8 + bytes)));
        baseNs = BigInt(setup.baseSec) * 1_000_000_000n;
      } else if (type === Frame.Record) {
        isAfter = shifted(view, 12 + SlotWord.timeNs * 4);
      } else if (type === Frame.Entry) {
        for (const word of [
          EntryWord.birthNs, EntryWord.out + DirectionWord.callNs, EntryWord.in + DirectionWord.callNs,
        ]) isAfter = shifted(view, 16 + word * 4) || isAfter;
      } else if (type === Frame.Packets) {
        packets += view.getUint32(8, true);
        isAfter = packets > 0 && stampOf(packets - 1) > atNs;
      }
      if (isAfter && !told) {
        told = true;
        const ns = Number(atNs - baseNs);
        const step = Float64Array.of(ns - 10 * MS, ns + 10 * MS, byNs);
        chunk(new Uint8Array(Uint32Array.of(Frame.Clock, 24).buffer), new Uint8Array(step.buffer));
      }
      // Without the checksum of the packets as they were, as recordings of earlier versions are.
      chunk(type === Frame.Packets ? withoutLastWord(frame) : frame);
    }
  }
  expect(told).toBe(true);
  for (const [n, at] of stampAt.entries()) {
    const ns = stampOf(n);
    if (ns <= atNs) continue;
    pcapView.setUint32(at, Number((ns + by) / 1_000_000_000n), true);
    pcapView.setUint32(at + 4, Number((ns + by) % 1_000_000_000n), true);
  }
  writeFileSync(path, Buffer.concat(parts));
  writeFileSync(join(folder, HEADERS_FILE), pcap);
}

/** A frame whose body is one word shorter. */
function withoutLastWord(frame: Uint8Array): Uint8Array {
  const shorter = frame.slice(0, frame.length - 4);
  const view = new DataView(shorter.buffer);
  view.setUint32(4, view.getUint32(4, true) - 4, true);
  return shorter;
}

loopback("a recording of a clock that was set: the same log and summary", async (node, scope) => {
  const folder = scope.path("record");
  const measurement = new Measurement(scope, [
    await fixture("flow"), "pair", "--address", node.v4, "--port", "7800", "--conns", "3", "--seconds",
    "2.5", "--size", "3000", "--both", "--write-sleep", "2", "--read-sleep", "3",
  ], { prefix: node.prefix, options: ["--record", folder, "--stats-interval", "0.25"] });
  await measurement.running.success();
  expect(flaws(measurement)).toEqual([]);
  const { startUnixNs, durationNs } = measurement.summary();
  const middle = BigInt(startUnixNs) + BigInt(durationNs) / 2n;
  const log = readFileSync(measurement.logPath, "utf8");
  for (const [way, byNs] of STEPS) {
    const copy = scope.path(way);
    await scope.run(["cp", "-r", folder, copy]);
    setClock(copy, middle, byNs);
    const [again, json] = [scope.path(`${way}.log`), scope.path(`${way}.json`)];
    await kqtime(scope, ["replay", "--quiet", copy, "--log", again, "--json", json]).success();
    expect(readFileSync(again, "utf8") === log).toBe(true);
    const { warnings, ...summary } = JSON.parse(readFileSync(json, "utf8"));
    const { warnings: _, ...before } = measurement.summary();
    expect(summary).toEqual(before);
    expect(warnings).toEqual([expect.stringMatching(`the clock was set ${way} by 3600 s at 20`)]);
  }
  expect(log).toContain("KQTIME-STATS;");
});

loopback("a kqtime whose watch tells a step says so, while it runs and in its recording", async (node, scope) => {
  // In a process of its own, with a watch that tells a step of nothing much, once, after a second.
  const folder = scope.path("record");
  const script = `
    import { ClockWatch } from ${JSON.stringify(join(ROOT, "src/session/clock-watch.ts"))};
    const { look } = ClockWatch.prototype;
    const sinceMs = performance.now();
    let told = false;
    ClockWatch.prototype.look = function () {
      if (told || performance.now() - sinceMs < 1000) return look.call(this);
      told = true;
      const ns = this.nowNs();
      return { fromNs: ns - 1e6, toNs: ns, byNs: -1 };
    };
    process.argv.splice(1, 1, ${JSON.stringify(join(ROOT, "kqtime.ts"))});
    await import(${JSON.stringify(join(ROOT, "kqtime.ts"))});
  `;
  const path = scope.path("stepped.ts");
  writeFileSync(path, script);
  const [json, again] = [scope.path("stepped.json"), scope.path("again.json")];
  await scope.run([
    BUN, path, "run", "--quiet", "--record", folder, "--json", json, "--", await fixture("flow"), "pair",
    "--address", node.v4, "--port", "7801", "--seconds", "2", "--write-sleep", "2",
  ], { prefix: node.prefix, cwd: ROOT });
  const said = [expect.stringMatching(/^the clock was set back by 1 ns at 20/)];
  await kqtime(scope, ["replay", "--quiet", folder, "--json", again]).success();
  for (const summary of [json, again].map((one) => JSON.parse(readFileSync(one, "utf8")) as Summary)) {
    expect(summary.warnings).toEqual(said);
    expect([summary.directions.out.coverage, summary.directions.in.coverage]).toEqual([1, 1]);
  }
});
