// Names that change while a socket is in use: what the wire carried and what calls moved belong to the
// name of their moment, however many there are; books of their own have only so many of them.

import { expect, test } from "bun:test";
import { LABELS_MOST, OTHER_LABEL } from "../../src/match/labels.ts";
import { Bench, MS, SERVER_PORT } from "./bench.ts";
import { living, nothingElse, say } from "./registrations.ts";

/** Bytes on the wire that no call accounts for, by label: outbound, unread, unexplained inbound. */
function wireOf(bench: Bench, handle = 1): Record<string, [number, number, number]> {
  const { labels } = bench.engine.handles.standing(handle)!;
  return Object.fromEntries(
    labels.map(({ label, out, in: inbound }) => [
      label, [out.bytesUnexplained, inbound.bytesUnread, inbound.bytesUnexplained],
    ]),
  );
}

test("deregistering hides nothing that was on the wire before", () => {
  const { bench } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  say(bench, client, "x", 2 * MS);
  // The records of a round come before the packets that were captured before them.
  say(bench, client, null, 10 * MS);
  bench.packet(3 * MS, true, 0, 100);
  bench.packet(4 * MS, false, 0, 30, 100);
  // Behind a hole.
  bench.packet(5 * MS, false, 50, 7, 100);
  bench.packet(11 * MS, true, 100, 1000);
  bench.packet(12 * MS, false, 57, 500, 100);
  bench.close(client, 13 * MS, 30);
  bench.finish();
  expect(wireOf(bench)).toEqual({ x: [100, 37, 0] });
});

test("what is on the wire belongs to the name that held when it passed, if no call takes it", () => {
  const { bench } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  say(bench, client, "one", 2 * MS);
  bench.packet(3 * MS, false, 0, 10, 0);
  say(bench, client, "two", 4 * MS);
  bench.packet(5 * MS, false, 10, 20, 0);
  say(bench, client, "three", 6 * MS);
  bench.packet(7 * MS, false, 30, 40, 0);
  // What had come under the first name, and half of what came under the second, was read.
  bench.receive(client, 8 * MS, 0, 20);
  // And a part by a call that nobody saw.
  bench.close(client, 9 * MS, 45);
  bench.finish();
  expect(wireOf(bench)).toEqual({ one: [0, 0, 0], two: [0, 5, 5], three: [0, 40, 0] });
});

test("a handle that is freed after the close has the wire's bytes, and the session has them once", () => {
  const bench = new Bench();
  bench.engine.handles.open(1, null);
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  say(bench, client, "x", 2 * MS);
  bench.packet(3 * MS, true, 0, 100);
  bench.engine.flush();
  say(bench, client, null, 4 * MS);
  bench.close(client, 5 * MS);
  const [label] = bench.engine.handles.free(1, 6 * MS)!.labels;
  expect(label!.out.bytesUnexplained).toBe(100);
  expect(label!.out.sockets).toBe(1);
  bench.finish();
  const all = [...bench.labels.all()].map(({ name, out }) => [name, out.bytesUnexplained]);
  expect(all).toEqual([[`out:${SERVER_PORT}`, 0], ["x", 100]]);
});

test("bytes that the wire carries again count under the name that holds then", () => {
  const { bench } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  say(bench, client, "one", 2 * MS);
  bench.send(client, 3 * MS, 0, 100);
  bench.packet(4 * MS, true, 0, 100);
  bench.packet(5 * MS, true, 0, 60);
  say(bench, client, "two", 6 * MS);
  bench.packet(7 * MS, true, 20, 80);
  say(bench, client, "one", 8 * MS);
  bench.packet(9 * MS, true, 0, 1);
  bench.close(client, 10 * MS);
  bench.finish();
  const { labels } = bench.engine.handles.standing(1)!;
  expect(labels.map(({ label, out }) => [label, out.bytesRetransmitted])).toEqual([
    ["one", 61], ["two", 80],
  ]);
});

test("names beyond those that have books of their own are summed, and stay in the log", () => {
  const { bench, sink } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  const names = LABELS_MOST + 300;
  for (let i = 0; i < names; i++) {
    say(bench, client, `name ${i}`, (2 + i) * MS);
    bench.send(client, (2 + i) * MS, i * 10, 10);
    bench.packet((2 + i) * MS + 1, true, i * 10, 10);
    bench.engine.flush();
  }
  // Books of names that no call waits for are closed: a socket does not keep one for each.
  expect(living(bench, client).namings.length).toBeLessThan(100);
  bench.finish();
  const { labels, notes, sockets } = bench.engine.handles.standing(1)!;
  expect(labels.length).toBe(LABELS_MOST + 1);
  const other = labels.find(({ label }) => label === OTHER_LABEL)!;
  expect([other.out.calls, other.out.bytesMatched]).toEqual([300, 3000]);
  for (const { out } of labels) expect(out.balances()).toBe(true);
  expect(labels.reduce((sum, { out }) => sum + out.bytesMatched, 0)).toBe(names * 10);
  expect(notes).toEqual([expect.stringContaining('summed under "(other)"')]);
  expect(sink.lines.map(({ name }) => name)).toEqual(Array.from({ length: names }, (_, i) => `name ${i}`));
  sockets.trim();
  const listed = sockets.listed.reduce((sum, { out }) => sum + out.bytesCalled, 0);
  expect(listed + sockets.rest.out.bytesCalled).toBe(names * 10);
});

test("calls that wait keep their names, however many", () => {
  const { bench, sink } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  for (let i = 0; i < 200; i++) {
    say(bench, client, `name ${i}`, (2 + i) * MS);
    bench.send(client, (2 + i) * MS, i * 10, 10);
  }
  bench.packet(300 * MS, true, 0, 2000);
  bench.finish();
  expect(sink.lines.map(({ name, off }) => [name, off])).toEqual(
    Array.from({ length: 200 }, (_, i) => [`name ${i}`, i * 10]),
  );
});

test("a call after many names that had none has the name of its moment", () => {
  const { bench, sink } = nothingElse();
  const client = bench.connected(0);
  bench.handshake(1 * MS);
  const named: string[] = [];
  for (let between = 0; between < 150; between++) {
    const atNs = (2 + between) * MS;
    // The place of the name that had the last call is vacant meanwhile, and is this one's some time.
    for (let i = 0; i <= between; i++) say(bench, client, `name ${between} ${i}`, atNs);
    named.push(`name ${between} ${between}`);
    bench.send(client, atNs, between * 10, 10);
    bench.packet(atNs + 1, true, between * 10, 10);
    bench.engine.flush();
  }
  bench.finish();
  expect(sink.lines.map(({ name }) => name)).toEqual(named);
});
