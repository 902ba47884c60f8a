// Why a socket was not found: what the capture lost is told from what it was never to see.

import { describe, expect, test } from "bun:test";
import { Reason } from "../../src/output/reasons.ts";
import { Bench, MS } from "./bench.ts";

/** The capture loses packets between 2 and 4 s, which is known at 5 s. */
function dropped(): Bench {
  const bench = new Bench();
  const { drops } = bench.engine.instances;
  bench.engine.tick(2000 * MS);
  drops.now = 100;
  bench.engine.tick(4000 * MS);
  drops.drained = 100;
  bench.engine.tick(4100 * MS);
  bench.engine.tick(5000 * MS);
  return bench;
}

function reasonsOf(bench: Bench, entry: number): [Record<string, number>, Record<string, number>] {
  bench.finish();
  return [bench.out(entry), bench.in(entry)];
}

const booked = (reason: number) => [{ matched: 0, [reason]: 10 }, { matched: 0, [reason]: 7 }];

describe("a socket without any packet", () => {
  const cases = [
    ["lived while packets were lost", 2500, 2600, Reason.captureDrop],
    ["lived before", 1000, 1100, Reason.filtered],
    ["lived afterwards", 4500, 4600, Reason.filtered],
    ["began then, and sent when nothing was lost any more", 2500, 4800, Reason.filtered],
  ] as const;
  for (const [what, birthMs, calledMs, reason] of cases) {
    test(what, () => {
      const bench = dropped();
      const client = bench.connected(birthMs * MS);
      bench.send(client, calledMs * MS, 0, 10);
      bench.receive(client, calledMs * MS, 0, 7);
      expect(reasonsOf(bench, client)).toEqual(booked(reason) as never);
    });
  }

  test("accepted just after, its handshake was before", () => {
    const bench = dropped();
    const server = bench.accepted(5000 * MS);
    bench.receive(server, 5100 * MS, 0, 7);
    expect(reasonsOf(bench, server)[1]).toEqual({ matched: 0, [Reason.captureDrop]: 7 });
  });

  test("at the end, of losses that are not over", () => {
    const bench = new Bench();
    bench.engine.tick(1000 * MS);
    bench.engine.instances.drops.now = 1;
    const [before, after] = [bench.connected(500 * MS), bench.connected(1500 * MS)];
    for (const [entry, ms] of [[before, 600], [after, 1600]] as const) {
      bench.send(entry, ms * MS, 0, 10);
      bench.receive(entry, ms * MS, 0, 7);
    }
    expect(reasonsOf(bench, before)).toEqual(booked(Reason.filtered) as never);
    expect(reasonsOf(bench, after)).toEqual(booked(Reason.captureDrop) as never);
  });
});

describe("a socket with packets, but no handshake", () => {
  for (const [birthMs, reason] of [[2500, Reason.captureDrop], [4500, Reason.noAnchor]] as const) {
    test(`begun at ${birthMs} ms`, () => {
      const bench = dropped();
      const client = bench.connected(birthMs * MS);
      bench.send(client, (birthMs + 100) * MS, 0, 10);
      bench.packet(5100 * MS, true, 0, 10);
      bench.receive(client, 5200 * MS, 0, 7);
      expect(reasonsOf(bench, client)).toEqual(booked(reason) as never);
    });
  }
});

test("a socket without addresses is not one whose addresses were rewritten", () => {
  const bench = new Bench();
  bench.listen();
  bench.handshake(1 * MS);
  const client = bench.connected(1 * MS - 500, { local: [0, 0, 0, 0], lport: 0 });
  bench.send(client, 2 * MS, 0, 10);
  bench.receive(client, 2 * MS, 0, 7);
  expect(reasonsOf(bench, client)).toEqual(booked(Reason.unseen) as never);
});

test("many gaps are kept, the first ones as one", () => {
  const { engine } = new Bench();
  const { drops, gaps } = engine.instances;
  for (let n = 1; n <= 1000; n++) {
    drops.now = n;
    drops.drained = n;
    engine.tick(n * 10_000 * MS);
    engine.tick((n * 10_000 + 9000) * MS);
  }
  const at = (ms: number) => gaps.overlap(ms * MS, ms * MS);
  expect([at(9_999_500), at(9_995_000), at(10_000_000), at(10_001_000)]).toEqual([true, false, true, false]);
  expect(at(1_000_000)).toBe(true);
});
