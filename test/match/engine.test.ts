// When a socket's books are closed, and what of records that make no sense.

import { describe, expect, test } from "bun:test";
import { TcpFlag } from "../../src/capture/packets.ts";
import { Reason } from "../../src/output/reasons.ts";
import { EntryFlag, Kind, SlotFlag, Type } from "../../src/ring/layout.ts";
import { Bench, MS } from "./bench.ts";

/** A client that has sent 10 bytes and closed. */
function closed(): { bench: Bench; client: number } {
  const bench = new Bench();
  const client = bench.connected(1 * MS - 500);
  bench.handshake(1 * MS);
  bench.send(client, 2 * MS, 0, 10);
  bench.packet(3 * MS, true, 0, 10);
  bench.close(client, 4 * MS);
  return { bench, client };
}

describe("the end of a socket", () => {
  test("both FINs, both acknowledged, and silence", () => {
    const { bench, client } = closed();
    bench.packet(5 * MS, true, 10, 0, 0, TcpFlag.FIN | TcpFlag.ACK);
    bench.packet(6 * MS, false, 0, 0, 11, TcpFlag.FIN | TcpFlag.ACK);
    bench.engine.tick(2000 * MS);
    expect(bench.settled.length).toBe(0);
    bench.packet(7 * MS, true, 11, 0, 1);
    bench.engine.tick(250 * MS);
    expect(bench.settled.length).toBe(0);
    bench.engine.tick(258 * MS);
    expect(bench.out(client)).toEqual({ matched: 10 });
    expect(bench.freed).toEqual([client]);
  });

  test("a reset, and silence after it, not after the last data", () => {
    const { bench, client } = closed();
    bench.reset(900 * MS, false, 0);
    bench.engine.tick(1000 * MS);
    expect(bench.settled.length).toBe(0);
    bench.engine.tick(1151 * MS);
    expect(bench.out(client)).toEqual({ matched: 10 });
  });

  test("a guessed reset ends nothing", () => {
    const { bench, client } = closed();
    bench.reset(5 * MS, false, 2 ** 29);
    bench.send(client, 3 * MS, 10, 10);
    bench.engine.tick(2500 * MS);
    expect(bench.settled.length).toBe(0);
    bench.packet(3000 * MS, true, 10, 10);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 20 });
  });

  test("a call that is still in progress is waited for", () => {
    const { bench, client } = closed();
    bench.reset(5 * MS, false, 0);
    bench.show(client, { birthNs: 1, out: { active: 1, off: 10, callNs: 3 * MS } });
    bench.engine.tick(1000 * MS);
    expect(bench.settled.length).toBe(0);
    bench.show(client, { birthNs: 1, out: { active: 0, off: 10, callNs: 3 * MS } });
    bench.engine.tick(1001 * MS);
    expect(bench.settled.length).toBe(1);
  });

  test("what arrived after a close may still be read by a twin", () => {
    const { bench, client } = closed();
    bench.packet(4 * MS + 1, false, 0, 7);
    bench.reset(5 * MS, false, 7);
    bench.engine.tick(10_000 * MS);
    expect(bench.settled.length).toBe(0);
    bench.receive(client, 10_001 * MS, 0, 7);
    bench.engine.flush();
    bench.engine.tick(10_300 * MS);
    expect(bench.in(client)).toEqual({ matched: 7 });
  });

  test("records that come later are refused, and change no books", () => {
    const { bench, client } = closed();
    bench.reset(5 * MS, false, 0);
    bench.engine.tick(1000 * MS);
    bench.send(client, 6 * MS, 10, 10);
    bench.close(client, 7 * MS);
    bench.finish();
    expect(bench.engine.badRecords).toBe(1);
    expect(bench.of(client).out.stats.bytesCalled).toBe(10);
    expect(bench.settled.length).toBe(1);
  });

  test("a connection that was refused leaves nothing", () => {
    const bench = new Bench();
    const client = bench.connecting(1 * MS);
    bench.refuse(client, 2 * MS);
    const other = bench.connected(3 * MS);
    bench.refuse(other, 4 * MS);
    expect(bench.freed).toEqual([other]);
    bench.finish();
    expect(bench.engine.live.size).toBe(0);
    expect([...bench.labels.all()].map((label) => label.out.sockets)).toEqual([0]);
  });

  test("another generation of an entry closes the books of the one before", () => {
    const { bench, client } = closed();
    bench.show(client, { birthNs: 100 * MS, generation: 2 });
    expect(bench.out(client)).toEqual({ matched: 10 });
    bench.send(client, 101 * MS, 0, 5);
    expect(bench.engine.badRecords).toBe(1);
    bench.send(client, 101 * MS, 0, 5, { generation: 2 });
    bench.finish();
    expect(bench.settled.length).toBe(2);
    expect(bench.engine.badRecords).toBe(1);
  });

  test("what the kernel still has to send is in flight, what it has not is unsent", () => {
    for (const [queued, expected] of [[4, 10], [0, 0], [-1, 0]] as const) {
      const bench = new Bench();
      const client = bench.connected(1 * MS - 500);
      bench.handshake(1 * MS);
      bench.send(client, 2 * MS, 0, 20);
      bench.packet(3 * MS, true, 0, 10);
      bench.engine.flush();
      const pending: { sock: number }[] = [];
      bench.engine.pending(pending as never);
      expect(pending.length).toBe(1);
      bench.engine.queued(pending[0]!.sock, queued);
      bench.finish();
      const { stats } = bench.of(client).out;
      expect(stats.bytesInFlight).toBe(expected);
      expect(stats.unmatched[Reason.closedUnsent]).toBe(10 - expected);
      expect(bench.sink.lines.filter((line) => line.startsWith("call")).length).toBe(1);
    }
  });
});

