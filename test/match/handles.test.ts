// Registrations that come and go while a socket is in use: a handle gets exactly the calls that were
// recorded while it was registered, under the name of that moment, and books that balance.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Connection } from "../../src/match/connection.ts";
import { type Rule, RULES_MOST } from "../../src/match/rules.ts";
import { Reason } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { Kind, SlotFlag, SlotWord } from "../../src/ring/layout.ts";
import { CLIENT_PORT, MS, SERVER_PORT } from "./bench.ts";
import { featuresOf } from "./features.ts";
import { makeHistory } from "./history.ts";
import { play } from "./schedule.ts";
import { Random } from "./random.ts";
import { deregistration, Lines, living, nothingElse, registration, say } from "./registrations.ts";

const TIMEOUT_MS = 120_000;
const HANDLES = 2;

const features = featuresOf([
  "large", "late", "drops", "acks", "overlap", "cut", "unsent", "loop", "jitter", "unlistened",
]);
const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

test("a handle gets the calls of its registrations, no other, by their names", () => {
  let toggles = 0;
  const check = fc.property(seeds, seeds, features, (seed, order, chosen) => {
    const random = new Random(order ^ 0x5bd1);
    const sinks = Array.from({ length: HANDLES }, () => new Lines());
    /** Name under which a socket is registered, by handle and socket. */
    const current = new Map<string, string>();
    /** What each handle must get: calls by socket, direction and offset. */
    const due = sinks.map(() => new Map<string, string>());
    let opened = false;
    let serial = 0;
    const outcome = play(makeHistory(seed, chosen), order, true, (engine, table, socket, words) => {
      if (!opened) for (let h = 1; h <= HANDLES; h++) engine.handles.open(h, sinks[h - 1]!);
      opened = true;
      for (let handle = 1; handle <= HANDLES; handle++) {
        const key = `${handle} ${socket.index}`;
        if (random.chance(0.3)) {
          toggles++;
          if (current.has(key) && random.chance(0.6)) {
            current.delete(key);
            engine.record(table, deregistration(words, handle));
          } else {
            const name = `name=${serial},of a length beyond one part ${socket.index}`;
            current.set(key, name);
            for (const each of registration(words, handle, name, serial++)) engine.record(table, each);
          }
        }
        const kind = words[SlotWord.kind]! & 0xff;
        const name = current.get(key);
        if (name === undefined || (kind !== Kind.Out && kind !== Kind.In)) continue;
        const direction = kind === Kind.Out ? 0 : 1;
        const off = words[SlotWord.off]! + words[SlotWord.off + 1]! * 2 ** 32;
        due[handle - 1]!.set(`${socket.index} ${direction} ${off} ${words[SlotWord.bytes]}`, name);
      }
    });
    if (!opened) return;
    for (let handle = 1; handle <= HANDLES; handle++) {
      const expected = [...due[handle - 1]!].map(([key, name]) => {
        const [socket, direction, off, bytes] = key.split(" ").map(Number) as [number, number, number, number];
        return { fd: socket + 3, direction, off, end: off + bytes, bytes, name, found: 0 };
      });
      for (const line of sinks[handle - 1]!.lines) {
        const call = expected.find(
          (one) => one.fd === line.fd && one.direction === line.direction &&
            one.off <= line.off && line.off < one.end,
        );
        // The call that its process died in has no record; it belongs to the last registration.
        if (call === undefined && chosen.cut) continue;
        expect(call).toBeDefined();
        expect(line.name).toBe(call!.name);
        call!.found += line.bytes;
      }
      const books = outcome.engine.handles.standing(handle)!;
      const sum = { out: new DirectionStats(), in: new DirectionStats() };
      for (const label of books.labels) {
        expect(label.out.balances()).toBe(true);
        expect(label.in.balances()).toBe(true);
        sum.out.merge(label.out);
        sum.in.merge(label.in);
      }
      for (const call of expected) {
        // What is still to be sent has no line.
        if (sum.out.bytesInFlight === 0) expect(call.found).toBe(call.bytes);
        else expect(call.found).toBeLessThanOrEqual(call.bytes);
      }
      if (chosen.cut) continue;
      const bytes = (direction: number) =>
        expected.reduce((all, call) => all + (call.direction === direction ? call.bytes : 0), 0);
      expect(sum.out.bytesCalled).toBe(bytes(0));
      expect(sum.in.bytesCalled).toBe(bytes(1));
    }
  });
  fc.assert(check, { numRuns: 1500, seed: 7, includeErrorInReport: true } as never);
  expect(toggles).toBeGreaterThan(1000);
}, TIMEOUT_MS);

