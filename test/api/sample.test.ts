// Lines of the log as samples.

import { expect, test } from "bun:test";
import { parseSample } from "../../src/api/sample.ts";
import { peerText, plainName } from "../../src/api/options.ts";

const PLACE = "off=7,pid=9,sock=3,lport=80,rport=4000";

test("an outbound call", () => {
  const line =
    "KQTIME-OUT;start=1700000000.999999999,end=1700000002.000000001,fd=5,bytes=10," +
    `first=1700000001.000000000,${PLACE};a=b,c;`;
  expect(parseSample(line)).toEqual({
    kind: "call", direction: "out", name: "a=b,c", startUnixMs: 1700000000999.999999, bytes: 10,
    offset: 7, fd: 5, pid: 9, sock: 3, localPort: 80, remotePort: 4000,
    waitNs: 1_000_000_002, firstByteWaitNs: 1, reassemblyNs: 0,
  });
});

test("an inbound call", () => {
  const line =
    "KQTIME-IN;start=1700000000.000000500,end=1700000000.000000900,fd=5,bytes=10," +
    `first=1700000000.000000100,inorder=1700000000.000000700,${PLACE};NULL;`;
  expect(parseSample(line)).toMatchObject({
    direction: "in", name: "NULL", waitNs: 400, firstByteWaitNs: 800, reassemblyNs: 200,
  });
});

test("a miss, by its reason", () => {
  const miss = (reason: string) =>
    parseSample(
      `KQTIME-MISS;start=1.5,end=2.5,fd=5,bytes=10,${PLACE},dir=1,reason=${reason};x;`,
    );
  expect(miss("1")).toMatchObject({ kind: "miss", direction: "in", reason: "capture drop", bytes: 10 });
  expect(miss("99")).toMatchObject({ kind: "miss", reason: "unknown" });
});

test("other lines, and damaged ones, are none", () => {
  const whole = `KQTIME-MISS;start=1.5,end=2.5,fd=5,bytes=10,${PLACE},dir=1,reason=0;x;`;
  for (let end = 0; end < whole.length; end++) {
    const sample = parseSample(whole.slice(0, end));
    // Only where the cut leaves a line that is whole in itself.
    if (sample !== null) expect(whole.slice(0, end)).toEndWith(";");
  }
  for (const line of ["KQTIME-BOOKS;start=1.5,end=2;x;", "KQTIME-OUTS;start=1;x;", "", ";", "x"]) {
    expect(parseSample(line)).toBeNull();
  }
  expect(parseSample("KQTIME-OUT;bytes;x;")).toBeNull();
});

test("remote ends, in one form each", () => {
  const text = (address: string) => peerText("x", { address, port: 80, family: "IPv6" });
  expect(text("::ffff:10.0.0.1")).toBe("10.0.0.1 80");
  expect(text("fe80::1%eth0")).toBe("fe80::1 80");
  expect(() => text("fe80::1 80\nport 22")).toThrow("no IP address");
  expect(() => peerText("x", { address: "::1", port: 65536 })).toThrow("65536 is no TCP port");
});

test("names are one line of 255 bytes at the most, cut between characters", () => {
  expect(plainName("x", "a\n\0\u009bb")).toBe("a___b");
  expect(plainName("x", "ü".repeat(200))).toBe("ü".repeat(127));
});