test("sockets of other kinds are counted by kind, and nothing else is", () => {
  const bench = new Bench();
  const [inet, smc, unix, mptcp, sctp] = [2, 43, 1, 262, 132];
  const tell = (domain: number, protocol: number) =>
    bench.record(Kind.Other, 0, 1 * MS, { bytes: domain, off: protocol });
  tell(inet, mptcp);
  tell(inet, mptcp);
  tell(inet, sctp);
  tell(smc, 0);
  expect(bench.engine.badRecords).toBe(0);
  tell(inet, 6);
  tell(inet, 2 ** 32 - 1);
  tell(unix, mptcp);
  expect(bench.engine.badRecords).toBe(3);
  expect(bench.engine.otherSockets)
    .toEqual({ MPTCP: 2, SCTP: 1, DCCP: 0, "UDP-Lite": 0, SMC: 1, vsock: 0 });
});

describe("a process that dies inside a call", () => {
  function dying(active: number, held: boolean): Bench {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    const flags = held ? SlotFlag.Overlap : 0;
    bench.send(client, 2 * MS, 0, 10, { flags, group: 1 });
    bench.packet(4 * MS, true, 0, 30);
    bench.show(client, { birthNs: 1, out: { active, off: 10, callNs: 3 * MS } });
    bench.finish();
    expect(bench.engine.interrupted).toBe(1);
    return bench;
  }

  test("what the wire shows of it is that call's", () => {
    const bench = dying(1, false);
    expect(bench.out(0)).toEqual({ matched: 30 });
    expect(bench.of(0).out.stats.calls).toBe(2);
  });

  test("of several nobody knows whose it is", () => {
    expect(dying(2, false).out(0)).toEqual({ matched: 10, [Reason.interrupted]: 20 });
  });

  test("nor if it overlapped with the last one that was recorded", () => {
    expect(dying(1, true).out(0)).toEqual({
      matched: 0,
      [Reason.concurrent]: 10,
      [Reason.interrupted]: 20,
    });
  });
});

