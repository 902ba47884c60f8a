// Threads, signals, cancellation, sandboxes and limits.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  BUILD_MS, Bench, canCompile, ENTRY, isContiguous, LOSS, numbers, ofKind, SLOT, transfers,
} from "./ringdump.ts";

describe.skipIf(!canCompile)("under stress", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("stress");
    bench.compile("take");
    bench.compile("wrapper", "wrapper.so", "-shared", "-fPIC");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const scenario = (name: string, options: string[] = [], env: Record<string, string> = {}) => {
    const run = bench.scenario("stress", name, options, env);
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

  test("nor is it taken out for one of a process that has ended", () => {
    const run = scenario("overlap", ["--gone"]);
    const { in: inbound } = run.entries.find((entry) => entry.flags & ENTRY.accepted)!;
    // The waiting one with that during it, and the next.
    expect([inbound.started, inbound.group]).toEqual([3, 2]);
  });

  for (const name of ["cancel", "jump", "jumps"]) {
    test(`${name}: a call that never returns is over`, () => {
      const run = scenario(name);
      expect(run.records.every((record) => record.flags === 0)).toBe(true);
      expect(ofKind(run, "IN")[0]!.bytes).toBe(6);
    });
  }

  test("a handler that jumps within itself leaves the call that it interrupted alone", () => {
    const run = scenario("jump-inside");
    const { in: inbound } = run.entries.find((entry) => entry.flags & ENTRY.accepted)!;
    // The second and the third are under way together.
    expect([inbound.started, inbound.group]).toEqual([3, 2]);
  });

  test("threads that take entries of a table that is nearly full never get the same", () => {
    const child = Bun.spawnSync(["./take"], { cwd: bench.folder, timeout: 60_000 });
    const [taken, full, twice] = child.stdout.toString().match(/\d+/g)!.map(Number);
    expect(taken! + full!).toBe(8 * 200_000);
    expect(taken!).toBeGreaterThan(1000);
    expect(twice).toBe(0);
  });

  for (const name of ["cancel-deferred", "cancel-at-once"]) {
    test(`${name}: what a cancelled call had sent is recorded`, () => {
      const run = scenario(name);
      const [total, last] = run.stdout.split(" ").map(Number) as [number, number];
      // The buffer may have room for what follows.
      const behind = Math.max(last, 0);
      expect(total).toBeGreaterThan(100_000);
      expect(ofKind(run, "OUT").map(({ off, bytes, flags }) => [off, bytes, flags])).toEqual([
        [0, 5, 0], [5, total - 5 - behind, 0], [total - behind, behind, 0],
      ].filter(([, bytes]) => bytes !== 0));
    });
  }

  test("slots that the collector has given up are used no more", () => {
    const whole = scenario("laps");
    const run = scenario("laps", ["--slots", "64", "--retire"]);
    // A record in a slot that was given up would be neither read nor counted.
    expect(run.records.length + run.losses[LOSS.ringFull]!).toBe(whole.records.length);
    expect(run.records.length).toBeGreaterThan(640);
    // A thread that is late may still write into one: not that it was given up.
    scenario("laps", ["--slots", "64", "--mark"]);
  });

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
    const out = ofKind(run, "OUT");
    // It might be a signal handler's call that is inside another: each alone in its group.
    expect(out.map((record) => [record.bytes, record.off, record.flags])).toEqual([
      [1, 0, SLOT.overlap], [6, 1, SLOT.overlap],
    ]);
    expect(out[0]!.group).not.toBe(out[1]!.group);
  });

  for (const wrapped of [false, true]) {
    const how = wrapped ? "through a wrapper" : "directly";
    test(`a signal handler sends on the socket that a call waits on, ${how}`, () => {
      const env = wrapped ? { RINGDUMP_PRELOAD: `${bench.folder}/wrapper.so` } : undefined;
      const run = scenario("reentry", [], env);
      const [total, ...sends] = numbers(run.stdout);
      const out = ofKind(run, "OUT");
      expect(isContiguous(out)).toBe(true);
      expect(out.reduce((sum, record) => sum + record.bytes, 0)).toBe(total!);
      expect(out.map((record) => record.bytes).sort()).toEqual(sends.sort());
      // Within a group any order is possible, so none of its members may look proven.
      const [outer, alone] = [out.slice(0, 2), out.slice(2)];
      expect(outer.every((record) => record.flags === SLOT.overlap)).toBe(true);
      expect(outer[0]!.group).toBe(outer[1]!.group);
      expect(alone.map((record) => record.bytes)).toEqual([5]);
      expect(alone[0]!.flags).toBe(wrapped ? SLOT.overlap : 0);
      expect(alone[0]!.group).not.toBe(outer[0]!.group);
    });
  }

  test("a signal handler's bytes are not taken for a wrapper's, however many", () => {
    const run = scenario("same-size");
    const inbound = ofKind(run, "IN");
    expect(inbound.map((record) => [record.bytes, record.off, record.flags])).toEqual([
      [10, 0, SLOT.overlap], [10, 10, SLOT.overlap], [5, 20, 0],
    ]);
    expect(inbound[0]!.group).toBe(inbound[1]!.group);
  });

  test("asking whether seccomp is there is not a sandbox", () => {
    const run = scenario("probe");
    // The socket that came by a way without a hook is found: by calls a sandbox would forbid.
    expect(ofKind(run, "OUT").map((record) => record.bytes)).toEqual([4]);
    expect(run.entries.filter((entry) => entry.flags & ENTRY.adopted)).toHaveLength(1);
  });

  test("an accept in a sandbox with a short address buffer believes none of it", () => {
    const run = scenario("short-accept");
    expect(ofKind(run, "OUT").map((record) => record.bytes)).toEqual([3]);
    expect(run.entries.filter((entry) => entry.flags & ENTRY.accepted)).toHaveLength(1);
    expect(run.losses[LOSS.noAddress]).toBe(1);
  });

  test("calls on an entry that the collector gave up are counted", () => {
    const run = bench.run(["--forget"], ["./stress", "stale"]);
    expect(run.code).toBe(0);
    expect(ofKind(run, "OUT")).toHaveLength(0);
    expect(run.losses[LOSS.stale]).toBe(2);
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
