// How sockets are born, copied and closed.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  Bench, BUILD_MS, canCompile, ENTRY, isContiguous, LOOPBACK, numbers, ofKind, SLOT, STATE, transfers,
} from "./ringdump.ts";

const LOOPBACK6 = "00000000000000000000000000000001";

describe.skipIf(!canCompile)("the life of sockets", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("lives");
    bench.compile("redirect", "redirect.so", "-shared", "-fPIC");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const scenario = (name: string, env: Record<string, string> = {}) =>
    bench.scenario("lives", name, [], env);

  test("a ring is sealed and names its maker", () => {
    const run = scenario("reuse");
    expect(run.rings).toHaveLength(1);
    expect(run.rings[0]!.comm).toBe("lives");
    expect(run.rings[0]!.table).toBe(run.rings[0]!.id);
    expect(run.rings[0]!.seals & 7).toBe(7); // SEAL, SHRINK, GROW
  });

  test("connect and accept give both ends the same addresses", () => {
    const run = scenario("reuse");
    const [client, server] = run.entries;
    expect(client).toMatchObject({
      flags: ENTRY.connected, state: STATE.open, laddr: LOOPBACK, raddr: LOOPBACK, family: 4,
    });
    expect(server).toMatchObject({
      flags: ENTRY.accepted, state: STATE.open, lport: client!.rport, rport: client!.lport,
    });
    expect(client!.inode).toBeGreaterThan(0);
    const listen = ofKind(run, "LISTEN")[0]!;
    expect([listen.off, listen.bytes]).toEqual([client!.rport, 16]);
    expect(run.records.map((record) => record.kind).slice(0, 4)).toEqual([
      "LISTEN", "CONNECT", "BIRTH", "BIRTH",
    ]);
  });

  test("a number that is used again is another socket; close tells what was unread", () => {
    const run = scenario("reuse");
    const unbinds = ofKind(run, "UNBIND");
    expect(unbinds.map((record) => record.bytes)).toEqual([30]);
    expect(transfers(run).map((record) => [record.entry, record.bytes])).toEqual([
      [0, 3], [0, 30], [1, 3], [3, 4],
    ]);
  });

  test("copies of a descriptor share the entry, and die one by one", () => {
    const run = scenario("copies");
    const fds = numbers(run.stdout);
    const records = ofKind(run, "OUT");
    expect(records.map((record) => record.bytes)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(records.slice(0, 8).map((record) => record.fd)).toEqual(fds);
    expect(new Set(records.map((record) => record.entry)).size).toBe(1);
    expect(isContiguous(records)).toBe(true);
    expect(ofKind(run, "UNBIND").map((record) => record.fd)).toEqual([fds[0]!, fds[1]!]);
  });

  test("every way to close", () => {
    const run = scenario("deaths");
    const fds = numbers(run.stdout);
    const dead = ofKind(run, "UNBIND").map((record) => record.fd);
    expect(dead.slice(0, 6)).toEqual(fds);
    expect(dead).toHaveLength(9); // closefrom closed four
    expect(transfers(run).map((record) => record.bytes)).toEqual([3]); // CLOEXEC closes nothing
  });

  test("a file that libc itself puts in a socket's place is no socket", () => {
    const run = scenario("replaced");
    expect(transfers(run).map((record) => record.bytes)).toEqual([5]);
    expect(ofKind(run, "UNBIND").map((record) => record.bytes)).toEqual([0, 5]);
  });

  test("nor are standard descriptors that libc has replaced by a terminal or none", () => {
    const run = scenario("standard");
    const ports = numbers(run.stdout);
    const sent = ports.map((port) => {
      const entry = run.entries.find(({ rport }) => rport === port)!;
      return ofKind(run, "OUT").filter((record) => record.entry === entry.entry)
        .map((record) => record.bytes);
    });
    expect(sent).toEqual([[4, 4, 4], [4, 4, 4], [4, 4, 4, 2]]);
  });

  test("connections refused, in progress, dissolved and made again", () => {
    const run = scenario("connects");
    const out = ofKind(run, "OUT");
    expect(out.map((record) => [record.bytes, record.off])).toEqual([
      [1, 0], [2, 0], [3, 0], [4, 0],
    ]);
    expect(new Set(out.map((record) => record.entry)).size).toBe(4);
    const unbinds = ofKind(run, "UNBIND");
    expect(unbinds.map((record) => record.flags)).toEqual([SLOT.refused, SLOT.refused, 0]);
    expect(ofKind(run, "CONNECT")).toHaveLength(6);
    expect(ofKind(run, "BIRTH")).toHaveLength(5);
    expect(run.entries.map((entry) => entry.state)).toEqual([2, 3, 3, 3, 3, 3]);
  });

  test("fast open is a connect that may carry data", () => {
    const run = scenario("fastopen");
    expect(ofKind(run, "CONNECT")).toHaveLength(4);
    expect(ofKind(run, "OUT").map((record) => [record.bytes, record.off])).toEqual([
      [3, 0], [4, 3], [5, 0], [3, 0], [4, 3], [5, 0],
    ]);
  });

  test("a connection in progress to any address has the one that the kernel takes", () => {
    const run = scenario("connect-any");
    expect(run.entries.map((entry) => [entry.laddr, entry.raddr])).toEqual([
      [LOOPBACK, LOOPBACK], [LOOPBACK, LOOPBACK], [LOOPBACK6, LOOPBACK6], [LOOPBACK6, LOOPBACK6],
    ]);
  });

  test("a connection in progress to somewhere else is corrected at its first use", () => {
    const run = scenario("redirected", { RINGDUMP_PRELOAD: `${bench.folder}/redirect.so` });
    const [asked, server, client] = run.entries;
    expect(run.entries).toHaveLength(3);
    expect(asked!.rport).toBe(server!.lport - 1);
    expect(client).toMatchObject({
      flags: ENTRY.connected, state: STATE.open, inode: asked!.inode,
      lport: server!.rport, rport: server!.lport, raddr: LOOPBACK,
    });
    const unbinds = ofKind(run, "UNBIND").map((record) => [record.entry, record.flags]);
    expect(unbinds).toEqual([[asked!.entry, SLOT.refused], [client!.entry, 0]]);
    const out = ofKind(run, "OUT").map((record) => [record.entry, record.bytes, record.off]);
    expect(out).toEqual([[client!.entry, 4, 0], [client!.entry, 5, 4]]);
  });

  test("IPv6, and IPv4 in IPv6", () => {
    const run = scenario("v6");
    expect(run.entries.map((entry) => [entry.laddr, entry.raddr])).toEqual([
      [LOOPBACK6, LOOPBACK6], [LOOPBACK6, LOOPBACK6], [LOOPBACK, LOOPBACK], [LOOPBACK, LOOPBACK],
    ]);
  });
});
