// The JSON summary: its schema, its sums, its books.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Reason, REASON_HELP, REASONS } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { SocketList } from "../../src/output/socket-list.ts";
import { buildSummary, SOCKETS_LISTED } from "../../src/output/summary.ts";
import { type Schema, schemaErrors } from "./schema-check.ts";
import { busyInput, missed, socketInput, summaryInput, traffic } from "./summary-input.ts";

const schema = JSON.parse(
  readFileSync(join(import.meta.dir, "../../docs/summary.schema.json"), "utf8"),
) as Schema;

function valid(input: Parameters<typeof buildSummary>[0]): string[] {
  // As a reader has it: through the text.
  return schemaErrors(schema, JSON.parse(JSON.stringify(buildSummary(input))));
}

test("a summary is valid by its schema", () => {
  expect(valid(busyInput())).toEqual([]);
  expect(valid(summaryInput())).toEqual([]);
  expect(valid(summaryInput({ command: [], exitCode: null, pids: [] }))).toEqual([]);
});

test("a damaged summary is not", () => {
  const broken = JSON.parse(JSON.stringify(buildSummary(busyInput())));
  broken.directions.out.coverage = 1.5;
  broken.target.pids = ["1"];
  broken.startUnixNs = 12;
  broken.labels[0].in.surprise = 1;
  delete broken.losses.logLines;
  expect(schemaErrors(schema, broken)).toEqual([
    "$.target.pids[0]: string instead of integer",
    "$.startUnixNs: number instead of string",
    "$.directions.out.coverage: too great",
    "$.labels[0].in.surprise: unknown",
    "$.losses.logLines: missing",
  ]);
});

test("every field of the schema has a description", () => {
  const bare: string[] = [];
  const look = (each: Schema, place: string): void => {
    if (!each.description) bare.push(place);
    for (const [key, inner] of Object.entries(each.properties ?? {})) look(inner, `${place}.${key}`);
    for (const [key, inner] of Object.entries(each.$defs ?? {})) look(inner, `${place}#${key}`);
  };
  look(schema, "$");
  expect(bare).toEqual([]);
});

test("the reasons' code, name, help and schema agree", () => {
  const spaced = (key: string): string => key.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);
  const names = Object.keys(Reason).map(spaced);
  expect(names).toEqual([...REASONS]);
  expect(Object.values(Reason)).toEqual(REASONS.map((_, i) => i) as Reason[]);
  expect(REASON_HELP.length).toBe(REASONS.length);
  const described = Object.entries(schema.$defs!["unmatched"]!.properties!);
  expect(described.map(([name]) => name)).toEqual([...REASONS]);
  described.forEach(([, { description }], i) => {
    expect(description!.toLowerCase()).toBe(`${REASON_HELP[i]}.`.toLowerCase());
  });
});

test("the start keeps all its digits", () => {
  const times = { startNs: 123456789, endNs: 1e15 };
  const { startUnixNs, durationNs } = buildSummary(summaryInput(times));
  expect(startUnixNs).toBe("1732345678123456789");
  expect(durationNs).toBe(1e15 - 123456789);
  expect(buildSummary(summaryInput({ startNs: -1 })).startUnixNs).toBe("1732345677999999999");
});

test("the totals are the sum of the labels", () => {
  const { directions, labels, booksBalance, warnings } = buildSummary(busyInput());
  expect(booksBalance).toBe(true);
  expect(warnings.length).toBe(1);
  expect(labels.map((entry) => entry.label)).toEqual(["out:443", "relay=AB_CD port_9001"]);
  for (const side of ["out", "in"] as const) {
    const total = directions[side];
    for (const key of ["sockets", "calls", "bytesCalled", "bytesMatched"] as const) {
      expect(total[key]).toBe(labels[0]![side][key] + labels[1]![side][key]);
    }
    expect(total.callNs.count).toBe(10503 - (side === "out" ? 500 : 8003));
  }
  const { out, in: inbound } = directions;
  expect(out.bytesUnmatched).toEqual({ "capture drop": 4 });
  expect(inbound.bytesUnmatched).toEqual({ concurrent: 120000 });
  expect(out.bytesInFlight).toBe(1234);
  expect(out.coverage).toBe(10003000 / 10003004);
  expect(inbound.reassemblyNs.p50).toBe(0);
  expect(inbound.reassemblyNs.max).toBe(23456789);
  expect(labels[0]!.out.callNs.p99! / (9900 * 12345)).toBeCloseTo(1, 2);
});

