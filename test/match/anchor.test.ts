// Anchors against a naive TCP model: whatever passes and whenever it is looked at, a sequence number
// that is called proven is the true one, and every byte from the first offset on has its first packet
// among those that are kept; after a quiet moment everything is proven.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { PacketBatch } from "../../src/capture/packets.ts";
import { Anchor, Observed } from "../../src/match/anchor.ts";
import { Direction, type Trust } from "../../src/match/anchor-direction.ts";
import { RowBudget } from "../../src/match/anchor-packets.ts";
import { SeenBytes } from "../../src/match/anchor-seen.ts";
import { Random } from "./random.ts";
import { type Packet, TcpModel, type TcpFeatures } from "./tcp-model.ts";

const SEED = Number(process.env.KQTIME_TEST_SEED ?? 20240607);
const RUNS = 300 * Number(process.env.KQTIME_TEST_RUNS ?? 1);
const MS = 1e6;
const TIMEOUT_MS = 120_000;

interface Base {
  /** Counts at offset 0, as the truth has them and as the anchor is told (NaN: not at all). */
  out: number;
  in: number;
  told: "both" | "nothing" | "wrong";
  trust: Trust;
}

class Play {
  readonly model: TcpModel;
  readonly anchor: Anchor;
  readonly #random: Random;
  readonly #batch = new PacketBatch(1);
  #handed: number;
  /** When packets were kept first, and what had passed by then. */
  readonly sinceNs: number;
  readonly #departed: number;
  readonly #arrived: number;

  constructor(features: TcpFeatures, seed: number, readonly base: Base, rows: number) {
    const random = new Random(seed);
    this.#random = random;
    const model = new TcpModel(random, features);
    this.model = model;
    // The connection's life before.
    for (let n = random.below(40); n > 0; n--) model.step();
    if (!features.late) model.quiesce();
    this.#handed = model.sightings.length;
    this.sinceNs = model.nowNs;
    this.#departed = model.departures.length;
    this.#arrived = model.arrivals.length;
    // Offset 0 is here, or where the call under way began.
    base.out = features.late ? Math.min(random.below(2), model.written) : model.written;
    base.in = features.late ? 0 : model.read;
    // Bytes that passed in a call which nobody recorded.
    const off = base.told === "wrong" ? -7 : base.told === "nothing" ? NaN : 0;
    this.anchor = new Anchor(
      {
        outBase: base.out + off, inBase: base.in + off, outTrust: base.trust, inTrust: base.trust,
        arrived: features.late ? -1 : model.received - model.read, isLate: features.late,
        sentFrom: features.late && random.chance(0.7) ? model.written - base.out : Infinity,
        drops: model.dropsNs.length,
        // Met in the middle, the library has looked at its counters.
        birthNs: model.nowNs, acked: features.late ? NaN : model.acked, received: features.late ? NaN : model.received,
      },
      new RowBudget(rows),
    );
    if (!features.late) return;
    // The capture is opened first; what it had missed has reached its socket by the first moment.
    model.advance(10 * MS);
    this.observe();
  }

  observe(): void {
    this.anchor.observe(this.model.observe(this.base.out, this.base.in));
  }

