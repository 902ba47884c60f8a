// Which socket a connection on the wire belongs to.

import { describe, expect, test } from "bun:test";
import { TcpFlag } from "../../src/capture/packets.ts";
import { Reason } from "../../src/output/reasons.ts";
import { Bench, CLIENT, CLIENT_PORT, MS, SERVER, SERVER_PORT } from "./bench.ts";
import { ipv4 } from "./words.ts";

describe("a four-tuple that comes back", () => {
  test("births of several rings, the later one read first", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    // Both in one round, between the packets of the first connection and those of the second.
    const second = bench.accepted(12 * MS);
    const first = bench.accepted(3 * MS);
    bench.receive(second, 14 * MS, 0, 20);
    bench.receive(first, 4 * MS, 0, 10);
    bench.reset(5 * MS, true, 10);
    bench.renew(77, 88);
    bench.handshake(10 * MS);
    bench.packet(13 * MS, true, 0, 20);
    bench.finish();
    expect(bench.in(first)).toEqual({ matched: 10 });
    expect(bench.in(second)).toEqual({ matched: 20 });
    expect(bench.of(second).in.stats.byteNs.max).toBe(1 * MS);
  });

  test("a scan that never became a connection is not what accept returns", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS, false);
    bench.reset(2 * MS, true, 0);
    bench.renew(77, 88);
    bench.handshake(10 * MS);
    const server = bench.accepted(12 * MS);
    bench.packet(13 * MS, true, 0, 10);
    bench.receive(server, 14 * MS, 0, 10);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 10 });
  });

  test("nor is one that was over long ago, whoever had it", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 30);
    bench.reset(3 * MS, true, 30);
    bench.renew(77, 88);
    bench.handshake(60_000 * MS);
    const server = bench.accepted(60_002 * MS);
    bench.packet(60_003 * MS, true, 0, 10);
    bench.receive(server, 60_004 * MS, 0, 10);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 10 });
    expect(bench.of(server).in.stats.byteNs.max).toBe(1 * MS);
  });

  test("connections that wait for accept are returned in their order", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    bench.reset(3 * MS, true, 10);
    bench.renew(77, 88);
    bench.handshake(4 * MS);
    bench.packet(5 * MS, true, 0, 20);
    const first = bench.accepted(6 * MS);
    const second = bench.accepted(7 * MS);
    bench.receive(first, 8 * MS, 0, 10);
    bench.receive(second, 9 * MS, 0, 20);
    bench.finish();
    expect(bench.in(first)).toEqual({ matched: 10 });
    expect(bench.in(second)).toEqual({ matched: 20 });
    expect(bench.of(second).in.stats.byteNs.max).toBe(4 * MS);
  });

  test("a socket that was closed before the handshake is not the one that connects", () => {
    const bench = new Bench();
    // The first handshake was not captured.
    const first = bench.connected(1 * MS);
    bench.send(first, 2 * MS, 0, 10);
    bench.close(first, 3 * MS);
    bench.renew(77, 88);
    bench.connecting(10 * MS);
    bench.handshake(10 * MS);
    bench.packet(12 * MS, true, 0, 10);
    const second = bench.connected(10 * MS - 500);
    bench.send(second, 11 * MS, 0, 10);
    bench.finish();
    expect(bench.out(first).matched).toBe(0);
    expect(bench.out(second)).toEqual({ matched: 10 });
  });

  test("of several that are not closed the last one is", () => {
    const bench = new Bench();
    const first = bench.connected(1 * MS);
    bench.send(first, 2 * MS, 0, 10);
    const second = bench.connected(9 * MS);
    bench.send(second, 11 * MS, 0, 10);
    bench.handshake(10 * MS);
    bench.packet(12 * MS, true, 0, 10);
    bench.finish();
    expect(bench.out(first).matched).toBe(0);
    expect(bench.out(second)).toEqual({ matched: 10 });
  });

  test("without its handshake it is not taken for the one before", () => {
    const bench = new Bench();
    const first = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    bench.send(first, 1.5 * MS, 0, 110);
    bench.reset(3 * MS, true, 10);
    // The clock that initial numbers are made of has moved by 50 only.
    bench.renew(bench.clientFirst + 50, bench.serverFirst + 50);
    bench.packet(4 * MS, true, 0, 100);
    bench.finish();
    expect(bench.out(first)).toEqual({ matched: 10, [Reason.closedUnsent]: 100 });
  });

  test("goes on when the socket that had it before is settled", () => {
    const bench = new Bench();
    const first = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.reset(2 * MS, true, 0);
    bench.close(first, 3 * MS);
    bench.renew(77, 88);
    const second = bench.connected(4 * MS - 500);
    bench.handshake(4 * MS);
    bench.engine.tick(1000 * MS);
    expect(bench.settled.map(({ entry }) => entry)).toEqual([first]);
    bench.send(second, 1000 * MS, 0, 10);
    bench.packet(1001 * MS, true, 0, 10);
    bench.finish();
    expect(bench.out(second)).toEqual({ matched: 10 });
  });

  test("a SYN-ACK that comes again begins nothing", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS - 500);
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    bench.packet(3 * MS, false, 0, 0, 0, TcpFlag.SYN | TcpFlag.ACK);
    bench.packet(4 * MS, true, 10, 10);
    bench.send(client, 1.5 * MS, 0, 20);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 20 });
  });

  test("a stray SYN resets nothing, also one with data", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    const server = bench.accepted(2 * MS);
    const { clientFirst } = bench;
    bench.renew(123456, bench.serverFirst);
    bench.packet(3 * MS, true, 0, 0, 0, TcpFlag.SYN);
    bench.packet(3 * MS, true, 0, 100, 0, TcpFlag.SYN);
    bench.renew(clientFirst, bench.serverFirst);
    bench.packet(4 * MS, true, 0, 10);
    bench.receive(server, 5 * MS, 0, 10);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 10 });
  });
});