test("without a registration nothing is measured", () => {
  const { bench, sink } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  bench.send(client, 2 * MS, 0, 100);
  bench.packet(3 * MS, true, 0, 100);
  bench.finish();
  expect(sink.lines).toEqual([]);
  expect(bench.engine.handles.standing(1)!.labels).toEqual([]);
});

test("a rule takes sockets by their addresses, those that live and those that come", () => {
  const { bench, sink } = nothingElse();
  const first = bench.connected(0);
  const rule: Rule = {
    localPort: -1,
    remote: { words: new Uint32Array([0, 0, 0xffff, 0x0a000002]), port: SERVER_PORT },
    name: "server",
  };
  bench.handshake(1 * MS);
  bench.send(first, 2 * MS, 0, 100);
  bench.engine.handles.addRule(1, rule, 2 * MS);
  bench.send(first, 3 * MS, 100, 50);
  bench.engine.handles.removeRule(1, rule, 3 * MS);
  bench.send(first, 4 * MS, 150, 25);
  bench.packet(5 * MS, true, 0, 175);
  bench.finish();
  expect(sink.lines.map(({ off, bytes, name }) => ({ off, bytes, name }))).toEqual([
    { off: 100, bytes: 50, name: "server" },
  ]);
});

test("the books of a handle as they stand count what waits as in flight", () => {
  const { bench } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  bench.engine.handles.addRule(1, { localPort: CLIENT_PORT, remote: null, name: "" }, 1 * MS);
  bench.send(client, 2 * MS, 0, 100);
  bench.packet(3 * MS, true, 0, 60);
  bench.engine.flush();
  const [label] = bench.engine.handles.standing(1)!.labels;
  expect(label!.label).toBe("NULL");
  expect(label!.out.bytesMatched).toBe(60);
  expect(label!.out.bytesInFlight).toBe(40);
  expect(label!.out.balances()).toBe(true);
  expect(bench.engine.handles.isPending(1)).toBe(true);
  bench.packet(4 * MS, true, 60, 40);
  bench.engine.flush();
  expect(bench.engine.handles.isPending(1)).toBe(false);
  const last = bench.engine.handles.free(1, 9 * MS)!;
  expect(last.labels[0]!.out.bytesMatched).toBe(100);
  bench.send(client, 5 * MS, 100, 10);
  bench.packet(6 * MS, true, 100, 10);
  bench.finish();
  expect(last.labels[0]!.out.bytesCalled).toBe(100);
});

test("a rule for a client ends with its connection, one for a server holds", () => {
  const rule = (lastByte: number, port: number): Rule => ({
    localPort: -1,
    remote: { words: new Uint32Array([0, 0, 0xffff, 0x0a000000 + lastByte]), port },
    name: "peer",
  });
  const served = nothingElse().bench;
  served.engine.handles.addRule(1, rule(1, CLIENT_PORT), 0);
  const client = living(served, served.accepted(0));
  expect(client.registrations.length).toBe(1);
  served.engine.settle(client, -1);
  expect(living(served, served.accepted(5 * MS)).registrations.length).toBe(0);

  const serving = nothingElse().bench;
  serving.engine.handles.addRule(1, rule(2, SERVER_PORT), 0);
  const server = living(serving, serving.connected(0));
  expect(server.registrations.length).toBe(1);
  serving.engine.settle(server, -1);
  expect(living(serving, serving.connected(5 * MS)).registrations.length).toBe(1);
});

test("a rule for the same addresses replaces the earlier one, and its name", () => {
  const { bench } = nothingElse();
  const names = (entry: number) => living(bench, entry).registrations.map(({ name }) => name);
  const rule = (name: string): Rule => ({ localPort: CLIENT_PORT, remote: null, name });
  const first = bench.connected(0);
  for (const name of ["one", "two"]) {
    bench.engine.handles.addRule(1, rule(name), 0);
    expect(names(first)).toEqual([name]);
  }
  bench.engine.settle(living(bench, first), -1);
  expect(names(bench.connected(5 * MS))).toEqual(["two"]);
  bench.engine.handles.removeRule(1, rule(""), 5 * MS);
  expect(names(bench.connected(9 * MS))).toEqual([]);
});

