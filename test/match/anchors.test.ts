// What becomes of a socket that is older than the capture: its calls, its books, and what an anchor
// that the kernel contradicts does to them.

import { describe, expect, test } from "bun:test";
import { Reason } from "../../src/output/reasons.ts";
import { EntryFlag } from "../../src/ring/layout.ts";
import { picksPackets } from "../../src/session/partial-filter.ts";
import { Bench, CLIENT, CLIENT_PORT, MS, SERVER, SERVER_PORT } from "./bench.ts";
import { entry, observe } from "./moments.ts";
import { LineSink } from "./sink.ts";

/** A client's socket, adopted after 1000 bytes sent and 500 read; its first calls, and an exchange. */
function adopted(birthNs = 11.2 * MS): Bench {
  const bench = new Bench();
  bench.engine.entry(bench.table, 0, entry({ birthNs }, 1001, 500));
  bench.send(0, 10 * MS, 0, 10);
  bench.receive(0, 12 * MS, 0, 4);
  // The bench counts its packets' offsets from the SYN.
  bench.packet(11 * MS, true, 1000, 10, 500);
  bench.packet(11.5 * MS, false, 500, 4, 1010);
  bench.packet(11.6 * MS, true, 1010, 0, 504);
  // One moment proves nothing: another must agree, and a packet have come in between.
  observe(bench, 13 * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
  bench.packet(14 * MS, false, 504, 0, 1010);
  return bench;
}

describe("a socket that is older than the capture", () => {
  test("waits for its anchor, then its first calls are matched like all others", () => {
    const bench = adopted();
    bench.engine.flush();
    bench.engine.tick(6000 * MS);
    expect(bench.sink.lines).toEqual([]);
    observe(bench, 6001 * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
    bench.engine.tick(6000 * MS);
    expect(bench.sink.lines).toEqual([]);
    bench.engine.tick(6100 * MS);
    bench.send(0, 6200 * MS, 10, 20);
    bench.packet(6201 * MS, true, 1010, 20, 504);
    bench.finish();
    expect(bench.sink.lines).toEqual([
      "call 0 10000000-11000000,first=11000000,bytes=10,off=0,pid=100,fd=3,40000-443",
      "call 1 11500000-12000000,first=11500000,inorder=11500000,bytes=4,off=0,pid=100,fd=3,40000-443",
      "call 0 6200000000-6201000000,first=6201000000,bytes=20,off=10,pid=100,fd=3,40000-443",
    ]);
    expect(bench.out(0)).toEqual({ matched: 30 });
    expect(bench.in(0)).toEqual({ matched: 4 });
    expect(bench.engine.anchors.contradicted).toBe(0);
  });

  test("of which nothing had passed when it was met: one moment is enough", () => {
    for (const isFirst of [true, false]) {
      const bench = adopted(isFirst ? 9 * MS : undefined);
      bench.engine.tick(100 * MS);
      expect(bench.sink.lines.length).toBe(isFirst ? 2 : 0);
    }
  });

  test("without a moment, and without a packet", () => {
    const bench = adopted();
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 0, [Reason.noAnchor]: 10 });
    expect(bench.in(0)).toEqual({ matched: 0, [Reason.noAnchor]: 4 });
    const silent = new Bench();
    silent.engine.entry(silent.table, 0, entry({}, 1001, 500));
    silent.send(0, 10 * MS, 0, 10);
    silent.finish();
    expect(silent.out(0)).toEqual({ matched: 0, [Reason.filtered]: 10 });
  });

  test("bytes in calls that nobody recorded end its anchor, from there on", () => {
    const bench = adopted();
    observe(bench, 20 * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
    bench.engine.tick(100 * MS);
    bench.packet(200 * MS, true, 1010, 7, 504);
    bench.packet(201 * MS, false, 504, 0, 1017);
    observe(bench, 300 * MS, { acked: 1018, received: 504, outOff: 10, inOff: 4 });
    bench.engine.tick(299 * MS);
    expect(bench.engine.anchors.contradicted).toBe(0);
    bench.engine.tick(400 * MS);
    expect(bench.engine.anchors.contradicted).toBe(1);
    bench.send(0, 500 * MS, 10, 20);
    bench.packet(501 * MS, true, 1017, 20, 504);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 10, [Reason.noAnchor]: 20 });
  });

  test("an anchor that packets contradict ends as well", () => {
    for (const wrong of [{ acked: 1012, received: 504 }, { acked: 1011, received: 505 }]) {
      const bench = adopted();
      observe(bench, 20 * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
      bench.engine.tick(100 * MS);
      // In a call, so that only the wire can tell.
      observe(bench, 300 * MS, { ...wrong, outOff: 10, inOff: 4, idle: 0 });
      bench.engine.tick(400 * MS);
      expect(bench.engine.anchors.contradicted).toBe(1);
    }
  });

  const PROVEN = { acked: 1011, received: 504, outOff: 10, inOff: 4 };

  /** As `adopted`, anchored, with nothing more to come. */
  function anchored(): Bench {
    const bench = adopted();
    observe(bench, 20 * MS, PROVEN);
    bench.engine.tick(100 * MS);
    return bench;
  }

  test("a time that cannot be ends its anchor, and what was matched by it is told", () => {
    const bench = anchored();
    bench.send(0, 210 * MS, 10, 20);
    bench.packet(200 * MS, true, 1010, 20, 504);
    bench.send(0, 220 * MS, 30, 5);
    bench.packet(230 * MS, true, 1030, 5, 504);
    // The other direction is no better.
    bench.packet(240 * MS, false, 504, 3, 1035);
    bench.receive(0, 250 * MS, 4, 3);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 10, [Reason.noAnchor]: 25 });
    expect(bench.in(0)).toEqual({ matched: 4, [Reason.noAnchor]: 3 });
    expect([bench.engine.anchors.contradicted, bench.engine.anchors.bytesDoubtful]).toEqual([1, 14]);
  });

  test("a clock that is set back ends what two moments would have proven", () => {
    for (const how of ["said", "seen"]) {
      const bench = adopted();
      bench.engine.tick(19 * MS);
      if (how === "seen") bench.engine.tick(18 * MS);
      observe(bench, 20 * MS, { ...PROVEN, turnedBack: how === "said" ? 1 : 0 });
      bench.engine.tick(100 * MS);
      observe(bench, 110 * MS, PROVEN);
      bench.engine.tick(200 * MS);
      bench.engine.tick(300 * MS);
      expect(bench.sink.lines).toEqual([]);
      // Nothing that came before is evidence, not even for the first of two.
      for (const atNs of [310 * MS, 320 * MS, 330 * MS]) {
        bench.packet(atNs, false, 504, 0, 1010);
        observe(bench, atNs + MS, PROVEN);
      }
      bench.engine.tick(400 * MS);
      expect(bench.sink.lines.length).toBe(2);
    }
  });

  test("bytes in calls that nobody recorded, before it is anchored", () => {
    const bench = new Bench();
    bench.engine.takeEntry(bench.table, 0, entry({ flags: EntryFlag.Connected }));
    observe(bench, 10 * MS, { acked: 8, received: 0, outOff: 0, inOff: 0 });
    bench.engine.tick(100 * MS);
    expect(bench.engine.anchors.contradicted).toBe(1);
    bench.send(0, 110 * MS, 0, 5);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 0, [Reason.noAnchor]: 5 });
  });

  test("what the capture dropped says nothing against it; what comes later does", () => {
    const bench = anchored();
    const { drops } = bench.engine.instances;
    drops.now = 3;
    // The acknowledgment of 7 more bytes was dropped.
    bench.packet(200 * MS, true, 1010, 7, 504);
    observe(bench, 300 * MS, { acked: 1018, received: 504, outOff: 17, inOff: 4 });
    bench.send(0, 199 * MS, 10, 7);
    bench.engine.tick(400 * MS);
    drops.drained = 3;
    observe(bench, 500 * MS, { acked: 1018, received: 504, outOff: 17, inOff: 4 });
    bench.engine.tick(600 * MS);
    expect(bench.engine.anchors.contradicted).toBe(0);
    bench.packet(700 * MS, false, 504, 0, 1017);
    // In a call, so that only the wire can tell.
    observe(bench, 800 * MS, { acked: 1019, received: 504, outOff: 17, inOff: 4, idle: 0 });
    bench.engine.tick(900 * MS);
    expect(bench.engine.anchors.contradicted).toBe(1);
  });

  test("a capture that may show only a part of it: none is anchored, and it is counted", () => {
    const bench = new Bench({ isPartial: true });
    bench.engine.entry(bench.table, 0, entry({}, 1001, 500));
    bench.send(0, 10 * MS, 0, 10);
    bench.packet(11 * MS, true, 1000, 10, 500);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 0, [Reason.noAnchor]: 10 });
    expect(bench.engine.anchors.partial).toBe(1);
    for (const [filter, picks] of [
      ["tcp and not port 22", false], ["host lens.example and tcp port 443", false], ["greater 100", true],
      ["tcp and len <= 80", true], ["tcp[tcpflags] & tcp-push != 0", true], ["inbound and tcp", true],
    ] as const) {
      expect(picksPackets(filter)).toBe(picks);
    }
  });

  test("calls that wait are bounded for all sockets together: those of the oldest are given up", () => {
    const bench = new Bench({ waitingCalls: 100 });
    for (let n = 0; n < 4; n++) {
      bench.engine.entry(bench.table, n, entry({ lport: 5000 + n, inode: 100 + n }, 1001, 500));
    }
    for (let call = 0; call < 30; call++) {
      for (let n = 0; n < 4; n++) bench.send(n, (10 + call) * MS, call * 10, 10);
      bench.engine.flush();
    }
    const waiting = [...bench.engine.live].map(({ out }) => out.calls.queue.length);
    expect(waiting).toEqual([4, 4, 30, 30]);
    expect(bench.engine.waiting.givenUp).toBe(52);
    bench.finish();
    expect(bench.engine.waiting.givenUp).toBe(52);
  });

  test("a socket of which no packet was seen is filtered, whatever others look like", () => {
    const bench = new Bench();
    bench.engine.instances.listen(SERVER_PORT, 0);
    // Another connection to the same server.
    bench.handshake(1 * MS);
    bench.engine.entry(bench.table, 0, entry({ lport: 5000, birthNs: 2 * MS }, 1001, 500));
    bench.send(0, 10 * MS, 0, 10);
    // What is read may have waited.
    bench.engine.entry(bench.table, 1, entry({ lport: 5001, inode: 78, birthNs: 2 * MS }, 1001, 500));
    bench.receive(1, 10 * MS, 0, 10);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 0, [Reason.filtered]: 10 });
    expect(bench.in(1)).toEqual({ matched: 0, [Reason.filtered]: 10 });
  });

  test("the order in which sockets were asked about changes nothing", () => {
    const play = (order: readonly number[]) => {
      const bench = new Bench();
      for (const n of [0, 1]) {
        bench.engine.entry(
          bench.table, n,
          n === 0
            ? entry({}, 1001, 500)
            : entry({ local: SERVER, remote: CLIENT, lport: SERVER_PORT, rport: CLIENT_PORT, inode: 78 }, 500, 1000),
        );
      }
      bench.send(0, 10 * MS, 0, 10);
      bench.receive(1, 12 * MS, 0, 10);
      bench.packet(11 * MS, true, 1000, 10, 500);
      bench.packet(11.5 * MS, false, 500, 0, 1010);
      bench.packet(11.6 * MS, true, 1010, 0, 500);
      for (const sock of order) bench.engine.anchors.answered(sock, true);
      for (const atNs of [13 * MS, 15 * MS]) {
        observe(bench, atNs, { acked: 1011, received: 500, outOff: 10, inOff: 0 }, 1);
        observe(bench, atNs, { acked: 500, received: 1010, outOff: 0, inOff: 10 }, 2);
        bench.packet(atNs + 1 * MS, false, 500, 0, 1010);
        bench.packet(atNs + 1.1 * MS, true, 1010, 0, 500);
      }
      bench.engine.flush();
      bench.engine.tick(100 * MS);
      expect(bench.sink.lines.length).toBe(2);
      return bench.sink.lines;
    };
    expect(play([2, 1])).toEqual(play([1, 2]));
  });

  test("what agrees goes on", () => {
    const bench = adopted();
    for (let n = 0; n < 5; n++) {
      observe(bench, (20 + n * 100) * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
      bench.engine.tick((100 + n * 100) * MS);
    }
    expect(bench.engine.anchors.contradicted).toBe(0);
  });
});