describe("data in the SYN", () => {
  function open(acknowledged: number): Bench {
    const bench = new Bench();
    bench.listen();
    bench.connecting(1 * MS - 500);
    bench.packet(1 * MS, true, 0, 100, 0, TcpFlag.SYN);
    bench.packet(2 * MS, false, 0, 0, acknowledged, TcpFlag.SYN | TcpFlag.ACK);
    bench.packet(2 * MS + 1, false, 0, 0, acknowledged, TcpFlag.SYN | TcpFlag.ACK);
    return bench;
  }

  test("counts from the initial number where it was accepted", () => {
    const bench = open(100);
    bench.packet(3 * MS, true, 100, 50);
    const client = bench.connected(1 * MS - 500);
    const server = bench.accepted(2.5 * MS);
    bench.send(client, 1 * MS - 400, 0, 100);
    bench.send(client, 2 * MS, 100, 50);
    bench.receive(server, 5 * MS, 0, 150);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 150 });
    expect(bench.in(server)).toEqual({ matched: 150 });
    expect(bench.of(client).out.stats.byteNs.max).toBe(1 * MS);
    expect(bench.of(client).out.stats.byteNs.min).toBe(400);
    expect(bench.of(server).in.stats.byteNs.max).toBe(4 * MS);
    expect(bench.of(client).out.stats.bytesRetransmitted).toBe(0);
  });

  test("and where it had to be sent again", () => {
    const bench = open(0);
    bench.packet(3 * MS, true, 0, 100);
    const client = bench.connected(1 * MS - 500);
    bench.send(client, 1 * MS - 400, 0, 100);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 100 });
    expect(bench.of(client).out.stats.byteNs.max).toBe(400);
    expect(bench.of(client).out.stats.bytesRetransmitted).toBe(100);
  });

  test("of an attempt before is not this connection's", () => {
    const bench = new Bench();
    bench.connecting(1 * MS - 500);
    bench.packet(1 * MS, true, 0, 100, 0, TcpFlag.SYN);
    bench.renew(bench.clientFirst + 50, 88);
    bench.handshake(2 * MS);
    bench.packet(3 * MS, true, 0, 10);
    const client = bench.connected(2 * MS - 500);
    bench.send(client, 2 * MS, 0, 10);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 10 });
    expect(bench.of(client).out.stats.byteNs.max).toBe(1 * MS);
  });
});

