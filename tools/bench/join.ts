// How many events a second the join takes on one core: records through the ring reader, packets
// through the decoder, both through the engine, of a seeded load of many connections. The load is
// made between the timed stretches. Each step of a connection is four events: a record of a call out,
// the packet that carries its bytes, a packet in, and the record of the call that reads it.
//
// Memory is looked at after a full collection, before and after 10 million events: the join keeps
// nothing of what it has finished.

import { heapStats } from "bun:jsc";
import { Measurement } from "../../src/match/measurement.ts";
import { Engine } from "../../src/match/engine.ts";
import { Labels } from "../../src/match/labels.ts";
import type { Bench } from "./bench.ts";
import { JoinLoad, STEPS } from "./join-load.ts";
import { spread } from "./stats.ts";

const CONNECTIONS = [1, 1000, 50_000];
const EVENTS_A_ROUND = STEPS * 4;
/** Of the connections in the middle. */
const TARGET_EVENTS = 5e6;
const TARGET_GROWTH_MIB = 1;
/** Between two ticks: 0.1 s of a collector that is fully busy. */
const ROUNDS_A_TICK = 100;
const WARM_EVENTS = 2e6;
const MIB = 2 ** 20;

class JoinRun {
  readonly engine: Engine;
  readonly load: JoinLoad;
  readonly #labels = new Labels("port");
  #round = 0;

  constructor(connections: number, random: () => number) {
    const everything = new Measurement(this.#labels, null);
    this.engine = new Engine({ baseSec: JoinLoad.BASE_SEC, out: true, in: true, everything });
    this.load = new JoinLoad(connections, random, this.engine);
  }

  /** Joins so many events; returns the nanoseconds that it took. */
  run(events: number): number {
    const { engine, load } = this;
    let ns = 0;
    for (let done = 0; done < events; done += EVENTS_A_ROUND) {
      load.make();
      const began = Bun.nanoseconds();
      load.rings.drain();
      load.decode();
      engine.packets(load.batch);
      engine.flush();
      if (++this.#round % ROUNDS_A_TICK === 0) engine.tick(load.nowNs - 1e8);
      ns += Bun.nanoseconds() - began;
    }
    return ns;
  }

  /** Bytes that were called, and how many of them were matched. */
  finish(): { called: number; matched: number } {
    const sum = { called: 0, matched: 0 };
    this.engine.finish();
    for (const { out, in: inbound } of this.#labels.all()) {
      sum.called += out.bytesCalled + inbound.bytesCalled;
      sum.matched += out.bytesMatched + inbound.bytesMatched;
    }
    return sum;
  }
}

function heapBytes(): number {
  Bun.gc(true);
  Bun.gc(true);
  const { heapSize, extraMemorySize } = heapStats();
  return heapSize + extraMemorySize;
}

export async function benchJoin(bench: Bench): Promise<void> {
  const { report, random, quick } = bench;
  const turns = bench.pairs ?? (quick ? 3 : 10);
  for (const connections of CONNECTIONS) {
    const run = new JoinRun(connections, random);
    run.run(WARM_EVENTS);
    // With many, most of the time is waiting for memory.
    const events = quick || connections > 1000 ? 1e6 : 3e6;
    const rates: number[] = [];
    for (let turn = 0; turn < turns; turn++) {
      const ns = run.run(events);
      rates.push((events / ns) * 1e3);
    }
    const of = `${connections} connection${connections === 1 ? "" : "s"}`;
    report.add("join", of, "M events/s", spread(rates), {
      digits: 2,
      ...(connections === 1000 ? { target: { sign: ">=", value: TARGET_EVENTS / 1e6 } } : {}),
    });
    const before = heapBytes();
    run.run(quick ? 3e6 : 10e6);
    const grown = (heapBytes() - before) / MIB;
    report.add("join", `${of}: heap growth over ${quick ? 3 : 10} M events`, "MiB", spread([grown]), {
      digits: 2, target: { sign: "<=", value: TARGET_GROWTH_MIB },
    });
    const { called, matched } = run.finish();
    report.add("join", `${of}: matched of what was called`, "", spread([matched / called]), {
      digits: 4, target: { sign: "=", value: 1 },
    });
  }
}
