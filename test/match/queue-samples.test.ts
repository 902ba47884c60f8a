// Since when the oldest byte waits, at a moment that the packets of catch up with later: against a
// naive look at all calls and packets.

import { describe, expect, test } from "bun:test";
import { Reason } from "../../src/output/reasons.ts";
import { SocketField } from "../../src/output/socket-fields.ts";
import type { Connection } from "../../src/match/connection.ts";
import { standing } from "../../src/match/measurement.ts";
import { bookWire } from "../../src/match/settle.ts";
import { Kind } from "../../src/ring/layout.ts";
import { Bench, MS } from "./bench.ts";
import { Random } from "./random.ts";
import { type SlotFields, slotWords } from "./words.ts";

function sample(bench: Bench, atNs: number): void {
  const sockets: Connection[] = [];
  bench.engine.watched(sockets);
  const stride = 1 + SocketField.count;
  const numbers = new Float64Array(2 + sockets.length * stride).fill(7);
  numbers.set([atNs - 1000, atNs]);
  for (const [i, { sock }] of sockets.entries()) numbers[2 + i * stride] = sock;
  bench.engine.sample(numbers);
}

function open(): { bench: Bench; client: number; server: number } {
  const bench = new Bench();
  bench.listen();
  const client = bench.connected(1 * MS - 500);
  const server = bench.accepted(1 * MS + 3000);
  bench.handshake(1 * MS);
  return { bench, client, server };
}

