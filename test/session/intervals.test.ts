// The summaries of intervals: together they are the final one, and each tells its own time.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PacketBatch, TcpFlag } from "../../src/capture/packets.ts";
import { type Distribution, SOCKETS_LISTED, type Summary } from "../../src/output/summary.ts";
import { CLIENT, MS } from "../match/bench.ts";
import { Random } from "../match/random.ts";
import { ipv4, putRow } from "../match/words.ts";
import { type Schema, schemaErrors } from "../output/schema-check.ts";
import { FedJoin } from "./fed-join.ts";

const schema = JSON.parse(
  readFileSync(join(import.meta.dir, "..", "..", "docs", "summary.schema.json"), "utf8"),
) as Schema;

const COUNTS = ["calls", "bytesCalled", "bytesMatched", "bytesRetransmitted", "bytesUnexplained"] as const;

function sum(intervals: readonly Summary[], pick: (summary: Summary) => number): number {
  return intervals.reduce((total, each) => total + pick(each), 0);
}

function unmatched({ bytesUnmatched }: Summary["directions"]["in"]): number {
  return Object.values(bytesUnmatched).reduce((total, bytes) => total + bytes, 0);
}

/** What the intervals must add up to. */
function expectWhole(intervals: readonly Summary[], whole: Summary): void {
  for (const direction of ["out", "in"] as const) {
    const all = whole.directions[direction];
    for (const key of COUNTS) {
      expect([direction, key, sum(intervals, (each) => each.directions[direction][key])])
        .toEqual([direction, key, all[key]]);
    }
    for (const key of ["callNs", "byteNs"] as const) {
      const parts = intervals.map((each) => each.directions[direction][key]);
      expect(sum(intervals, (each) => each.directions[direction][key].count)).toBe(all[key].count);
      const times = (one: Distribution) => (one.mean ?? 0) * one.count;
      expect(parts.reduce((total, one) => total + times(one), 0)).toBeCloseTo(times(all[key]), -3);
      const some = parts.filter(({ count }) => count > 0);
      expect(some.length === 0 ? null : Math.min(...some.map(({ min }) => min!))).toBe(all[key].min);
      expect(some.length === 0 ? null : Math.max(...some.map(({ max }) => max!))).toBe(all[key].max);
    }
    const reasons = new Set(intervals.flatMap((each) => Object.keys(each.directions[direction].bytesUnmatched)));
    for (const reason of [...reasons, ...Object.keys(all.bytesUnmatched)]) {
      expect(sum(intervals, (each) => each.directions[direction].bytesUnmatched[reason] ?? 0))
        .toBe(all.bytesUnmatched[reason] ?? 0);
    }
  }
  expect(sum(intervals, (each) => each.directions.in.bytesUnread)).toBe(whole.directions.in.bytesUnread);
  let waiting = 0;
  for (const { directions: { in: inbound } } of intervals) {
    waiting += inbound.bytesCalled - inbound.bytesMatched - unmatched(inbound);
    expect(waiting).toBeGreaterThanOrEqual(0);
  }
  expect(waiting).toBe(0);
  expect(sum(intervals, (each) => each.durationNs)).toBe(whole.durationNs);
  for (const each of intervals) {
    expect(schemaErrors(schema, each)).toEqual([]);
    expect(each.warnings).toEqual(each.warnings.filter((warning) => !warning.includes("balance")));
    expect(each.booksBalance).toBe(true);
  }
}

/** A connection of client and server; the entries of both. */
function open({ bench }: FedJoin): { client: number; server: number } {
  bench.listen();
  const client = bench.connected(1 * MS - 500);
  const server = bench.accepted(1 * MS + 3000);
  bench.handshake(1 * MS);
  return { client, server };
}