test("a handle that is freed before its old socket has an anchor says so, and claims nothing in flight", () => {
  const sink = new LineSink();
  const bench = new Bench({ everything: null });
  const { handles } = bench.engine;
  handles.open(1, sink);
  handles.addRule(1, { localPort: CLIENT_PORT, remote: null, name: "old" }, 1);
  bench.engine.entry(bench.table, 0, entry({ birthNs: 11.2 * MS }, 1001, 500));
  bench.send(0, 12 * MS, 0, 10);
  bench.receive(0, 13 * MS, 0, 4);
  bench.packet(12.1 * MS, true, 1000, 10, 500);
  bench.packet(12.5 * MS, false, 500, 4, 1010);
  bench.engine.flush();
  expect(handles.isPending(1)).toBe(true);
  const [books] = handles.free(1, 20 * MS)!.labels;
  for (const [stats, bytes] of [[books!.out, 10], [books!.in, 4]] as const) {
    expect(stats.bytesCalled).toBe(bytes);
    expect(stats.unmatched[Reason.noAnchor]).toBe(bytes);
    expect(stats.bytesInFlight).toBe(0);
    expect(stats.balances()).toBe(true);
  }
  expect(sink.lines.map((line) => line.match(/^miss \d|bytes=\d+|reason=\d+/g))).toEqual([
    ["miss 0", "bytes=10", `reason=${Reason.noAnchor}`],
    ["miss 1", "bytes=4", `reason=${Reason.noAnchor}`],
  ]);
});