  /** Hands over what was captured until then; returns whether the anchor is proven. */
  hand(untilNs: number): boolean {
    const { model, anchor } = this;
    const { sightings } = model;
    while (this.#handed < sightings.length && sightings[this.#handed]!.timeNs <= untilNs) {
      const sighting = sightings[this.#handed++]!;
      model.show(sighting, this.#batch);
      anchor.packets.add(this.#batch, 0, sighting.packet.out);
    }
    return anchor.judge(untilNs, model.dropsNs.filter((ns) => ns <= untilNs).length);
  }

  /** Plays until it is anchored, or the steps are over. */
  run(steps: number): boolean {
    for (let n = 0; n < steps; n++) {
      this.model.step();
      if (this.#random.chance(0.4)) this.observe();
      if (this.hand(this.model.nowNs - this.#random.below(60 * MS))) return true;
    }
    return false;
  }

  /** What is proven must be true. */
  check(): void {
    const { anchor, base, model } = this;
    expect(anchor.out.sequenceOf(0)).toBe((model.isnOut + base.out) % 2 ** 32);
    expect(anchor.in.sequenceOf(0)).toBe((model.isnIn + base.in) % 2 ** 32);
    for (const isOut of [true, false]) {
      const first = anchor.firstOffset(isOut) + (isOut ? base.out : base.in);
      const seen = isOut
        ? model.departures.slice(0, this.#departed)
        : model.arrivals.slice(0, this.#arrived);
      expect(seen.filter(({ end }) => end > first)).toEqual([]);
      const gone = model.sightings.slice(0, this.#handed - anchor.packets.count);
      expect(
        gone.filter(({ packet: { out, sequence, bytes } }) =>
          out === isOut && bytes > 0 && sequence + bytes > first),
      ).toEqual([]);
      expect(anchor.firstOffset(isOut)).toBeGreaterThanOrEqual(0);
      // No byte after the stream's last: a FIN is none.
      const last = Math.max(base.in, ...model.arrivals.map(({ end }) => end));
      expect(first).toBeLessThanOrEqual(isOut ? model.written - (model.finOut ? 1 : 0) : last);
    }
  }
}

const features = fc.record({
  queued: fc.boolean(),
  lagNs: fc.constantFrom(0, 50_000, 2_000_000),
  lossy: fc.boolean(),
  drops: fc.boolean(),
  late: fc.boolean(),
  calls: fc.boolean(),
  fin: fc.boolean(),
  steps: fc.integer({ min: 0, max: 400 }),
}) as fc.Arbitrary<TcpFeatures>;
const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

function assert(property: (features: TcpFeatures, seed: number, rows: number) => void): void {
  const rows = fc.constantFrom(1 << 20, 64, 0);
  fc.assert(fc.property(features, seeds, rows, property), { seed: SEED, numRuns: RUNS, includeErrorInReport: true });
}

describe("anchors, against a naive connection", () => {
  for (const told of ["both", "nothing", "wrong"] as const) {
    test(`what is proven is true (bases: ${told})`, () => {
      let busy = 0;
      let quiet = 0;
      assert((chosen, seed, rows) => {
        // A base that nobody can be sure of is confirmed, or measured, at an idle moment.
        const trust = told === "both" && chosen.late ? "certain" : "none";
        const play = new Play(chosen, seed, { out: 0, in: 0, told, trust }, rows);
        if (play.run(chosen.steps)) {
          busy++;
          play.check();
          return;
        }
        if (chosen.fin) play.model.close();
        if (chosen.drops) return;
        // Moments with nothing on its way, exchanges in the session between them.
        let exchanges = 0;
        const { packets } = play.anchor;
        for (let round = 0; round < 6 && exchanges < 3; round++) {
          const before = packets.foldedIn;
          for (let n = 0; n < 6; n++) play.model.step();
          play.model.quiesce();
          // Moments that wait to be judged leave no room for another.
          play.hand(play.model.nowNs);
          play.observe();
          play.model.advance(100 * MS);
          if (play.hand(play.model.nowNs)) {
            quiet++;
            play.check();
            return;
          }
          if (packets.foldedIn > before) exchanges++;
        }
        // Whatever has been exchanged, both ends have acknowledged it.
        if (!chosen.lossy) expect(exchanges).toBeLessThan(3);
      });
      expect(busy).toBeGreaterThan(RUNS / 10);
      expect(quiet).toBeGreaterThan(RUNS / 50);
    }, TIMEOUT_MS);
  }

  /** What a filter, or another path, may keep from the capture. */
  const hiding: Record<string, (packet: Packet, random: Random) => boolean> = {
    "short packets": ({ bytes }) => bytes < 600,
    "short payloads": ({ bytes }) => bytes > 0 && bytes < 600,
    "long packets": ({ bytes }) => bytes > 1500,
    "packets without payload": ({ bytes }) => bytes === 0,
    "some packets": (_packet, random) => random.chance(0.3),
    "few packets": (_packet, random) => random.chance(0.03),
    "some of those that arrive": ({ out }, random) => !out && random.chance(0.3),
    "some of those that leave": ({ out }, random) => out && random.chance(0.3),
    "most of those that arrive": ({ out }, random) => !out && random.chance(0.9),
  };
  for (const [what, hides] of Object.entries(hiding)) {
    test(`a capture from which ${what} are hidden proves nothing that is wrong`, () => {
      let contradictions = 0;
      let partly = 0;
      assert((chosen, seed, rows) => {
        const certain: Base = { out: 0, in: 0, told: "both", trust: "certain" };
        const play = new Play({ ...chosen, drops: false, fin: false }, seed, certain, rows);
        const { sightings } = play.model;
        const random = new Random(seed);
        let shown = sightings.length;
        const hide = () => {
          for (let i = sightings.length - 1; i >= shown; i--) {
            if (!hides(sightings[i]!.packet, random)) continue;
            sightings.splice(i, 1);
            partly++;
          }
          shown = sightings.length;
        };
        for (let n = 0; n < chosen.steps; n++) {
          play.model.step();
          // Some moments are quiet ones: there the bounds meet, right or wrong.
          if (random.chance(0.1)) play.model.quiesce();
          hide();
          if (random.chance(0.4)) play.observe();
          if (!play.hand(play.model.nowNs)) continue;
          expect(play.anchor.out.sequenceOf(0)).toBe((play.model.isnOut + play.base.out) % 2 ** 32);
          expect(play.anchor.in.sequenceOf(0)).toBe((play.model.isnIn + play.base.in) % 2 ** 32);
          break;
        }
        contradictions += play.anchor.contradictions;
      });
      expect(partly).toBeGreaterThan(0);
      if (what === "some packets") expect(contradictions).toBeGreaterThan(0);
    }, TIMEOUT_MS);
  }
});

describe("votes for a number", () => {
  const PACKET = 100;
  const vote = (seen: SeenBytes, isWhole: boolean) => {
    const direction = new Direction(0, "certain");
    for (let n = 1; n <= 20; n++) {
      if (isWhole || n % 5 > 0) seen.add((n - 1) * PACKET, PACKET);
      // A qdisc that is never empty: no moment shows a lower bound.
      direction.atMost(n * PACKET, n * PACKET, { timeNs: n * 50 * MS, isQuiet: false, packets: n }, n, seen);
    }
    return direction.proven;
  };

  test("count if what the kernel counted meanwhile was seen", () => {
    expect(vote(new SeenBytes(), true)).toBe(true);
    expect(vote(new SeenBytes(), false)).toBe(false);
  });
});

describe("bytes that were seen", () => {
  test("are what was added, whatever the order and the turns of the numbers", () => {
    fc.assert(
      fc.property(seeds, fc.constantFrom(0, 2 ** 32 - 300, 2 ** 31 - 200), (seed, from) => {
        const random = new Random(seed);
        const seen = new SeenBytes();
        const truth = new Set<number>();
        for (let n = 0; n < 30; n++) {
          const [start, bytes] = [random.below(500), random.within(1, 40)];
          seen.add((from + start) % 2 ** 32, bytes);
          for (let i = 0; i < bytes; i++) truth.add(start + i);
          const [at, length] = [random.below(500), random.within(1, 60)];
          const isSeen = Array.from({ length }, (_, i) => truth.has(at + i)).every(Boolean);
          expect(seen.covers((from + at) % 2 ** 32, length)).toBe(isSeen);
        }
      }),
      { seed: SEED, numRuns: RUNS },
    );
  });
});

describe("what an anchor asks for", () => {
  const start = {
    outBase: 1, inBase: 0, outTrust: "certain", inTrust: "certain", arrived: -1, isLate: true, sentFrom: Infinity, drops: 0,
    birthNs: 0, acked: NaN, received: NaN,
  } as const;

  test("one moment at once, then none before a packet", () => {
    const anchor = new Anchor(start, new RowBudget());
    expect(anchor.appetite).toBe(2);
    anchor.observe(new Float64Array(Observed.count));
    expect(anchor.appetite).toBe(0);
    const batch = new PacketBatch(1);
    anchor.packets.add(batch, 0, true);
    expect(anchor.appetite).toBe(2);
  });

  test("a base that proves wrong moves the first offset behind what was recorded before", () => {
    const model = new TcpModel(new Random(1), {
      queued: false, lagNs: 0, lossy: false, drops: false, late: false, calls: false, fin: false, steps: 0,
    });
    const values = model.observe(0, 0);
    const anchor = new Anchor({ ...start, outTrust: "none", inTrust: "none", isLate: false, arrived: 0 }, new RowBudget());
    values[Observed.written] = 105;
    values[Observed.outOff] = 100;
    values[Observed.outIdle] = 0;
    anchor.observe(values);
    expect([anchor.out.base, anchor.out.confirmed, anchor.out.floor]).toEqual([1, false, 0]);
    values[Observed.outIdle] = 1;
    anchor.observe(values);
    expect([anchor.out.base, anchor.out.confirmed, anchor.out.floor]).toEqual([5, true, 100]);
  });

  test("a connection that never stands still has kept what was not sent when it does", () => {
    const anchor = new Anchor({ ...start, outBase: 0, isLate: true, arrived: -1 }, new RowBudget());
    const values = new Float64Array(Observed.count);
    const moments = [[0, 500, 900], [1, 600, 1000], [1, 700, 1100], [0, 50, 60]] as const;
    const floors = moments.map(([steady, sent, written]) => {
      values[Observed.steady] = steady;
      values[Observed.acked] = sent - 10;
      values[Observed.unacked] = 10;
      values[Observed.written] = written;
      anchor.observe(values);
      return anchor.out.floor;
    });
    expect(floors).toEqual([900, 600, 600, 600]);
  });

  test("a reader that always waits: what was under way at its adoption", () => {
    for (const waits of [0, 1]) {
      const anchor = new Anchor(
        { ...start, inBase: 500, outTrust: "none", inTrust: "none", isLate: false, arrived: 0 }, new RowBudget(),
      );
      const values = new Float64Array(Observed.count);
      values[Observed.steady] = 1;
      values[Observed.outOff] = -1;
      values[Observed.inWaits] = waits;
      for (let n = 1; n <= 8; n++) {
        expect(anchor.in.confirmed).toBe(false);
        // 100 bytes went to the call that nobody recorded.
        values[Observed.inOff] = n * 10;
        values[Observed.read] = values[Observed.received] = 600 + n * 10;
        anchor.observe(values);
        anchor.observe(values);
      }
      expect([anchor.in.base, anchor.in.confirmed, anchor.in.floor]).toEqual(
        waits === 0 ? [600, true, 10] : [500, false, 0],
      );
    }
  });

  test("rows are bounded for each, and for all together", () => {
    const budget = new RowBudget(100);
    const batch = new PacketBatch(1);
    const anchors = Array.from({ length: 10 }, () => new Anchor(start, budget));
    for (let n = 0; n < 1000; n++) for (const { packets } of anchors) packets.add(batch, 0, true);
    const kept = anchors.map(({ packets }) => packets.count);
    expect(Math.min(...kept)).toBe(16);
    expect(kept.reduce((sum, rows) => sum + rows, 0)).toBeLessThanOrEqual(100 + 160);
    for (const anchor of anchors) anchor.release();
    expect(budget.left).toBe(100);
  });
});
