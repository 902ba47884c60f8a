// Calls that decide about a descriptor and never end: what they have done is found out later.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BUILD_MS, Bench, canCompile, ENTRY, LOOPBACK, ofKind, STATE } from "./ringdump.ts";

/** Each of the three connections waits for its second SYN, a second after the first. */
const SYNS_MS = 30_000;

describe.skipIf(!canCompile)("calls that are left in the middle", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("left");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const scenario = (name: string) => bench.scenario("left", name);

  test("a connect that was left, by a jump or a cancellation, is born at its next use", () => {
    const run = scenario("connect");
    const fds = run.stdout.trim().split("\n").map(Number);
    expect(fds).toHaveLength(3);
    for (const fd of fds) {
      const records = run.records.filter((record) => record.fd === fd);
      expect(records.map((record) => record.kind)).toEqual(["CONNECT", "BIRTH", "OUT", "IN"]);
      const entry = run.entries.find((each) => each.fd === fd)!;
      expect(entry).toMatchObject({ flags: ENTRY.connected, state: STATE.open, raddr: LOOPBACK });
      expect(entry.lport).toBeGreaterThan(0);
    }
  }, SYNS_MS);

  test("a thread that is cancelled where it closes has not closed", () => {
    const run = scenario("close");
    expect(ofKind(run, "OUT").map((record) => [record.entry, record.bytes, record.off])).toEqual([
      [0, 3, 0], [0, 6, 3], [0, 8, 9],
    ]);
  });
});
