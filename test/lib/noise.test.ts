// The judge on a busy machine: what compare() allows two taps of one device to differ by, and that
// it allows nothing else. Needs no privilege.

import { expect, test } from "bun:test";
import { IN } from "./calllog.ts";
import { Seen } from "./pcap.ts";
import { compare, perfectLog, type Truth } from "./truth.ts";

const SYN = 2;
const PACKETS = 2000;
const BYTES = 1448;
/** Something comes between departure and arrival of each eighth packet. */
const departure = (n: number) => 1e9 + n * 600_000;
const arrival = (n: number) => departure(n) + (n % 8 === 0 ? 150_000 : 3000);

function device(timeOf: (n: number) => number): Seen {
  const seen = new Seen();
  seen.packet("a", "b", 7000, 40_000, 99, SYN, 0, 0);
  for (let n = 0; n < PACKETS; n++) seen.packet("a", "b", 7000, 40_000, 100 + n * BYTES, 0, BYTES, timeOf(n));
  return seen;
}

const truth: Truth = {
  seen: device(arrival),
  far: device(departure),
  calls: [{
    connection: 0, direction: IN, lport: 40_000, rport: 7000, fd: 3, bytes: PACKETS * BYTES, idleCalls: 0,
    calls: Array.from({ length: PACKETS }, (_, n) => ({
      offset: n * BYTES, bytes: BYTES, beforeNs: arrival(n) + 40_000, afterNs: arrival(n) + 50_000,
    })),
  }],
};

/** What is said of a log whose lines about the chosen packets have other stamps. */
function said(chosen: (n: number) => boolean, stampOf: (n: number) => number, bytes = BYTES): string {
  const log = perfectLog(truth);
  log.calls.forEach((line, n) => {
    if (!chosen(n)) return;
    line.startNs = line.firstNs = line.inorderNs = stampOf(n);
    line.bytes = bytes;
  });
  return compare(log, truth, { lossy: bytes < BYTES }).report();
}

test("a tap that is earlier now and then", () => {
  expect(said((n) => n % 48 === 0, (n) => departure(n) + 10_000)).toBe("");
});

test("a tap that is always earlier", () => {
  expect(said(() => true, departure)).toMatch(/too many for noise \(250 packets torn\)/);
});

test("a stamp from before the departure, or from after the arrival", () => {
  expect(said((n) => n === 8, (n) => departure(n) - 1)).toMatch(/arrival of the first byte/);
  expect(said((n) => n === 8, (n) => arrival(n) + 20_001)).toMatch(/arrival of the first byte/);
});

test("a part of a call", () => {
  expect(said((n) => n === 8, arrival, 1000)).toBe("");
  expect(said((n) => n === 8, departure, 1000)).toBe("");
  expect(said((n) => n === 8, (n) => departure(n) - 1, 1000)).toMatch(/stamp of a part/);
  expect(said((n) => n === 8, (n) => arrival(n) + 20_001, 1000)).toMatch(/stamp of a part/);
});