describe("intervals", () => {
  test("an interval has what was joined in it, with its own least and greatest time", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    const { bench, intervals } = fed;
    const { client } = open(fed);
    bench.send(client, 10 * MS, 0, 100);
    bench.packet(15 * MS, true, 0, 100);
    bench.send(client, 90 * MS, 100, 40);
    bench.engine.tick(99 * MS);
    expect(intervals.length).toBe(0);
    bench.engine.tick(100 * MS);
    expect(intervals.length).toBe(1);
    bench.packet(190 * MS, true, 100, 10);
    bench.engine.tick(200 * MS);
    bench.packet(290 * MS, true, 110, 30);
    const whole = fed.finish(310 * MS);
    const told = intervals.map(({ startUnixNs, durationNs, directions: { out }, sockets }) => [
      BigInt(startUnixNs) % 1000000000n, durationNs, out.calls, out.bytesCalled, out.bytesMatched,
      out.bytesInFlight, out.oldestUnsentNs, out.byteNs.min, out.byteNs.max, sockets.length,
    ]);
    expect(told).toEqual([
      [0n, 100 * MS, 2, 140, 100, 40, 10 * MS, 5 * MS, 5 * MS, 2],
      [100000000n, 100 * MS, 0, 0, 10, 30, 110 * MS, 100 * MS, 100 * MS, 2],
      [200000000n, 110 * MS, 0, 0, 30, 0, null, 200 * MS, 200 * MS, 2],
    ]);
    expect(intervals.map(({ directions }) => directions.out.coverage)).toEqual([1, 1, 1]);
    expect(whole.sockets[0]!.out).toMatchObject({ calls: 2, bytesCalled: 140, bytesMatched: 140 });
    expectWhole(intervals, whole);
  });

  test("what waited at an interval's end is known although it left before the interval is told", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    const { bench, intervals } = fed;
    const { client, server } = open(fed);
    bench.send(client, 80 * MS, 0, 100);
    bench.packet(95 * MS, true, 0, 50);
    bench.packet(130 * MS, true, 50, 50);
    bench.receive(server, 140 * MS, 0, 100);
    bench.send(client, 150 * MS, 100, 8);
    bench.engine.tick(160 * MS);
    expect(intervals[0]!.directions.out.oldestUnsentNs).toBe(20 * MS);
    expect(intervals[0]!.directions.in.oldestUnreadNs).toBe(5 * MS);
    bench.packet(199 * MS, true, 100, 8);
    bench.engine.tick(260 * MS);
    expect(intervals[1]!.directions.out.oldestUnsentNs).toBe(null);
    expect(intervals[1]!.directions.in.oldestUnreadNs).toBe(1 * MS);
  });

  test("inbound: called and joined in one interval or the next; unread only when the socket is settled", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    const { bench, intervals } = fed;
    const { client, server } = open(fed);
    bench.send(client, 10 * MS, 0, 100);
    bench.packet(15 * MS, true, 0, 100);
    bench.receive(server, 40 * MS, 0, 60);
    bench.engine.tick(100 * MS);
    // The call is known before the packet of its last 20 bytes.
    bench.send(client, 150 * MS, 100, 50);
    bench.receive(server, 199 * MS, 60, 60);
    bench.engine.tick(200 * MS);
    bench.packet(199 * MS - 5000, true, 100, 50);
    bench.engine.tick(300 * MS);
    const whole = fed.finish(310 * MS);
    const told = ({ directions: { in: inbound } }: Summary) => {
      const { bytesCalled, bytesMatched, coverage, bytesUnread, oldestUnreadNs } = inbound;
      return [bytesCalled, bytesMatched, coverage, bytesUnread, oldestUnreadNs];
    };
    expect(intervals.map(told)).toEqual([
      [60, 60, 1, 0, 85 * MS],
      [60, 40, 1, 0, null],
      [0, 20, 1, 0, 101 * MS + 5000],
      [0, 0, null, 30, 111 * MS + 5000],
    ]);
    expect(told(whole)).toEqual([120, 120, 1, 30, 111 * MS + 5000]);
    expectWhole(intervals, whole);
  });

  test("a write that blocks waits, before any record of it", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    const { bench, intervals } = fed;
    const { client } = open(fed);
    bench.show(client, { birthNs: 1, out: { active: 1, off: 0, callNs: 70 * MS } });
    bench.engine.tick(110 * MS);
    expect(intervals[0]!.directions.out.oldestUnsentNs).toBe(30 * MS);
    expect(intervals[0]!.sockets.length).toBe(1);
  });

  test("silence is told too, and a long one as one interval", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    open(fed);
    fed.bench.engine.tick(100 * MS);
    fed.bench.engine.tick(730 * MS);
    fed.bench.engine.tick(800 * MS);
    expect(fed.intervals.map(({ durationNs, sockets, labels }) => [durationNs, sockets.length, labels.length]))
      .toEqual([[100 * MS, 0, 0], [100 * MS, 0, 0], [600 * MS, 0, 0]]);
  });

  test("a clock that is set back does not end the intervals", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS, startNs: 1e12 });
    fed.bench.engine.tick(1e12 + 100 * MS);
    fed.bench.engine.tick(5e11);
    fed.bench.engine.tick(5e11 + 100 * MS);
    expect(fed.intervals.map(({ durationNs }) => durationNs)).toEqual([100 * MS, 100 * MS]);
  });

  test("nor does a capture of which nothing is joined yet", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    fed.bench.engine.tick(-Infinity);
    fed.bench.engine.tick(-Infinity);
    fed.bench.engine.tick(100 * MS);
    expect(fed.intervals.map(({ durationNs }) => durationNs)).toEqual([100 * MS]);
  });

  test("losses, datagrams and warnings are those since the last one", () => {
    const fed = new FedJoin({ intervalNs: 100 * MS });
    fed.losses.ringRecords = 3;
    fed.warnings.push("first");
    fed.bench.engine.tick(100 * MS);
    fed.losses.ringRecords = 5;
    fed.warnings.push("second");
    fed.bench.engine.tick(200 * MS);
    const told = fed.intervals.map(({ losses, warnings }) => [losses.ringRecords, warnings[0]]);
    expect(told).toEqual([[3, "first"], [2, "second"]]);
  });

  test("all together are the final summary, whatever happens", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      const fed = new FedJoin({ intervalNs: 100 * MS });
      const { bench } = fed;
      let atNs = 1 * MS;
      bench.listen();
      for (let n = 0; n < 6; n++) {
        bench.renew(random.below(2 ** 32), random.below(2 ** 32));
        const client = bench.connected(atNs - 500);
        const server = bench.accepted(atNs + 3000);
        bench.handshake(atNs);
        let [sent, left, read] = [0, 0, 0];
        for (let steps = random.within(3, 40); steps > 0; steps--) {
          atNs += random.below(20 * MS);
          const bytes = random.within(1, 3000);
          const kind = random.below(3);
          if (kind === 0) {
            bench.send(client, atNs, sent, bytes);
            sent += bytes;
          } else if (kind === 1 && left < sent) {
            const moved = Math.min(bytes, sent - left);
            bench.packet(atNs, true, left, moved);
            left += moved;
            if (random.chance(0.1)) bench.packet(atNs + 10, true, left - moved, moved);
          } else if (read < left) {
            const moved = Math.min(bytes, left - read);
            bench.receive(server, atNs, read, moved);
            read += moved;
          }
          if (random.chance(0.3)) bench.engine.tick(atNs - random.below(30 * MS));
        }
        bench.reset(atNs + 1000, true, left);
        bench.close(client, atNs + 2000);
        bench.close(server, atNs + 2000);
        atNs += 400 * MS;
        bench.engine.tick(atNs);
        atNs += random.below(300 * MS);
      }
      const whole = fed.finish(atNs + 50 * MS);
      expect(whole.directions.out.bytesCalled).toBeGreaterThan(0);
      expect(fed.intervals.length).toBeGreaterThan(5);
      expectWhole(fed.intervals, whole);
      // The sockets' own figures are whole too.
      for (const socket of whole.sockets) {
        for (const direction of ["out", "in"] as const) {
          const mine = fed.intervals.flatMap((each) => each.sockets.filter(({ sock }) => sock === socket.sock));
          for (const key of COUNTS) {
            expect(mine.reduce((total, one) => total + one[direction][key], 0)).toBe(socket[direction][key]);
          }
        }
      }
    }
  });

  test("sockets that are not listed are summed", () => {
    const fed = new FedJoin({ intervalNs: 1000 * MS });
    const { bench } = fed;
    const batch = new PacketBatch(1);
    const count = SOCKETS_LISTED * 2 + 50;
    const packet = (n: number, timeNs: number, out: boolean, off: number, bytes: number, flags: number) => {
      batch.count = 0;
      const [lport, remote] = [20_000 + n, ipv4(10, 1, 0, n)];
      putRow(batch, {
        timeNs,
        source: out ? CLIENT : remote,
        sourcePort: out ? lport : 443,
        destination: out ? remote : CLIENT,
        destinationPort: out ? 443 : lport,
        sequence: 1000 + off,
        acknowledgment: 1000,
        bytes,
        flags,
      });
      bench.engine.packets(batch);
    };
    for (let n = 0; n < count; n++) {
      bench.show(n, { birthNs: 100, lport: 20_000 + n, rport: 443, remote: ipv4(10, 1, 0, n) });
      packet(n, 200, true, 0, 0, TcpFlag.SYN);
      packet(n, 300, false, 0, 0, TcpFlag.SYN | TcpFlag.ACK);
    }
    for (let second = 0; second < 4; second++) {
      for (let n = 0; n < count; n++) {
        const atNs = second * 1000 * MS + n * MS;
        bench.send(n, atNs, second * 1000, 1000);
        // The last bytes of each second leave in the next one.
        if (second > 0) packet(n, atNs + 1, true, second * 1000 - 1, 1, TcpFlag.ACK);
        packet(n, atNs + 1000 + n, true, second * 1000, 999, TcpFlag.ACK);
      }
      bench.engine.tick((second + 1) * 1000 * MS);
    }
    const { intervals } = fed;
    for (const [second, each] of intervals.entries()) {
      expect([each.sockets.length, each.socketsRest.count]).toEqual([SOCKETS_LISTED, count - SOCKETS_LISTED]);
      const out = [...each.sockets.map((socket) => socket.out), each.socketsRest.out];
      for (const key of ["sockets", "calls", "bytesCalled", "bytesMatched", "bytesInFlight"] as const) {
        expect(out.reduce((total, one) => total + one[key], 0)).toBe(each.directions.out[key]);
      }
      expect(each.directions.out).toMatchObject({
        sockets: count,
        calls: count,
        bytesCalled: count * 1000,
        bytesMatched: count * (second > 0 ? 1000 : 999),
        bytesInFlight: count,
        coverage: 1,
        oldestUnsentNs: 1000 * MS,
      });
    }
    expectWhole(intervals, fed.finish(4000 * MS));
  });

  test("without intervals the summary is the same", () => {
    const run = (intervalNs: number) => {
      const fed = new FedJoin({ intervalNs });
      const { client, server } = open(fed);
      for (let n = 0; n < 40; n++) {
        fed.bench.send(client, (10 + n * 20) * MS, n * 1000, 1000);
        fed.bench.packet((12 + n * 20 + (n % 7)) * MS, true, n * 1000, 1000);
        if (n % 3 === 0) fed.bench.receive(server, (19 + n * 20) * MS, n * 1000, 500);
        if (n % 3 === 0) fed.bench.receive(server, (20 + n * 20) * MS, n * 1000 + 500, 2500);
        fed.bench.engine.tick((20 + n * 20) * MS);
      }
      return fed.finish(900 * MS);
    };
    expect(run(100 * MS)).toEqual(run(0));
  });
});