test("a rule by the remote end takes a socket over from one by the port, in any order", () => {
  const port: Rule = { localPort: CLIENT_PORT, remote: null, name: "port" };
  const peer = (lastByte: number): Rule => ({
    localPort: -1,
    remote: { words: new Uint32Array([0, 0, 0xffff, 0x0a000000 + lastByte]), port: SERVER_PORT },
    name: "peer",
  });
  for (const rules of [[port, peer(2), peer(3)], [peer(3), peer(2), port]]) {
    const { bench } = nothingElse();
    const { handles } = bench.engine;
    const names = (entry: number) => living(bench, entry).registrations.map(({ name }) => name);
    const lives = bench.connected(0);
    for (const rule of rules) handles.addRule(1, rule, 1 * MS);
    expect(names(lives)).toEqual(["peer"]);
    bench.engine.settle(living(bench, lives), -1);
    const comes = bench.connected(5 * MS);
    expect(names(comes)).toEqual(["peer"]);
    handles.removeRule(1, peer(2), 6 * MS);
    expect(names(comes)).toEqual(["port"]);
    // One that was registered by its descriptor is left alone.
    say(bench, comes, "mine", 7 * MS);
    handles.addRule(1, peer(2), 8 * MS);
    expect(names(comes)).toEqual(["mine"]);
  }
});

test("a rule is compared with many sockets in no time", () => {
  const { bench } = nothingElse();
  const { handles, live } = bench.engine;
  const entry = bench.connected(0);
  const one = living(bench, entry);
  // As far as a rule looks at them.
  for (let i = 0; i < 10_000; i++) {
    live.add(Object.assign(Object.create(one) as Connection, { lport: 10_000 + i, registrations: [] }));
  }
  const bestMs = Math.min(...Array.from({ length: 20 }, (_, i) => {
    const words = new Uint32Array([0, 0, 0xffff, 0x0b000000 + i]);
    const startMs = performance.now();
    handles.addRule(1, { localPort: -1, remote: { words, port: SERVER_PORT }, name: "peer" }, 0);
    return performance.now() - startMs;
  }));
  // With a text for each: 9 ms.
  expect(bestMs).toBeLessThan(2);
  expect(one.registrations).toEqual([]);
});

test("a handle that ends while calls may overlap keeps their bytes in its books", () => {
  const { bench } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  bench.engine.handles.addRule(1, { localPort: CLIENT_PORT, remote: null, name: "" }, 1 * MS);
  // Another call of the group is still in progress.
  bench.send(client, 2 * MS, 0, 100, { flags: SlotFlag.Overlap, group: 7 });
  bench.packet(3 * MS, true, 0, 100);
  bench.engine.flush();
  const [label] = bench.engine.handles.free(1, 9 * MS)!.labels;
  expect(label!.out.bytesCalled).toBe(100);
  expect(label!.out.unmatched[Reason.concurrent]).toBe(100);
  expect(label!.out.balances()).toBe(true);
});

test("rules are bounded, the oldest are forgotten; a client's goes with any connection of its", () => {
  const { bench } = nothingElse();
  const { handles } = bench.engine;
  const rule = (words: number[], port: number): Rule => ({
    localPort: -1, remote: { words: new Uint32Array(words), port }, name: "peer",
  });
  const client = [0, 0, 0xffff, 0x0a000001];
  // Registered by its descriptor, it is not the rule that measures it.
  const entry = bench.accepted(0);
  say(bench, entry, "mine", 1 * MS);
  handles.addRule(1, rule(client, CLIENT_PORT), 2 * MS);
  bench.engine.settle(living(bench, entry), -1);
  const again = bench.accepted(5 * MS);
  expect(living(bench, again).registrations).toEqual([]);
  bench.engine.settle(living(bench, again), -1);

  handles.addRule(1, rule(client, CLIENT_PORT), 0);
  for (let i = 0; i < RULES_MOST; i++) handles.addRule(1, rule([0, 0, 0, i], 80), 0);
  expect(living(bench, bench.accepted(9 * MS)).registrations).toEqual([]);
  expect(handles.standing(1)!.notes).toEqual([expect.stringMatching(/^1 registered ports or peers/)]);
});
