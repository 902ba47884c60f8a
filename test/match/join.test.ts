// The join against a naive model: whatever happened, and in whatever order the collector learns of
// it, every byte ends in the same book, under the same time.
//
// A failure prints its seed and its features; fast-check's `seed` and `path` run it again.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { Reason } from "../../src/output/reasons.ts";
import type { Histogram } from "../../src/output/histogram.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { featuresOf, PLAIN } from "./features.ts";
import { makeHistory } from "./history.ts";
import type { Features, History } from "./history-types.ts";
import { expected, type SideBooks, UNFOUND } from "./model.ts";
import { type Outcome, play } from "./schedule.ts";

const SEED = Number(process.env.KQTIME_TEST_SEED ?? 20240607);
const RUNS = Number(process.env.KQTIME_TEST_RUNS ?? 1);
/** The longest takes some seconds here; shrinking a failure takes longer. */
const TIMEOUT_MS = 120_000;
const UNFOUND_REASONS: readonly number[] = [Reason.noAnchor, Reason.filtered, Reason.nat];

const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

/** The buckets and the exact ends; the sum is rounded by the order of its parts. */
function shape(histogram: Histogram): unknown {
  const buckets: [number, number][] = [];
  histogram.forEachBucket((bucket, weight) => buckets.push([bucket, weight]));
  buckets.sort((a, b) => a[0] - b[0]);
  const { min, max, count, refused } = histogram;
  return { min, max, count, refused, buckets, mean: histogram.mean?.toPrecision(9) };
}

/** Of a socket that was not found on the wire the capture may have lost the handshake. */
function ofEngine(stats: DirectionStats, isFound = true): unknown {
  const missed: Record<number, number> = {};
  stats.unmatched.forEach((bytes, reason) => {
    const isUnfound = UNFOUND_REASONS.includes(reason) || (!isFound && reason === Reason.captureDrop);
    const key = isUnfound ? UNFOUND : reason;
    if (bytes > 0) missed[key] = (missed[key] ?? 0) + bytes;
  });
  return {
    calls: stats.calls,
    called: stats.bytesCalled,
    matched: stats.bytesMatched,
    missed,
    inFlight: stats.bytesInFlight,
    unread: stats.bytesUnread,
    unexplained: stats.bytesUnexplained,
    retransmitted: stats.bytesRetransmitted,
    callNs: shape(stats.callNs),
    byteNs: shape(stats.byteNs),
    reassemblyNs: shape(stats.reassemblyNs),
  };
}

function ofModel(books: SideBooks): unknown {
  return {
    calls: books.calls,
    called: books.called,
    matched: books.matched,
    missed: Object.fromEntries([...books.missed].filter(([, bytes]) => bytes > 0)),
    inFlight: books.inFlight,
    unread: books.unread,
    unexplained: books.unexplained,
    retransmitted: books.retransmitted,
    callNs: shape(books.callNs),
    byteNs: shape(books.byteNs),
    reassemblyNs: shape(books.reassemblyNs),
  };
}

/** @param lost Who the lines of sockets are of that were not found. */
function linesOf(lines: readonly string[], lost: readonly string[] = []): string[] {
  const unfound = new RegExp(`reason=(${UNFOUND_REASONS.join("|")})$`);
  const dropped = new RegExp(`reason=${Reason.captureDrop}$`);
  return lines.map((line) => {
    const isLost = lost.some((who) => line.includes(who));
    return line.replace(unfound, `reason=${UNFOUND}`).replace(isLost ? dropped : unfound, `reason=${UNFOUND}`);
  }).sort();
}