describe("sockets that are not found", () => {
  test("no handshake was captured: no anchor, whatever else was", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS);
    bench.send(client, 2 * MS, 0, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 0, [Reason.noAnchor]: 10 });
  });

  test("nothing was captured: filtered", () => {
    const bench = new Bench();
    const client = bench.connected(1 * MS);
    bench.send(client, 2 * MS, 0, 10);
    bench.receive(client, 3 * MS, 0, 7);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 0, [Reason.filtered]: 10 });
    expect(bench.in(client)).toEqual({ matched: 0, [Reason.filtered]: 7 });
  });

  test("the same end appears under another address: nat", () => {
    const bench = new Bench();
    bench.connecting(1 * MS);
    bench.handshake(2 * MS);
    bench.packet(3 * MS, true, 0, 10);
    const client = bench.connected(1 * MS, { remote: ipv4(192, 0, 2, 1) });
    bench.send(client, 2 * MS, 0, 10);
    bench.finish();
    expect(bench.out(client)).toEqual({ matched: 0, [Reason.nat]: 10 });
  });

  test("an adopted socket has no anchor, though its handshake was seen", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    const socket = bench.accepted(2 * MS, { flags: 4 });
    bench.packet(3 * MS, true, 0, 10);
    bench.receive(socket, 4 * MS, 0, 10);
    bench.finish();
    expect(bench.in(socket)).toEqual({ matched: 0, [Reason.noAnchor]: 10 });
  });

  test("on a port that nobody listens on, what came before accept was not kept", () => {
    const bench = new Bench();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    const server = bench.accepted(3 * MS);
    bench.packet(4 * MS, true, 10, 5);
    bench.receive(server, 5 * MS, 0, 15);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 5, [Reason.unborn]: 10 });
  });

  test("on a port whose listen was told too late, either", () => {
    const bench = new Bench();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    // listen was called at 0.
    bench.listen();
    const server = bench.accepted(3 * MS);
    bench.receive(server, 5 * MS, 0, 10);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 0, [Reason.late]: 10 });
  });

  test("nor of a socket that was told of after it had connected", () => {
    const bench = new Bench();
    bench.handshake(1 * MS);
    bench.packet(2 * MS, true, 0, 10);
    bench.packet(2 * MS, false, 0, 7);
    const client = bench.connected(1 * MS - 500);
    bench.send(client, 1 * MS, 0, 10);
    bench.receive(client, 3 * MS, 0, 7);
    bench.finish();
    expect([bench.out(client), bench.in(client)])
      .toEqual([{ matched: 0, [Reason.late]: 10 }, { matched: 0, [Reason.late]: 7 }]);
  });

  test("too much before accept is given up, and what follows it is not", () => {
    const bench = new Bench();
    bench.listen();
    bench.handshake(1 * MS);
    for (let i = 0; i < 5000; i++) bench.packet(2 * MS + i, true, i, 1);
    const server = bench.accepted(3 * MS);
    bench.packet(4 * MS, true, 5000, 5);
    bench.receive(server, 5 * MS, 0, 5005);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 5, [Reason.overflow]: 5000 });
  });

  test("the addresses of both ends are compared as a whole", () => {
    const bench = new Bench();
    bench.listen();
    bench.connecting(1 * MS - 500);
    bench.handshake(1 * MS);
    const others = [
      { local: SERVER, remote: CLIENT, lport: SERVER_PORT, rport: CLIENT_PORT + 1 },
      { local: SERVER, remote: ipv4(10, 0, 0, 9), lport: SERVER_PORT, rport: CLIENT_PORT },
    ].map((fields) => bench.accepted(2 * MS, fields));
    const server = bench.accepted(2 * MS);
    for (const socket of [...others, server]) bench.receive(socket, 4 * MS, 0, 10);
    bench.packet(3 * MS, true, 0, 10);
    bench.finish();
    expect(bench.in(server)).toEqual({ matched: 10 });
    for (const socket of others) expect(bench.in(socket).matched).toBe(0);
  });
});
