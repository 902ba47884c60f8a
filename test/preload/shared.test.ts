// How processes share sockets: by fork, vfork and exec, and by descriptors that are sent.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  Bench, BUILD_MS, bytesOn, canCompile, ENTRY, inTime, isContiguous, LOOPBACK, LOSS, numbers, ofKind,
  transfers,
} from "./ringdump.ts";

describe.skipIf(!canCompile)("sockets of several processes", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("shared");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const scenario = (name: string) => bench.scenario("shared", name);

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
});
