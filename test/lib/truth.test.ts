// The judge is judged: what compare() and SeenStream must find in a log that is wrong by a little,
// and must not find in one that is right. Needs no privilege.

import { describe, expect, test } from "bun:test";
import { IN, OUT, type CallStream } from "./calllog.ts";
import { parseLog, type CallLine, type KQTimeLog } from "./kqlog.ts";
import { Seen, SeenStream } from "./pcap.ts";
import { compare, perfectLog, type Truth } from "./truth.ts";

const SYN = 2;
const ACK = 16;

function stream(direction: typeof OUT | typeof IN, beforeNs: number): CallStream {
  const calls = [0, 1000, 2000].map((offset, i) => ({
    beforeNs: beforeNs + i * 1e6, afterNs: beforeNs + i * 1e6 + 5000, offset, bytes: 1000,
  }));
  const [lport, rport] = direction === OUT ? [5000, 80] : [80, 5000];
  return { connection: 0, direction, lport, rport, fd: 3, calls, bytes: 3000, idleCalls: 0 };
}

/** Three calls, sent as two packets of 1500 bytes, of which the first arrives after the second. */
function truthOf(direction: typeof OUT | typeof IN): Truth {
  const seen = new Seen();
  const initial = 0xfffffa00; // The sequence number turns over within the stream.
  const packet = (offset: number, length: number, timeNs: number, flags = ACK) =>
    seen.packet("a", "b", 5000, 80, (initial + offset) >>> 0, flags, length, timeNs);
  packet(0, 0, 1e6, SYN);
  packet(1501, 1500, 10e6);
  packet(1, 1500, 12e6);
  packet(1, 1500, 13e6); // Again: it counts as repeated, and its first sighting stays.
  return { calls: [stream(direction, direction === OUT ? 5e6 : 20e6)], seen };
}

describe("a stream that was seen", () => {
  test("first sightings, repetitions, holes and order", () => {
    const { seen } = truthOf(OUT);
    const [one] = seen!.between(5000, 80);
    expect(one.repeated).toBe(1500);
    expect(one.filledHoles).toBe(1);
    expect(one.bytes).toBe(3000);
    expect([one.timeOf(0), one.timeOf(1499), one.timeOf(1500), one.timeOf(2999)])
      .toEqual([12e6, 12e6, 10e6, 10e6]);
    expect([one.inorderOf(0), one.inorderOf(2999)]).toEqual([12e6, 12e6]);
    expect(one.timeOf(3000)).toBeNaN();
  });

  test("offsets beyond 4 GiB", () => {
    const one = new SeenStream("a", "b", 1, 2, 7, 0);
    let offset = 0;
    for (let turn = 0; turn < 10; turn++) {
      const start = one.offsetOf((offset + 8) >>> 0);
      expect(start).toBe(offset);
      one.see(start, start + 2 ** 30, turn);
      offset += 2 ** 30;
    }
    expect(one.timeOf(9 * 2 ** 30)).toBe(9);
    expect(one.offsetOf((5 + 8) >>> 0)).toBe(2 ** 33 + 5);
  });
});

const WRONG: [string, (log: KQTimeLog, line: CallLine) => void, RegExp][] = [
  ["a line is missing", (log) => log.calls.splice(1, 1), /wrong number of lines/],
  ["a line is there twice", (log, line) => log.calls.push({ ...line }), /counted twice/],
  ["a byte too many", (_, line) => line.bytes++, /no call|wrong range/],
  ["a byte too few", (_, line) => line.bytes--, /wrong range/],
  ["a shifted offset", (_, line) => line.offset++, /no call|wrong range/],
  ["the first byte's packet", (_, line) => (line.firstNs += 30_000), /of the first byte/],
  ["another socket's line", (log, line) => log.calls.push({ ...line, lport: 9, sock: 9 }), /does not know/],
];

for (const direction of [OUT, IN] as const) {
  const word = direction === OUT ? "outbound" : "inbound";
  describe(`compare, ${word}`, () => {
    test("a perfect log has no mismatch", () => {
      const truth = truthOf(direction);
      const comparison = compare(perfectLog(truth), truth);
      expect(comparison.report()).toBe("");
      expect(comparison).toMatchObject({ calls: 3, lines: 3, bytes: 3000 });
      if (direction === IN) expect(comparison.reassembled).toBe(2);
    });

    for (const [what, spoil, kind] of WRONG) {
      test(what, () => {
        const truth = truthOf(direction);
        const log = perfectLog(truth);
        spoil(log, log.calls[1]);
        expect(compare(log, truth).report()).toMatch(kind);
      });
    }

    test("the call's own stamp", () => {
      const truth = truthOf(direction);
      const log = perfectLog(truth);
      if (direction === OUT) log.calls[2].startNs -= 1;
      else log.calls[2].endNs += 1;
      expect(compare(log, truth).report()).toMatch(/outside the call/);
    });

    test("the last byte's packet", () => {
      const truth = truthOf(direction);
      const log = perfectLog(truth);
      if (direction === OUT) log.calls[2].endNs += 25_000;
      else log.calls[2].startNs += 25_000;
      expect(compare(log, truth).report()).toMatch(/of the last byte/);
    });
  });
}

test("an inbound byte that only seems contiguous", () => {
  const truth = truthOf(IN);
  const log = perfectLog(truth);
  log.calls[2].inorderNs = 10e6;
  expect(compare(log, truth).report()).toMatch(/contiguous/);
});

test("an arrival before the departure is no noise, a little early is", () => {
  const truth = truthOf(IN);
  const far = new Seen();
  far.packet("a", "b", 5000, 80, 0xfffffa00, SYN, 0, 0);
  far.packet("a", "b", 5000, 80, 0xfffffa01, ACK, 1500, 12e6 - 60_000);
  far.packet("a", "b", 5000, 80, (0xfffffa00 + 1501) >>> 0, ACK, 1500, 10e6 - 60_000);
  const log = perfectLog(truth);
  log.calls[2].startNs -= 50_000;
  expect(compare(log, { ...truth, far }).report()).toBe("");
  log.calls[2].startNs -= 50_000;
  expect(compare(log, { ...truth, far }).report()).toMatch(/arrival of the last byte/);
});

describe("the reader of logs", () => {
  const line = "KQTIME-OUT;start=10.000000001,end=10.000000500,fd=3,bytes=5,first=10.000000400,"
    + "off=0,pid=1,sock=1,lport=2,rport=3;out:3;";

  test("reads nanoseconds", () => {
    const [call] = parseLog(`${line}\n`, 10).calls;
    expect(call).toMatchObject({ startNs: 1, endNs: 500, firstNs: 400, bytes: 5, name: "out:3" });
  });

  for (const [what, broken] of [
    ["eight decimals", line.replace("start=10.000000001", "start=10.00000000")],
    ["a name that breaks the line", line.replace("out:3", "out;3")],
    ["a value that is no number", line.replace("fd=3", "fd=three")],
    ["a missing key", line.replace(",off=0", "")],
  ]) {
    test(`refuses ${what}`, () => expect(() => parseLog(broken, 10)).toThrow());
  }
});