describe("lost records", () => {
  test("a gap is waited for as long as nothing was lost, and then a second", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.packet(3 * MS, true, 0, 20);
    bench.send(client, 2 * MS, 10, 10);
    bench.engine.tick(3000 * MS);
    expect(bench.sink.lines).toEqual([]);
    bench.engine.ringRecords = 1;
    bench.engine.tick(1001 * MS);
    expect(bench.sink.lines).toEqual([]);
    bench.engine.tick(1003 * MS);
    expect(bench.sink.lines.length).toBe(2);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 10, [Reason.ringDrop]: 10 });
  });

  test("a socket whose birth was lost is found by its first call, or at the end", () => {
    const bench = new Bench();
    bench.handshake(1 * MS);
    bench.packet(3 * MS, false, 0, 10);
    expect(bench.engine.isUnknown(bench.table, 0, 1)).toBe(true);
    const client = bench.connected(1 * MS - 500, { in: { active: 0, off: 10, callNs: 0 } });
    expect(bench.engine.isUnknown(bench.table, 0, 1)).toBe(false);
    bench.finish();
    expect(bench.in(client)).toEqual({ matched: 0, [Reason.ringDrop]: 10 });
  });
});

describe("what cannot be joined", () => {
  test("kernel TLS frames the bytes itself, from the first record that says so", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.send(client, 2 * MS, 0, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.engine.flush();
    bench.send(client, 4 * MS, 10, 10, { flags: SlotFlag.Ktls });
    for (let i = 0; i < 100; i++) bench.packet(5 * MS + i, true, 10 + i, 1);
    bench.engine.flush();
    const [connection] = bench.engine.live;
    expect(connection!.out.sightings!.queue.length).toBe(0);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 10, [Reason.ktls]: 10 });
  });

  test("urgent data spoils what is read, not what is sent", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.send(client, 2 * MS, 0, 10, { flags: SlotFlag.Urgent });
    bench.packet(3 * MS, true, 0, 10);
    bench.packet(3 * MS, false, 0, 9, 0, TcpFlag.ACK | TcpFlag.URG);
    bench.receive(client, 4 * MS, 0, 8);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 10 });
    expect(bench.in(client)).toEqual({ matched: 0, [Reason.urgent]: 8 });
  });

  describe("what arrived before urgent data", () => {
    const URGENT = TcpFlag.ACK | TcpFlag.URG;
    function connected(): { bench: Bench; client: number } {
      const bench = new Bench();
      const client = bench.connected(1 * MS - 500);
      bench.handshake(1 * MS);
      return { bench, client };
    }

    test("is joined, though both are known at once", () => {
      const { bench, client } = connected();
      bench.receive(client, 4 * MS, 0, 20);
      bench.receive(client, 6 * MS, 20, 7, { flags: SlotFlag.Urgent });
      bench.packet(3 * MS, false, 0, 20);
      bench.packet(5 * MS, false, 20, 8, 0, URGENT);
      bench.finish();
      expect(bench.in(client)).toEqual({ matched: 20, [Reason.urgent]: 7 });
    });

    test("and is read after it", () => {
      const { bench, client } = connected();
      bench.packet(3 * MS, false, 0, 20);
      bench.packet(4 * MS, false, 20, 8, 0, URGENT);
      bench.engine.flush();
      bench.receive(client, 5 * MS, 0, 15, { flags: SlotFlag.Urgent });
      bench.engine.flush();
      // Sent again in one segment, and more of the stream.
      bench.packet(6 * MS, false, 10, 18, 0, URGENT);
      bench.packet(6 * MS, false, 28, 100);
      bench.receive(client, 7 * MS, 15, 30, { flags: SlotFlag.Urgent });
      bench.finish();
      expect(bench.in(client)).toEqual({ matched: 20, [Reason.urgent]: 25 });
      expect(bench.of(client).in.stats.bytesUnread).toBe(0);
    });

    test("is joined up to what the capture missed of it", () => {
      const { bench, client } = connected();
      bench.packet(3 * MS, false, 0, 10);
      bench.packet(4 * MS, true, 0, 0, 20);
      bench.packet(5 * MS, false, 20, 8, 0, URGENT);
      bench.receive(client, 6 * MS, 0, 27);
      bench.engine.flush();
      expect([...bench.engine.live][0]!.in.lost).toBe(true);
      bench.finish();
      expect(bench.in(client)).toEqual({ matched: 10, [Reason.unseen]: 10, [Reason.urgent]: 7 });
    });

    test("and of it nothing where the urgent data may have been missed", () => {
      const { bench, client } = connected();
      bench.engine.instances.drops.now = 1;
      bench.receive(client, 4 * MS, 0, 20, { flags: SlotFlag.Urgent });
      bench.packet(3 * MS, false, 0, 20);
      bench.finish();
      expect(bench.in(client)).toEqual({ matched: 0, [Reason.urgent]: 20 });
    });
  });

  test("a packet before its call, or a call before its packet, is the clock's fault", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.send(client, 5 * MS, 0, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.packet(9 * MS, false, 0, 10);
    bench.receive(client, 8 * MS, 0, 10);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 0, [Reason.clock]: 10 });
    expect(bench.in(client)).toEqual({ matched: 0, [Reason.clock]: 10 });
  });

  test("a direction that is not asked for has no books", () => {
    const bench = new Bench({ out: false });
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.send(client, 2 * MS, 0, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.packet(3 * MS, false, 0, 7);
    bench.receive(client, 4 * MS, 0, 7);
    bench.finish();
    expect(bench.of(client).out.stats.bytesCalled).toBe(0);
    expect(bench.in(client)).toEqual({ matched: 7 });
  });

  test("nor does the socket wait for its bytes to be read, or keep their times", () => {
    const bench = new Bench({ in: false });
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    for (let i = 0; i < 100; i++) bench.packet(2 * MS + i, false, i, 1);
    bench.engine.flush();
    const [connection] = bench.engine.live;
    expect(connection!.in.sightings!.queue.length).toBe(0);
    bench.close(client, 3 * MS, 0xffffffff);
    bench.reset(4 * MS, false, 100);
    bench.engine.tick(1000 * MS);
    expect(bench.settled.length).toBe(1);
  });
});

