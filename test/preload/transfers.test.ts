// Every libc entry that moves bytes: what is recorded is what the kernel took or gave.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  BUILD_MS, Bench, canCompile, ENTRY, isContiguous, LOSS, ofKind, SLOT, transfers,
} from "./ringdump.ts";

const UNTAGGED = "0".repeat(32);

describe.skipIf(!canCompile)("calls that move bytes", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("transfers");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const scenario = (name: string, ...options: string[]) =>
    bench.scenario("transfers", name, options);

  test("each outbound entry", () => {
    const run = scenario("every-out");
    const records = transfers(run);
    expect(records.map((record) => record.bytes)).toEqual(
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    expect(isContiguous(records)).toBe(true);
    expect(records.every((record) => record.kind === "OUT" && record.flags === 0)).toBe(true);
    for (const { tag } of records) expect(tag).toBe(UNTAGGED);
    const entry = run.entries.find((each) => each.flags === ENTRY.connected)!;
    expect(entry.out.off).toBe(210);
    expect(entry.out.active).toBe(0);
  });

  test("each inbound entry", () => {
    const run = scenario("every-in");
    const records = ofKind(run, "IN");
    expect(records.map((record) => record.bytes)).toEqual(
      Array.from({ length: 19 }, (_, index) => index + 1),
    );
    expect(isContiguous(records)).toBe(true);
    for (const { tag } of records) expect(tag).toBe(UNTAGGED);
  });

  test("times are of this clock and do not go backwards on one socket", () => {
    const before = BigInt(Date.now() - 1000) * 1_000_000n;
    const times = transfers(scenario("every-out")).map((record) => BigInt(record.time));
    const after = BigInt(Date.now() + 1000) * 1_000_000n;
    let last = before;
    for (const time of times) {
      expect(time >= last && time < after).toBe(true);
      last = time;
    }
  });

  test("partial sends count what was taken, EAGAIN nothing", () => {
    const run = scenario("partial");
    const [first, , , total] = run.stdout.trim().split("\n").map(Number);
    const out = ofKind(run, "OUT");
    expect(out.reduce((sum, record) => sum + record.bytes, 0)).toBe(total!);
    expect(out[0]!.bytes).toBe(first!);
    const received = ofKind(run, "IN");
    expect(received.reduce((sum, record) => sum + record.bytes, 0)).toBe(total!);
    expect(isContiguous(transfers(run))).toBe(true);
  });

  test("peek, error queue and end of file move nothing; urgent reads are marked", () => {
    const run = scenario("special-in");
    const records = transfers(run);
    expect(records.map((record) => [record.kind, record.bytes, record.off])).toEqual([
      ["OUT", 9, 0], ["OUT", 20, 9], ["IN", 8, 0], ["IN", 20, 8],
    ]);
    expect(records.map((record) => record.flags)).toEqual([0, 0, SLOT.urgent, SLOT.urgent]);
    const server = run.entries.find((entry) => entry.flags & ENTRY.accepted)!;
    expect(server.flags & ENTRY.urgent).toBe(ENTRY.urgent);
    // Neither the peeks nor the error queue are calls of the direction.
    expect(server.in.started).toBe(5);
  });

  test("bad pointers give what the kernel gives, and errno stays", () => {
    const run = scenario("faults");
    const sent = Number(run.stdout);
    const bytes = transfers(run).map((record) => record.bytes);
    expect(bytes).toEqual(sent > 0 ? [30, sent, 5] : [30, 5]);
    expect(run.entries.every((entry) => entry.out.active === 0 && entry.in.active === 0)).toBe(
      true,
    );
  });

  test("datagrams", () => {
    const run = scenario("udp");
    expect(transfers(run).map((record) => [record.kind, record.bytes])).toEqual([
      ["OUT", 21], ["IN", 21], ["OUT", 22], ["IN", 22],
    ]);
    expect(run.entries.map((entry) => entry.type)).toEqual([2, 2]);
    expect(ofKind(run, "UNBIND")).toHaveLength(2);
  });

  test("zero-copy receive counts its bytes", () => {
    const run = scenario("zerocopy");
    if (run.stdout.startsWith("unsupported")) return;
    const inbound = ofKind(run, "IN").reduce((sum, record) => sum + record.bytes, 0);
    expect(inbound).toBe(Number(run.stdout));
  });

  test("kernel TLS is marked", () => {
    const run = scenario("ktls");
    if (run.stdout.startsWith("unsupported")) return;
    expect(run.entries.some((entry) => (entry.flags & ENTRY.ktls) !== 0)).toBe(true);
  });

  test("a socket whose reads may take bytes and wait for more is marked", () => {
    const run = scenario("waits");
    const marks = run.stdout.trim().split(" ").map((port) => {
      const entry = run.entries.find(({ lport }) => lport === Number(port))!;
      return (entry.flags & ENTRY.waits) !== 0;
    });
    expect(marks).toEqual([...Array(12).fill(true), false, false]);
  });

  test("what sendfile takes from a socket is received", () => {
    const run = scenario("piped");
    if (run.stdout.startsWith("unsupported")) return;
    expect(ofKind(run, "IN").map((record) => [record.bytes, record.off])).toEqual([
      [5, 0], [10, 5], [11, 15], [14, 26],
    ]);
  });

  test("a full ring drops and counts, never blocks", () => {
    const run = scenario("many", "--slots", "64", "--hold");
    expect(run.records).toHaveLength(64);
    expect(run.losses[LOSS.ringFull]).toBe(300 + 4 - 64);
    // The offset goes on all the same.
    expect(run.entries.find((entry) => entry.flags === ENTRY.connected)!.out.off).toBe(3000);
  });

  test("without a session, or without a collector behind it, nothing changes", () => {
    for (const session of [undefined, "/nonexistent/kqtime", "x".repeat(200)]) {
      const child = Bun.spawnSync(["./transfers", "every-out"], {
        cwd: bench.folder,
        env: { ...process.env, LD_PRELOAD: bench.library, KQTIME_SESSION: session },
        stderr: "pipe",
      });
      expect(child.stderr.toString()).toBe("");
      expect(child.exitCode).toBe(0);
    }
  });
});
