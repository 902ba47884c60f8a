// Threads, signals, cancellation, sandboxes and limits.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  Bench, canCompile, isContiguous, LOSS, ofKind, SLOT, transfers,
} from "./ringdump.ts";

describe.skipIf(!canCompile)("under stress", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("stress");
    bench.compile("wrapper", "wrapper.so", "-shared", "-fPIC");
  });
  afterAll(() => bench.remove());

  const scenario = (name: string, options: string[] = [], env: Record<string, string> = {}) => {
    const run = bench.run(options, ["./stress", name], env);
    expect(run.stderr).toBe("");
    expect(run.code).toBe(0);
    for (const entry of run.entries) {
      expect([entry.out.active, entry.in.active]).toEqual([0, 0]);
    }
    return run;
  };

  test("calls of four threads on one socket: no byte is lost, overlaps are marked", () => {
    const run = scenario("threads");
    const out = ofKind(run, "OUT");
    expect(out).toHaveLength(8001);
    expect(isContiguous(transfers(run))).toBe(true);
    // What is not marked was alone: its group holds no other record.
    const members = new Map<number, number>();
    for (const { group } of out) members.set(group, (members.get(group) ?? 0) + 1);
    for (const record of out) {
      if ((record.flags & SLOT.overlap) === 0) expect(members.get(record.group)).toBe(1);
    }
    expect(out.at(-1)!.flags).toBe(0);
  });

  test("a call during a waiting one is an overlap, the next is not", () => {
    const inbound = ofKind(scenario("overlap"), "IN");
    expect(inbound.map((record) => [record.bytes, record.flags])).toEqual([
      [1, SLOT.overlap], [6, 0],
    ]);
  });

  for (const name of ["cancel", "jump"]) {
    test(`${name}: a call that never returns is over`, () => {
      const run = scenario(name);
      expect(run.records.every((record) => record.flags === 0)).toBe(true);
      expect(ofKind(run, "IN")[0]!.bytes).toBe(6);
    });
  }

  test("a signal handler sends while a call waits", () => {
    const run = scenario("handler");
    expect(ofKind(run, "OUT").map((record) => [record.bytes, record.flags])).toEqual([
      [9, 0], [6, 0],
    ]);
  });

  test("a wrapper behind the library counts each byte once", () => {
    const run = scenario("overlap", [], {
      RINGDUMP_PRELOAD: `${bench.folder}/wrapper.so`,
    });
    expect(ofKind(run, "OUT").map((record) => [record.bytes, record.off, record.flags])).toEqual([
      [1, 0, 0], [6, 1, 0],
    ]);
  });

  test("a seccomp filter that kills for what the program does not call", () => {
    const run = scenario("sandbox");
    expect(ofKind(run, "OUT")).toHaveLength(6001);
    expect(ofKind(run, "IN")).toHaveLength(6001);
    expect(isContiguous(transfers(run))).toBe(true);
  });

  test("a full socket table leaves sockets out, counted once each", () => {
    const run = scenario("table", ["--slots", "64"]);
    expect(run.entries).toHaveLength(64);
    // A pair, then 100 connects and 100 accepts.
    expect(run.losses[LOSS.tableFull]).toBe(202 - 64);
  });

  test("descriptors that come and go in four threads", () => {
    const run = scenario("churns");
    expect(transfers(run)).toHaveLength(2 * 4 * 300);
    expect(transfers(run).every((record) => record.bytes === 10 && record.off === 0)).toBe(true);
    expect(ofKind(run, "UNBIND")).toHaveLength(3 * 4 * 300);
  });

  test("a small RLIMIT_FSIZE", () => {
    const run = scenario("fsize-outer");
    expect(run.stdout.trim()).toBe("4096");
    expect(ofKind(run, "OUT").map((record) => record.bytes)).toEqual([5]);
  });
});