describe("records that make no sense", () => {
  test("are counted, and do no harm", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    const wrong: (() => void)[] = [
      () => bench.record(0, client, 0),
      () => bench.record(99, client, 0),
      () => bench.listen(70000),
      () => bench.send(client, 0, Number.MAX_SAFE_INTEGER + 1, 1),
      () => bench.send(7, 0, 0, 1),
      () => bench.send(client, 0, 0, 1, { generation: 9 }),
      () => bench.show(8, { birthNs: 1, type: 77 }),
    ];
    wrong.forEach((act, n) => {
      act();
      expect(bench.engine.badRecords).toBe(n + 1);
    });
    bench.send(client, 0, 0, 0);
    bench.close(9, 1);
    bench.finish();
    expect(bench.settled.length).toBe(1);
    expect(bench.engine.badRecords).toBe(wrong.length);
  });

  test("datagram sockets are counted, not joined", () => {
    const bench = new Bench();
    bench.show(5, { birthNs: 1, type: Type.Udp, flags: EntryFlag.Connected });
    expect(bench.engine.isUnknown(bench.table, 5, 1)).toBe(false);
    bench.send(5, 2, 0, 100);
    bench.receive(5, 2, 0, 50);
    bench.record(Kind.Unbind, 5, 3);
    bench.send(5, 4, 0, 1);
    bench.finish();
    expect(bench.engine.datagram).toEqual({ sockets: 1, calls: 2, bytes: 150 });
    expect(bench.freed).toEqual([5]);
    expect(bench.engine.badRecords).toBe(1);
  });
});
