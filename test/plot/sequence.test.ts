// The time–sequence graph: bytes on the wire are counted once each, in whatever order they pass,
// and of a real recording the distances in the picture are the times in the log.

import { beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Moment, parseMoment } from "../../src/analysis/moments.ts";
import { Window } from "../../src/analysis/window.ts";
import { Font } from "../../src/plot/fonts.ts";
import { Marks } from "../../src/plot/sequence/marks.ts";
import { sequencePages } from "../../src/plot/sequence/pages.ts";
import { type SocketTrace, traceSocket } from "../../src/plot/sequence/trace.ts";
import { Stream } from "../../src/plot/sequence/wire.ts";
import type { Spec } from "../../src/plot/spec.ts";
import { OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BASE_SEC, kqtime, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";
import { lookAt } from "./looks.ts";

let font: Font;

beforeAll(async () => {
  font = await Font.load();
});

const START = 0xffffff00;
const number = (offset: number): number => (START + offset) >>> 0;

function ranges(marks: Marks): [number, number, number][] {
  return Array.from({ length: marks.count }, (_, i) => [
    marks.atSec[i]!,
    marks.from[i]!,
    marks.to[i]!,
  ]);
}

test("packets in any order: each byte is seen first once, the rest again; numbers wrap", () => {
  const packets = fc.array(fc.tuple(fc.nat(1500), fc.integer({ min: 1, max: 300 })), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(packets, (list) => {
      const stream = new Stream();
      stream.anchor(START);
      const seen = new Uint32Array(2000);
      list.forEach(([offset, bytes], i) => {
        stream.packet(i, number(offset), bytes);
        for (let at = offset; at < offset + bytes; at++) seen[at]!++;
      });
      const first = new Uint32Array(2000);
      const again = new Uint32Array(2000);
      for (const [, from, to] of ranges(stream.packets))
        for (let at = from; at < to; at++) first[at]!++;
      for (const [, from, to] of ranges(stream.again))
        for (let at = from; at < to; at++) again[at]!++;
      expect([...first]).toEqual([...seen].map((times) => Math.min(times, 1)));
      expect([...again]).toEqual([...seen].map((times) => Math.max(0, times - 1)));
    }),
    { numRuns: 300 },
  );
});

test("acknowledgements rise, and not beyond what was sent: a FIN has a number and no byte", () => {
  const stream = new Stream();
  stream.anchor(START);
  stream.packet(1, number(0), 1000);
  stream.ack(2, number(400));
  stream.ack(3, number(300));
  stream.ack(4, number(1001));
  expect(ranges(stream.acks)).toEqual([
    [2, 0, 400],
    [4, 400, 1000],
  ]);
});

test("marks that are put together cover what they covered before, and no gap", () => {
  const packets = fc.array(fc.tuple(fc.nat(1000), fc.nat(500), fc.integer({ min: 1, max: 100 })), {
    minLength: 1,
  });
  fc.assert(
    fc.property(packets, (list) => {
      const marks = new Marks();
      for (const [at, from, bytes] of list) marks.add(at / 1000, from, from + bytes);
      const covered = (some: Marks): number[] => {
        const bytes = new Set<number>();
        for (const [, from, to] of ranges(some)) for (let at = from; at < to; at++) bytes.add(at);
        return [...bytes].sort((a, b) => a - b);
      };
      const reduced = marks.sorted().reduced(0.1).marks;
      expect(covered(reduced)).toEqual(covered(marks));
      expect(reduced.count).toBeLessThanOrEqual(marks.count);
    }),
  );
});

test("before its first step a curve is at what that begins at, which may not be byte 0", () => {
  const marks = new Marks();
  expect(marks.levelAt(5)).toBeNaN();
  marks.add(1, 5000, 6000);
  marks.add(2, 6000, 6100);
  // What was there when a measurement was taken over comes again, or late.
  marks.add(3, 4000, 4500);
  expect([0, 1, 1.5, 2.5, 9].map((sec) => marks.levelAt(sec))).toEqual([5000, 5000, 6000, 6100, 6100]);
});

function made(...all: [number, number, number][]): Marks {
  const marks = new Marks();
  for (const [at, from, to] of all) marks.add(at, from, to);
  return marks;
}

test("the picture is of the window that was asked for, and as high as what is in it", async () => {
  const none = made();
  const trace: SocketTrace = {
    sock: 1, name: "NULL", originSec: 1_700_000_000, startSec: 0, fromSec: 10, untilSec: 14,
    written: { marks: none, level: 1_960_000 },
    read: { marks: none, level: Number.NaN },
    out: {
      packets: made([12.1, 960_000, 961_448], [12.2, 961_448, 962_896]),
      again: none,
      acks: { marks: made([12.15, 960_000, 961_448]), level: 960_000 },
    },
    in: { packets: none, again: none, acks: { marks: none, level: Number.NaN } },
  };
  const [page] = sequencePages({ font, use: "still", remarks: [] }, trace);
  expect(page!.title).toBe("Time–sequence graph of socket 1 ((no name)), outbound");
  const [panel] = (page!.spec.vconcat as Spec[])[0]!.vconcat as Spec[];
  const layers = panel!.layer as Spec[];
  const { x, y } = layers[0]!.encoding as { x: Spec; y: Spec };
  const [from, until] = (x.scale as Spec).domain as number[];
  expect([from, until]).toEqual([9.96, 14.04]);
  const [low, high] = (y.scale as Spec).domain as number[];
  expect(low).toBeGreaterThan(800_000);
  expect(high).toBeLessThan(2_200_000);
  // The level of what was written goes from one end of it to the other.
  const level = ((layers[1]!.data as Spec).values as Spec[]).map(({ t }) => t);
  expect(level).toEqual([10, 14]);
  // Packets are drawn above the wider line of what was acknowledged, and are never too small for it.
  const marks = layers.map(({ mark }) => mark as Spec);
  expect(marks.map(({ type }) => type)).toEqual(["line", "line", "rule"]);
  expect(marks[0]!.strokeWidth as number).toBeGreaterThan(marks[2]!.strokeWidth as number);
  expect(marks[2]!.strokeCap).toBe("square");
  expect((await lookAt(page!.spec, font)).faults).toEqual([]);
});

test("a curve that goes through the window as a level is within the picture", () => {
  const none = made();
  for (const [level, ackLevel] of [[90_000, 49_000], [50_500, 10_000]] as const) {
    const wire = {
      packets: made([1, 50_000, 50_500], [2, 50_500, 51_000]),
      again: none,
      acks: { marks: none, level: ackLevel },
    };
    const unused = { packets: none, again: none, acks: { marks: none, level: Number.NaN } };
    const trace: SocketTrace = {
      sock: 1, name: "a", originSec: 1_700_000_000, startSec: 0, fromSec: null, untilSec: null,
      written: { marks: none, level }, read: { marks: none, level: Number.NaN }, out: wire, in: unused,
    };
    const pages = sequencePages({ font, use: "still", remarks: [] }, trace);
    expect(pages.length).toBe(1);
    const [, low, high] = /"domain":\[([\d.]+),([\d.]+)\],"zero"/.exec(JSON.stringify(pages[0]!.spec))!;
    expect(Number(low)).toBeLessThanOrEqual(Math.min(ackLevel, 50_000));
    expect(Number(high)).toBeGreaterThanOrEqual(Math.max(level, 51_000));
  }
});

function warned(message: string): void {
  throw new Error(message);
}

/** When the packet with this byte was seen first, ns after the log's base. */
function seenNs(trace: SocketTrace, marks: Marks, byte: number): number {
  const hit = ranges(marks).find(([, from, to]) => from <= byte && byte < to);
  return hit === undefined ? Number.NaN : (trace.originSec - BASE_SEC + hit[0]) * 1e9;
}

e2e("of a recording, the distance between calls and packets is the time in the log", () =>
  withLoopback(async (node, scope) => {
    const folder = scope.path("record");
    const measurement = new Measurement(
      scope,
      [
        await fixture("flow"),
        "pair",
        "--address",
        node.v4,
        "--port",
        "7020",
        "--conns",
        "3",
        "--total",
        "300000",
        "--size",
        "3000",
        "--both",
      ],
      { prefix: node.prefix, options: ["--record", folder, "--log-size", "1G"] },
    );
    await measurement.running.success();
    const { calls } = measurement.log();
    const socks = new Set(calls.map(({ sock }) => sock));
    expect(socks.size).toBe(6);
    let checked = 0;
    for (const sock of socks) {
      const trace = traceSocket(folder, sock, new Window(null, null), warned);
      for (const call of calls.filter((one) => one.sock === sock)) {
        const isOut = call.direction === OUT;
        const last = call.offset + call.bytes - 1;
        const seen = seenNs(trace, isOut ? trace.out.packets : trace.in.packets, last);
        const called = (isOut ? trace.written : trace.read).marks;
        expect(Math.abs(seen - (isOut ? call.endNs : call.startNs))).toBeLessThan(1000);
        expect(
          Math.abs(seenNs(trace, called, last) - (isOut ? call.startNs : call.endNs)),
        ).toBeLessThan(1000);
        checked++;
      }
      const pages = sequencePages({ font, use: "still", remarks: [] }, trace);
      expect(pages.map(({ id }) => id)).toEqual(["sequence-outbound", "sequence-inbound"]);
      for (const { spec } of pages) expect((await lookAt(spec, font)).faults).toEqual([]);
    }
    expect(checked).toBe(calls.length);

    // A window counts from the log's first line, KQTIME-META, and not from the socket's first call.
    const [head = ""] = readFileSync(measurement.logPath, "utf8").split("\n", 1);
    const [, sec, fraction] = /start=(\d+)\.(\d{9})/.exec(head)!;
    const logStartNs = (Number(sec) - BASE_SEC) * 1e9 + Number(fraction);
    const outbound = calls.filter(({ direction }) => direction === OUT);
    const last = outbound.reduce((a, b) => (b.startNs > a.startNs ? b : a));
    const behind = (ns: number) => new Window({ kind: "after", ns }, null);
    const ends = [last.startNs - logStartNs - 5000, last.startNs - logStartNs + 5000];
    const left = ends.map((ns) => traceSocket(folder, last.sock, behind(ns), warned).written.marks.count);
    expect(left).toEqual([1, 0]);

    const [sock] = socks;
    const path = scope.path("socket.svg");
    await kqtime(scope, ["plot", "--socket", `${sock}`, "-o", path, folder]).success();
    const window = new Window(null, parseMoment("+1ms"));
    const early = traceSocket(folder, sock!, window, warned);
    const whole = traceSocket(folder, sock!, new Window(null, null), warned);
    expect(early.written.marks.count).toBeLessThan(whole.written.marks.count);
    expect([early.startSec, early.originSec]).toEqual([whole.startSec, whole.originSec]);
    expect([early.fromSec, whole.fromSec, whole.untilSec]).toEqual([null, null, null]);
    expect(early.untilSec).toBeCloseTo(early.startSec + 1e-3, 9);
    // What lies outside of the recording is not drawn.
    const wide = new Window(parseMoment("2001-01-01"), parseMoment("+1h"));
    const clipped = traceSocket(folder, sock!, wide, warned);
    expect(clipped.fromSec).toBe(whole.startSec);
    expect(clipped.untilSec!).toBeGreaterThan(whole.read.marks.atSec[whole.read.marks.count - 1]!);
    expect(clipped.untilSec!).toBeLessThan(whole.startSec + 60);

    // A packet without a call at its time: the curve goes through the window as a level.
    const { marks } = whole.written;
    const packet = ranges(whole.out.packets).find(
      ([at]) => at > marks.atSec[0]! && marks.between(at - 2e-7, at + 2e-7).count === 0,
    )!;
    const after = (sec: number): Moment => ({
      kind: "after",
      ns: Math.round((sec - whole.startSec) * 1e9),
    });
    const between = new Window(after(packet[0] - 2e-7), after(packet[0] + 2e-7));
    const quiet = traceSocket(folder, sock!, between, warned);
    expect(quiet.written.marks.count).toBe(0);
    expect(quiet.written.level).toBe(marks.between(-Infinity, packet[0]).highest);
    const drawn = sequencePages({ font, use: "still", remarks: [] }, quiet);
    expect(drawn[0]!.id).toBe("sequence-outbound");
    expect(JSON.stringify(drawn[0]!.spec)).toContain(
      `"to":${quiet.written.level},"what":"written by the application"`,
    );
    for (const { spec } of drawn) expect((await lookAt(spec, font)).faults).toEqual([]);

    const none = await kqtime(scope, ["plot", "--socket", "99", "-o", path, folder]).exited;
    expect(none.code).toBe(125);
    expect(none.stderr).toMatch(
      /has no socket 99 with bytes; those with most bytes: \d+ \((out|in):7020\), /,
    );
    writeFileSync(join(folder, "headers.pcap"), "");
    const damaged = await kqtime(scope, ["plot", "--socket", `${sock}`, "-o", path, folder]).exited;
    expect(damaged.code).toBe(125);
  }),
);
