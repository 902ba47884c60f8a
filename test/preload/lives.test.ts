// How sockets are born, copied, shared between processes and closed.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  Bench, BUILD_MS, bytesOn, canCompile, ENTRY, inTime, isContiguous, LOSS, ofKind, SLOT, STATE,
  transfers,
} from "./ringdump.ts";

const LOOPBACK = "00000000000000000000ffff7f000001";
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

  const scenario = (name: string, env: Record<string, string> = {}) => {
    const run = bench.run([], ["./lives", name], env);
    expect(run.stderr).toBe("");
    expect(run.code).toBe(0);
    return run;
  };
  const numbers = (text: string) => text.trim().split(/\s+/).map(Number);

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

  for (const name of ["forks", "raw-forks"]) {
    test(`${name}: parent and child share offsets, each in a ring of its own`, () => {
      const run = scenario(name);
      const [parent, child] = numbers(run.stdout);
      const out = ofKind(run, "OUT").filter((record) => record.entry === 0);
      out.sort((a, b) => a.off - b.off);
      expect(out.map((record) => [record.bytes, record.pid])).toEqual([
        [3, parent!], [5, child!], [7, parent!],
      ]);
      expect(isContiguous(transfers(run))).toBe(true);
      const [first, second, third] = run.rings;
      expect(run.rings).toHaveLength(3);
      expect([second!.pid, second!.table, second!.entries]).toEqual([child!, first!.id, 0]);
      expect(third!.table).toBe(first!.id);
      for (const record of transfers(run)) {
        expect(run.rings[record.ring]!.pid).toBe(record.pid);
      }
    });
  }

  test("a forked child that only closes makes no ring", () => {
    const run = scenario("fork-close");
    expect(run.rings).toHaveLength(1);
    const child = Number(run.stdout);
    expect(ofKind(run, "UNBIND").map((record) => record.pid)).toEqual([child, child]);
    expect(ofKind(run, "FORK").map((record) => record.pid)).toEqual([child]);
  });

  test.skipIf(process.getuid?.() !== 0)("a child that cannot reach the collector goes on", () => {
    const run = scenario("fork-jailed");
    const [parent, child] = numbers(run.stdout);
    expect(run.rings).toHaveLength(1);
    expect(ofKind(run, "OUT").map((record) => record.pid)).toEqual([child!, child!, parent!]);
    expect(run.losses[LOSS.noRing]).toBe(1);
    expect(isContiguous(transfers(run))).toBe(true);
  });

  test("what a vfork child does to descriptors is not its parent's", () => {
    const run = scenario("vforks");
    const [parent, forked] = numbers(run.stdout);
    expect(inTime(transfers(run)).map((record) => record.bytes)).toEqual([3, 4, 5, 12]);
    expect(isContiguous(transfers(run))).toBe(true);
    expect(inTime(ofKind(run, "UNBIND")).map((record) => record.pid)).toEqual([forked!, parent!]);
  });

  test("a ring that a forked child gets is its own, not that of its vfork child", () => {
    const run = scenario("vfork-writes");
    expect(run.rings.map((ring) => ring.pid)).toContain(Number(run.stdout));
    expect(run.rings).toHaveLength(2);
    expect(inTime(transfers(run)).map((record) => [record.bytes, record.off])).toEqual([
      [2, 0], [4, 2],
    ]);
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

  test("a descriptor received over a Unix socket is the socket that it was", () => {
    const run = scenario("rights");
    const [original, copy] = numbers(run.stdout);
    expect(bytesOn(run, "OUT", original!)).toEqual([3]);
    expect(bytesOn(run, "OUT", copy!)).toEqual([4]);
    expect(isContiguous(transfers(run))).toBe(true);
  });

  test("a number that arrives is not what it was, also where no hook has seen it closed", () => {
    const run = scenario("arrivals");
    const sentTo = (port: number) => run.entries.find(({ rport }) => rport === port)?.out.off ?? 0;
    for (const line of run.stdout.trim().split("\n")) {
      expect([line, ...numbers(line).map(sentTo)]).toEqual([line, 1, 4]);
    }
  });

  test("sockets that are older than the program are adopted, once", () => {
    const run = scenario("inherit");
    expect(run.rings).toHaveLength(2);
    const entries = run.entries.filter((entry) => entry.ring === 1);
    const adopted = entries.filter((entry) => entry.flags & ENTRY.adopted);
    expect(adopted).toHaveLength(1);
    expect(adopted[0]).toMatchObject({ queuedIn: 5, laddr: LOOPBACK });
    const moved = transfers(run).filter((record) => record.ring === 1);
    expect(moved.map((record) => [record.kind, record.fd, record.bytes, record.entry])).toEqual([
      ["IN", 0, 5, adopted[0]!.entry], ["OUT", 1, 6, adopted[0]!.entry],
      ["OUT", moved[2]!.fd, 7, moved[2]!.entry],
    ]);
    // The inherited listener is announced, and a short address buffer hides nobody.
    expect(ofKind(run, "LISTEN").filter((record) => record.ring === 1)).toHaveLength(1);
    const accepted = entries.find((entry) => entry.flags & ENTRY.accepted)!;
    expect(accepted.raddr).toBe(LOOPBACK);
    expect(accepted.rport).toBeGreaterThan(0);
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
