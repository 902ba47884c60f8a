// What becomes of a socket that is taken over, in the middle of its life or while it connects: its
// offsets go on, and what had passed before is not matched.

import { describe, expect, test } from "bun:test";
import { Reason } from "../../src/output/reasons.ts";
import { EntryFlag, Kind, State } from "../../src/ring/layout.ts";
import { Bench, MS } from "./bench.ts";
import { entry, observe } from "./moments.ts";
import { slotWords } from "./words.ts";

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

  for (const active of [0, 1]) {
    const how = active === 0 ? "" : ", in a call";
    test(`moves bytes on before the kernel is asked about it${how}: what passed first is matched`, () => {
      const bench = new Bench();
      const flags = EntryFlag.Connected;
      const out = { active, off: 100, callNs: 0 };
      bench.engine.takeEntry(bench.table, 0, entry({ flags, out, in: { active: 0, off: 50, callNs: 0 } }));
      // Sent again: the first one passed before the capture, and is on its way to the socket.
      bench.packet(3 * MS, false, 50, 5, 100);
      bench.packet(3.1 * MS, true, 100, 0, 50);
      bench.packet(3.2 * MS, true, 100, 0, 55);
      // From here on all that had been on its way to the socket is there.
      bench.packet(6 * MS, true, 100, 8, 55);
      bench.packet(7 * MS, false, 55, 5, 108);
      bench.packet(7.1 * MS, true, 108, 0, 60);
      bench.send(0, 5.9 * MS, 100, 8);
      bench.receive(0, 7.2 * MS, 50, 10);
      observe(bench, 10 * MS, { acked: 109, received: 60, outOff: 108, inOff: 60 });
      bench.packet(11 * MS, false, 60, 0, 108);
      bench.packet(11 * MS, true, 108, 0, 60);
      observe(bench, 30 * MS, { acked: 109, received: 60, outOff: 108, inOff: 60 });
      bench.engine.tick(100 * MS);
      bench.finish();
      // Its call may have sent them before the capture began.
      expect(bench.out(0)).toEqual(active === 0 ? { matched: 8 } : { matched: 0, [Reason.noAnchor]: 8 });
      expect(bench.in(0)).toEqual({ matched: 5, [Reason.noAnchor]: 5 });
    });
  }

  for (const first of ["its birth", "its handshake"]) {
    test(`still connecting: its handshake is its anchor (${first} is read first)`, () => {
      const bench = new Bench();
      const flags = EntryFlag.Connected;
      const connecting = { flags, state: State.Connecting, lport: 0, birthNs: 1 * MS };
      bench.engine.takeEntry(bench.table, 0, entry(connecting));
      // It has written by the time that its birth is read.
      const out = { active: 0, off: 8, callNs: 10 * MS };
      const born = () => bench.engine.entry(bench.table, 0, entry({ flags, birthNs: 1 * MS, out }));
      if (first === "its birth") born();
      bench.handshake(5 * MS);
      if (first !== "its birth") born();
      bench.send(0, 10 * MS, 0, 8);
      bench.packet(11 * MS, true, 0, 8);
      bench.engine.flush();
      bench.engine.tick(100 * MS);
      expect(bench.engine.anchors.size).toBe(0);
      bench.finish();
      expect(bench.out(0)).toEqual({ matched: 8 });
    });
  }

  test("still connecting, and its handshake was before: the next one is another connection's", () => {
    const bench = new Bench();
    const flags = EntryFlag.Connected;
    bench.engine.takeEntry(bench.table, 0, entry({ flags, state: State.Connecting, lport: 0, birthNs: 1 * MS }));
    bench.engine.entry(bench.table, 0, entry({ flags, birthNs: 1 * MS }));
    observe(bench, 9 * MS, { acked: 1, received: 0, outOff: 0, inOff: 0 });
    bench.send(0, 10 * MS, 0, 8);
    bench.packet(11 * MS, true, 0, 8);
    bench.packet(12 * MS, false, 0, 0, 8);
    bench.packet(12.1 * MS, true, 8, 0, 0);
    observe(bench, 13 * MS, { acked: 9, received: 0, outOff: 8, inOff: 0 });
    bench.engine.tick(100 * MS);
    const [connection] = bench.engine.live;
    const { instance } = connection!;
    expect(instance).not.toBe(null);
    bench.renew(70_000, 90_000);
    bench.handshake(200 * MS);
    bench.engine.tick(300 * MS);
    expect(connection!.instance).toBe(instance);
    bench.finish();
    expect(bench.out(0)).toEqual({ matched: 8 });
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