describe("the age of what waits", () => {
  test("what left, or was read, after the moment waited at it; what came later did not", () => {
    const { bench, client, server } = open();
    bench.send(client, 2 * MS, 0, 10);
    bench.send(client, 3 * MS, 10, 10);
    bench.send(client, 9 * MS, 20, 10);
    bench.packet(4 * MS, true, 0, 10);
    sample(bench, 5 * MS);
    expect(bench.engine.queues.isPending).toBe(true);
    bench.packet(6 * MS, true, 10, 10);
    bench.packet(9.5 * MS, true, 20, 10);
    bench.receive(server, 7 * MS, 0, 5);
    bench.engine.tick(4.9 * MS);
    expect(bench.samples).toEqual([]);
    bench.engine.tick(5 * MS);
    expect(bench.engine.queues.isPending).toBe(false);
    const [startNs, endNs, rows] = bench.samples[0]!;
    expect([startNs, endNs]).toEqual([5 * MS - 1000, 5 * MS]);
    expect(rows.map(({ fd, sock, unsentAgeNs, unreadAgeNs }) => ({ fd, sock, unsentAgeNs, unreadAgeNs })))
      .toEqual([
        { fd: client + 3, sock: 1, unsentAgeNs: 2 * MS, unreadAgeNs: 0 },
        { fd: server + 3, sock: 2, unsentAgeNs: 0, unreadAgeNs: 1 * MS },
      ]);
    expect([...rows[0]!.values]).toEqual(new Array<number>(SocketField.count).fill(7));
  });

  test("of a socket whose calls cannot be joined nothing is known", () => {
    const { bench, client } = open();
    bench.send(client, 2 * MS, 0, 10);
    [...bench.engine.live][0]!.out.lose(Reason.ktls);
    sample(bench, 5 * MS);
    bench.engine.tick(5 * MS);
    expect(bench.samples[0]![2][0]).toMatchObject({ unsentAgeNs: -1, unreadAgeNs: 0 });
  });

  test("a write that blocks waits since its entry", () => {
    const { bench, client } = open();
    bench.show(client, { birthNs: 1, out: { active: 1, off: 0, callNs: 2 * MS } });
    bench.packet(3 * MS, true, 0, 10);
    sample(bench, 5 * MS);
    bench.engine.tick(5 * MS);
    sample(bench, 7 * MS);
    bench.send(client, 2 * MS, 0, 20);
    bench.show(client, { birthNs: 1, out: { active: 0, off: 20, callNs: 2 * MS } });
    bench.packet(8 * MS, true, 10, 10);
    bench.engine.tick(7 * MS);
    const ages = bench.samples.map(([, , rows]) => rows[0]!.unsentAgeNs);
    expect(ages).toEqual([3 * MS, 5 * MS]);
  });

  test("a clock that is set back leaves the ages unknown, and holds up no later sample", () => {
    const { bench, client } = open();
    bench.send(client, 2 * MS, 0, 10);
    sample(bench, 100_000 * MS);
    bench.engine.tick(50_000 * MS);
    expect(bench.samples).toEqual([]);
    bench.engine.tick(39_000 * MS);
    expect(bench.samples[0]![2][0]).toMatchObject({ unsentAgeNs: -1, unreadAgeNs: -1 });
    sample(bench, 40_000 * MS);
    bench.engine.tick(40_000 * MS);
    expect(bench.samples[1]![2][0]).toMatchObject({ unsentAgeNs: 39_998 * MS });
  });

  test("the present registration counts, however many there were", () => {
    const bench = new Bench({ everything: null });
    const { engine, table } = bench;
    const entry = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    engine.handles.open(1, null, { queues: () => {} });
    const record = (kind: number, n: number, fields: Partial<SlotFields>) =>
      engine.record(table, slotWords({ kind, entry, generation: 1, timeNs: n, pid: 100, fd: 3, ...fields }));
    const looks: number[][] = [];
    for (let n = 1; n <= 200; n++) {
      const watched = (): number => {
        const sockets: Connection[] = [];
        engine.watched(sockets);
        return sockets.length;
      };
      record(Kind.Name, n, { off: 0, bytes: 0, group: n });
      record(Kind.Register, n, { off: 1, bytes: 0, group: n });
      const registered = watched();
      record(Kind.Deregister, n, { off: 1 });
      looks.push([registered, watched()]);
    }
    expect(looks).toEqual(looks.map(() => [1, 0]));
  });

  test("what waits at the end, or at a look before, in the books", () => {
    const { bench, client, server } = open();
    const { engine } = bench;
    bench.send(client, 2 * MS, 0, 10);
    bench.send(client, 2.5 * MS, 10, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.packet(3.5 * MS, true, 10, 5);
    bench.receive(server, 4 * MS, 0, 4);
    engine.tick(5 * MS);
    const [live] = engine.live;
    const books = () => {
      const { labels } = standing(live!.naming.recipients[0]!.measurement, engine.live);
      return [Math.min(...labels.map(({ out }) => out.waitingSinceNs)), Math.min(...labels.map((each) => each.in.waitingSinceNs))];
    };
    for (const connection of engine.live) bookWire(engine, connection);
    // Of the second call five bytes wait; of what arrived first six are unread.
    expect(books()).toEqual([2.5 * MS, 3 * MS]);
    for (const { sock } of engine.live) engine.queued(sock, 5);
    bench.finish();
    expect(books()).toEqual([2.5 * MS, 3 * MS]);
  });

  test("a look leaves nothing behind", () => {
    const { bench, client, server } = open();
    bench.send(client, 2 * MS, 0, 10);
    bench.engine.tick(3 * MS);
    standing([...bench.engine.live][0]!.naming.recipients[0]!.measurement, bench.engine.live);
    bench.packet(4 * MS, true, 0, 10);
    bench.receive(server, 5 * MS, 0, 10);
    bench.engine.tick(6 * MS);
    bench.finish();
    expect(bench.of(client).out.stats.waitingSinceNs).toBe(Infinity);
    expect(bench.of(server).in.stats.waitingSinceNs).toBe(Infinity);
  });

  test("the session's end does not wait", () => {
    const { bench, client } = open();
    bench.send(client, 2 * MS, 0, 10);
    sample(bench, 5 * MS);
    bench.finish();
    expect(bench.samples[0]![2][0]).toMatchObject({ unsentAgeNs: 3 * MS });
    expect(bench.of(client).out.stats.waitingSinceNs).toBe(Infinity);
  });

  test("against a naive look", () => {
    const random = new Random(20261123);
    for (let round = 0; round < 200; round++) {
      const { bench, client, server } = open();
      const events: { atNs: number; run: () => void }[] = [];
      const calls: { calledNs: number; leftNs: number; readNs: number }[] = [];
      let [calledNs, leftNs, readNs] = [2 * MS, 2 * MS, 2 * MS];
      for (let n = 0; n < 30; n++) {
        calledNs += random.below(2 * MS);
        leftNs = Math.max(leftNs, calledNs) + random.below(3 * MS);
        readNs = Math.max(readNs, leftNs) + random.below(3 * MS);
        const call = { calledNs, leftNs, readNs };
        calls.push(call);
        events.push({ atNs: call.calledNs, run: () => bench.send(client, call.calledNs, n * 8, 8) });
        events.push({ atNs: call.leftNs, run: () => bench.packet(call.leftNs, true, n * 8, 8) });
        events.push({ atNs: call.readNs, run: () => bench.receive(server, call.readNs, n * 8, 8) });
      }
      const atNs = 2 * MS + random.below(60 * MS);
      // Some of what came after the moment is known before the join asks, some is not.
      const until = atNs + random.below(20 * MS);
      events.push({ atNs, run: () => sample(bench, atNs) });
      for (const { run } of events.filter((event) => event.atNs <= until).sort((a, b) => a.atNs - b.atNs)) run();
      bench.engine.tick(atNs);
      const [out, inbound] = bench.samples[0]![2];
      const oldest = (since: "calledNs" | "leftNs", end: "leftNs" | "readNs") => {
        const waiting = calls.filter((call) => call[since] <= atNs && call[end] > atNs);
        return waiting.length === 0 ? 0 : atNs - Math.min(...waiting.map((call) => call[since]));
      };
      expect(out!.unsentAgeNs).toBe(oldest("calledNs", "leftNs"));
      expect(inbound!.unreadAgeNs).toBe(oldest("leftNs", "readNs"));
    }
  });
});