function checkModel(history: History, outcome: Outcome): void {
  const { engine, labels, connections, lines } = outcome;
  const model = expected(history, outcome);
  expect(engine.badRecords).toBe(0);
  expect(connections.size).toBe(history.sockets.length);
  const sum = { out: new DirectionStats(), in: new DirectionStats() };
  const lost: string[] = [];
  for (const socket of history.sockets) {
    const connection = connections.get(socket.index)!;
    const isFound = connection.instance !== null;
    const { pid, fd, lport, rport } = connection;
    if (!isFound) lost.push(`,pid=${pid},fd=${fd},${lport}-${rport},`);
    const books = model.books.get(socket.index)!;
    for (const side of ["out", "in"] as const) {
      const { stats } = connection[side];
      const name = `socket ${socket.index} ${side}`;
      expect({ name, ...(ofEngine(stats, isFound) as object) }).toEqual({
        name,
        ...(ofModel(books[side]) as object),
      });
      expect(stats.balances()).toBe(true);
      sum[side].merge(stats);
    }
  }
  expect(linesOf(lines, lost)).toEqual(linesOf(model.lines));
  const merged = { out: new DirectionStats(), in: new DirectionStats() };
  for (const label of labels.all()) {
    merged.out.merge(label.out);
    merged.in.merge(label.in);
  }
  expect(ofEngine(merged.out)).toEqual(ofEngine(sum.out));
  expect(ofEngine(merged.in)).toEqual(ofEngine(sum.in));
}

function check(
  names: readonly (keyof Features)[],
  runs: number,
  property: (history: History, order: number) => void,
): void {
  fc.assert(
    fc.property(featuresOf(names), seeds, seeds, (features, seed, order) => {
      property(makeHistory(seed, features), order);
    }),
    { seed: SEED, numRuns: runs * RUNS },
  );
}

const ONLY_WIRE = ["large", "again", "late", "acks", "devices", "noise", "loop"] as const;
const ONLY_CALLS = ["overlap", "lost", "cut", "unsent", "foreign", "jitter"] as const;
const ALL = Object.keys(PLAIN).filter((name) => !["connections", "atoms"].includes(name)) as
  (keyof Features)[];

test("plain connections equal the model", () => {
  check(["large", "loop"], 400, (history, order) => checkModel(history, play(history, order, true)));
}, TIMEOUT_MS);

test("whatever the wire does, the books equal the model", () => {
  check(ONLY_WIRE, 800, (history, order) => checkModel(history, play(history, order, true)));
}, TIMEOUT_MS);

test("whatever the calls do, the books equal the model", () => {
  check(ONLY_CALLS, 800, (history, order) => checkModel(history, play(history, order, false)));
}, TIMEOUT_MS);

test("whatever the capture missed, the books equal the model", () => {
  check([...ONLY_WIRE, "drops", "unseen", "unsent"], 2000, (history, order) =>
    checkModel(history, play(history, order, order % 2 === 0)),
  );
}, TIMEOUT_MS);

test("more than 4 GiB pass through wrapped sequence numbers", () => {
  check(["huge", "acks", "again", "late"], 300, (history, order) =>
    checkModel(history, play(history, order, true)),
  );
}, TIMEOUT_MS);

test("everything at once equals the model", () => {
  check(ALL, 4000, (history, order) => checkModel(history, play(history, order, order % 2 === 0)));
}, TIMEOUT_MS);

test("a time is that of the first transmission, or there is none", () => {
  // Without the drops that leave no trace: those that are repeated before anything behind them.
  const names = ALL.filter((name) => name !== "drops" && name !== "unseen" && name !== "jitter");
  check(names, 500, (history, order) => {
    const outcome = play(history, order, true);
    checkModel(history, outcome);
    expect(expected(history, outcome).wrong).toEqual([]);
  });
}, TIMEOUT_MS);

test("the order in which it is learnt changes nothing", () => {
  // Not: what came before an accept that nobody announced is kept once the accept is known. And
  // what the capture lost is told from what it never saw by the drops up to the settlement.
  const names = ALL.filter((name) => name !== "unlistened" && name !== "drops");
  check(names, 1000, (history, order) => {
    const outcomes = [play(history, order, true), play(history, order + 1, false)];
    const [one, other] = outcomes.map(({ connections, lines }) => ({
      books: [...connections]
        .sort((a, b) => a[0] - b[0])
        .map(([index, connection]) => [
          index,
          ofEngine(connection.out.stats),
          ofEngine(connection.in.stats),
        ]),
      lines: linesOf(lines),
    }));
    expect(one!).toEqual(other!);
  });
}, TIMEOUT_MS);
