// What becomes of a socket that is older than the capture: its calls, its books, and what an anchor
// that the kernel contradicts does to them.

import { describe, expect, test } from "bun:test";
import { Observed } from "../../src/match/anchor.ts";
import { Reason } from "../../src/output/reasons.ts";
import { EntryFlag, EntryWord, Kind } from "../../src/ring/layout.ts";
import { Bench, CLIENT, CLIENT_PORT, MS, SERVER, SERVER_PORT } from "./bench.ts";
import { type EntryFields, entryWords, slotWords } from "./words.ts";

const INODE = 77;

interface Moment {
  acked: number;
  received: number;
  outOff: number;
  inOff: number;
  unread?: number;
  idle?: number;
}

/** A moment with nothing queued for sending. */
function observe(bench: Bench, atNs: number, moment: Moment, sock = 1): void {
  const values = new Float64Array(Observed.count);
  const { acked, received, outOff, inOff, unread = 0, idle = 1 } = moment;
  values.set([
    atNs, atNs + 5000, 1, acked, received, 0, acked, received - unread, outOff, inOff, idle, idle, 0,
  ]);
  bench.engine.anchors.observe(sock, values);
}

function entry(fields: Partial<EntryFields>, sentBefore = 0, readBefore = 0): Uint32Array {
  const words = entryWords({
    generation: 1, flags: EntryFlag.Adopted | EntryFlag.Counted, local: CLIENT, remote: SERVER,
    lport: CLIENT_PORT, rport: SERVER_PORT, pid: 100, fd: 3, inode: INODE, birthNs: 1, ...fields,
  });
  for (const [at, count] of [[EntryWord.sentBefore, sentBefore], [EntryWord.readBefore, readBefore]] as const) {
    words[at] = count % 2 ** 32;
    words[at + 1] = Math.floor(count / 2 ** 32);
  }
  return words;
}

/** A client's socket, adopted after 1000 bytes sent and 500 read; its first calls, and an exchange. */
function adopted(): Bench {
  const bench = new Bench();
  bench.engine.entry(bench.table, 0, entry({}, 1001, 500));
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

  test("what agrees goes on", () => {
    const bench = adopted();
    for (let n = 0; n < 5; n++) {
      observe(bench, (20 + n * 100) * MS, { acked: 1011, received: 504, outOff: 10, inOff: 4 });
      bench.engine.tick((100 + n * 100) * MS);
    }
    expect(bench.engine.anchors.contradicted).toBe(0);
  });
});

describe("a socket that was taken over", () => {
  const FAR = 3 * 2 ** 32;

  function taken(): Bench {
    const bench = new Bench();
    const out = { active: 0, off: FAR + 100, callNs: 0 };
    bench.engine.takeEntry(
      bench.table, 0, entry({ flags: EntryFlag.Connected, out, in: { active: 0, off: 50, callNs: 0 } }),
    );
    return bench;
  }

  test("goes on at its offset, whatever the turns of the sequence number", () => {
    const bench = taken();
    observe(bench, 5 * MS, { acked: FAR + 101, received: 60, outOff: FAR + 100, inOff: 50, unread: 10 });
    // Written before, and late: not of this session.
    bench.send(0, 1 * MS, FAR + 90, 10);
    expect(bench.engine.badRecords).toBe(0);
    bench.send(0, 10 * MS, FAR + 100, 8);
    bench.receive(0, 12 * MS, 50, 15);
    bench.packet(11 * MS, true, FAR + 100, 8, 60);
    bench.packet(11.5 * MS, false, 60, 5, FAR + 108);
    bench.packet(11.6 * MS, true, FAR + 108, 0, 65);
    observe(bench, 20 * MS, { acked: FAR + 109, received: 65, outOff: FAR + 108, inOff: 65 });
    bench.engine.tick(100 * MS);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 8 });
    // Ten of the fifteen had arrived before.
    expect(bench.in(0)).toEqual({ matched: 5, [Reason.noAnchor]: 10 });
    expect(bench.sink.lines[0]).toContain(`bytes=8,off=${FAR + 100}`);
    expect(bench.engine.badRecords).toBe(0);
  });

  test("another program had gone on with it: its offsets follow from what it noted", () => {
    const bench = taken();
    const other = bench.engine.addTable();
    bench.engine.takeEntry(
      other, 0,
      entry({ out: { active: 0, off: 30, callNs: 0 }, in: { active: 0, off: 0, callNs: 0 } }, FAR + 101, 50),
    );
    observe(bench, 5 * MS, { acked: FAR + 131, received: 50, outOff: FAR + 130, inOff: 50 });
    bench.engine.record(
      other,
      slotWords({ kind: Kind.Out, entry: 0, generation: 1, timeNs: 10 * MS, off: 30, bytes: 9, fd: 3, pid: 7 }),
    );
    bench.packet(11 * MS, true, FAR + 130, 9, 50);
    bench.packet(11.5 * MS, false, 50, 0, FAR + 139);
    observe(bench, 20 * MS, { acked: FAR + 140, received: 50, outOff: FAR + 139, inOff: 50 });
    bench.engine.tick(100 * MS);
    bench.finish();
    expect(bench.sink.lines).toEqual([
      `call 0 10000000-11000000,first=11000000,bytes=9,off=${FAR + 130},pid=7,fd=3,40000-443`,
    ]);
  });
});