test("… and another handle's calls of that socket still wait for the anchor", () => {
  const [freed, kept] = [new LineSink(), new LineSink()];
  const bench = new Bench({ everything: null });
  const { handles } = bench.engine;
  for (const [handle, sink] of [[1, freed], [2, kept]] as const) {
    handles.open(handle, sink);
    handles.addRule(handle, { localPort: CLIENT_PORT, remote: null, name: "old" }, 1);
  }
  bench.engine.entry(bench.table, 0, entry({ birthNs: 11.2 * MS }, 1001, 500));
  bench.send(0, 12 * MS, 0, 10);
  bench.packet(12.1 * MS, true, 1000, 10, 500);
  bench.packet(12.5 * MS, false, 500, 0, 1010);
  bench.engine.flush();
  const [books] = handles.free(1, 20 * MS)!.labels;
  expect(books!.out.unmatched[Reason.noAnchor]).toBe(10);
  expect(books!.out.balances()).toBe(true);
  observe(bench, 23 * MS, { acked: 1011, received: 500, outOff: 10, inOff: 0 });
  bench.packet(24 * MS, true, 1010, 0, 500);
  observe(bench, 25 * MS, { acked: 1011, received: 500, outOff: 10, inOff: 0 });
  bench.packet(26 * MS, true, 1010, 0, 500);
  bench.engine.tick(30 * MS);
  bench.engine.flush();
  const [rest] = handles.standing(2)!.labels;
  expect(rest!.out.bytesMatched).toBe(10);
  expect(kept.lines.join()).toContain("call 0");
  expect(freed.lines).toEqual([]);
});