test("no traffic: null, not 0 and not NaN", () => {
  const { directions } = buildSummary(summaryInput());
  expect(directions.out.coverage).toBeNull();
  expect(directions.in.callNs).toEqual({
    count: 0,
    min: null,
    mean: null,
    p50: null,
    p90: null,
    p99: null,
    p999: null,
    max: null,
  });
  const flying = new DirectionStats();
  flying.bytesCalled = flying.bytesInFlight = 5;
  expect(flying.coverage()).toBeNull();
});

test("the sockets with the most bytes are listed, the rest is summed", () => {
  const empty = new DirectionStats();
  const sockets = Array.from({ length: SOCKETS_LISTED + 50 }, (_, i) =>
    socketInput(i, traffic((i * 7) % 151, 10), empty),
  );
  const rest = { count: 5, out: traffic(1, 1), in: traffic(2, 1) };
  const summary = buildSummary(summaryInput({ sockets, socketsRest: rest }));
  expect(summary.sockets.length).toBe(SOCKETS_LISTED);
  const sizes = summary.sockets.map((socket) => socket.out.bytesCalled);
  expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  expect(summary.socketsRest.count).toBe(55);
  const all = sockets.reduce((sum, socket) => sum + socket.out.bytesCalled, 1000);
  const listed = sizes.reduce((sum, each) => sum + each, 0);
  expect(listed + summary.socketsRest.out.bytesCalled).toBe(all);
  expect(Math.min(...sizes)).toBeGreaterThanOrEqual(50000);
  // What was given is not changed.
  expect(rest.out.calls).toBe(1);
  for (const socketsListed of [0, 120]) {
    const other = buildSummary(summaryInput({ sockets, socketsRest: rest, socketsListed }));
    expect([other.sockets.length, other.socketsRest.count]).toEqual([socketsListed, 155 - socketsListed]);
    expect(other.directions).toEqual(summary.directions);
  }
});

test("a list keeps as many of the largest as it was told, and counts each of the others once", () => {
  const empty = new DirectionStats();
  for (const most of [0, 3, 250]) {
    const list = new SocketList(most);
    for (let i = 0; i < 400; i++) list.add(socketInput(i, traffic(1 + ((i * 7) % 401), 10), empty));
    // Another stretch of the last one.
    list.add(socketInput(399, traffic(1000, 10), empty));
    const copy = list.copy();
    copy.trim();
    expect([most, copy.listed.length, copy.rest.count]).toEqual([most, most, 400 - most]);
    if (most > 0) expect(copy.listed[0]!.sock).toBe(399);
  }
});

test("books that do not balance are said first, with the label and the bytes", () => {
  const short = traffic(5, 10);
  short.bytesCalled += 7;
  const negative = traffic(5, 10);
  negative.byteNs.record(-1, 1000);
  const labels = [
    { label: "good", out: missed(traffic(1, 1), Reason.nat, 5), in: traffic(0, 0) },
    { label: "short", out: traffic(1, 1), in: short },
    { label: "early", out: negative, in: traffic(0, 0) },
  ];
  const summary = buildSummary(summaryInput({ labels, warnings: ["other"] }));
  expect(summary.booksBalance).toBe(false);
  expect(summary.warnings).toEqual([
    "the books of short, inbound, do not balance: 5,007 bytes were called, 5,000 are booked; " +
      "do not trust these figures",
    "the books of early, outbound, do not balance: times below zero were measured; " +
      "do not trust these figures",
    "other",
  ]);
});

test("the peer is there only when given", () => {
  const { sockets } = buildSummary(busyInput());
  expect(sockets.map((socket) => socket.peer)).toEqual([undefined, "::1"]);
  expect("peer" in sockets[0]!).toBe(false);
});

test("stats merge and reset in every field", () => {
  const stats = missed(traffic(10, 100), Reason.overflow, 3);
  stats.bytesInFlight = 1;
  stats.bytesUnread = 2;
  stats.bytesUnexplained = 3;
  stats.bytesRetransmitted = 4;
  stats.reassemblyNs.record(5, 6);
  stats.waitingSinceNs = 7;
  const into = new DirectionStats();
  into.merge(stats);
  expect(into).toEqual(stats);
  into.merge(stats);
  expect(into.waitingSinceNs).toBe(7);
  for (const [key, value] of Object.entries(stats)) {
    if (key === "waitingSinceNs") continue;
    if (typeof value === "number") expect([key, into[key as "calls"]]).toEqual([key, value * 2]);
  }
  expect(into.unmatched[Reason.overflow]).toBe(6);
  expect([into.callNs.count, into.byteNs.count, into.reassemblyNs.count]).toEqual([20, 20000, 12]);
  into.reset();
  expect(into).toEqual(new DirectionStats());
  expect(into.bytesUnmatched() + into.callNs.count + into.byteNs.count).toBe(0);
});
