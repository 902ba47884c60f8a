// Where counters turn over and identities blur: more than 4 GiB on one connection, one four-tuple
// that comes back hundreds of times within a second, one blocking write far larger than the send
// buffer, threads that share a socket.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { IN, OUT, readCallLog, type Direction } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { transfer } from "../lib/flow.ts";
import { expectExact } from "../lib/judge.ts";
import {
  BARE, BASE_SEC, booksFlaws, directionOf, flaws, Measurement, timeFlaws,
} from "../lib/kqtime.ts";
import { withLab, withLoopback } from "../lib/network.ts";

import { Witness } from "../lib/tcpdump.ts";
import { compare, perfectLog } from "../lib/truth.ts";

e2e("more than 4 GiB on one connection", async () => {
  await withLoopback(async (node, scope) => {
    const total = 2 ** 32 + 300_000_000;
    const log = scope.path("flow");
    const measurement = new Measurement(scope, [
      await fixture("flow"), "pair", "--address", node.v4, "--port", "7000", "--log", log,
      "--total", `${total}`, "--size", "1048576", "--read", "1048576", "--content", "zero",
    ], { prefix: node.prefix, options: ["--buffer", "256"] });
    await measurement.running.success(120_000);
    const calls = ["client", "server"].flatMap((end) => readCallLog(`${log}.${end}`, BASE_SEC));
    if (BARE) return;
    expect(flaws(measurement, { out: total, in: total })).toEqual([]);
    expect(compare(measurement.log(), { calls }).report()).toBe("");
  });
}, 180_000);

e2e("a four-tuple that comes back many times in a second", async () => {
  await withLoopback(async (node, scope) => {
    const rounds = 400;
    const path = scope.path("calls");
    const witness = await Witness.start(scope, node);
    const measurement = new Measurement(
      scope, [await fixture("reuse"), node.v4, "7001", "7002", `${rounds}`, path],
      { prefix: node.prefix },
    );
    await measurement.running.success();
    const truth = {
      calls: readCallLog(path, BASE_SEC), seen: await witness.finish(BASE_SEC, node.v4),
      loopback: true,
    };
    expect(truth.seen.between(7002, 7001).length).toBe(rounds);
    const log = BARE ? perfectLog(truth) : measurement.log();
    expect(compare(log, truth).report()).toBe("");
    if (BARE) return;
    expect(flaws(measurement)).toEqual([]);
    expect(new Set(log.calls.map((line) => line.sock)).size).toBe(2 * rounds);
  });
}, 60_000);

e2e("a blocking write far larger than the send buffer", async () => {
  await withLab({ shape: { rate: "30mbit" } }, async (lab) => {
    const result = await transfer(lab, {
      flow: ["--total", "16777216", "--size", "16777216", "--mode", "threads", "--calls", "write"],
    });
    const client = expectExact(result.client);
    expectExact(result.server);
    expect(client.calls).toBe(1);
    expect(client.longestNs).toBeGreaterThan(3e9);
  });
}, 60_000);

interface SharedCall {
  direction: Direction;
  lport: number;
  rport: number;
  offset: number;
  bytes: number;
  beforeNs: number;
  afterNs: number;
  alone: boolean;
}

function readSharedCalls(path: string): SharedCall[] {
  const time = (text: string) => {
    const [sec, nsec] = text.split(".");
    return (Number(sec) - BASE_SEC) * 1e9 + Number(nsec);
  };
  return readFileSync(path, "utf8").trimEnd().split("\n").map((line) => {
    const [direction, lport, rport, offset, bytes, before, after, phase] = line.split(" ");
    return {
      direction: direction === "0" ? OUT : IN,
      lport: Number(lport), rport: Number(rport), offset: Number(offset), bytes: Number(bytes),
      beforeNs: time(before), afterNs: time(after), alone: phase === "1",
    };
  });
}

e2e("threads that share a socket", async () => {
  await withLoopback(async (node, scope) => {
    const path = scope.path("calls");
    const measurement = new Measurement(
      scope, [await fixture("threads"), "7003", "4", "2000", path], { prefix: node.prefix },
    );
    await measurement.running.success();
    const truth = new Map<string, SharedCall>();
    for (const call of readSharedCalls(path)) {
      truth.set(`${call.direction}/${call.lport}/${call.rport}/${call.offset}`, call);
    }
    // Each block was written, and read, exactly once: the fixture's own word is whole.
    expect(truth.size).toBe(2 * 4 * 2 * 2000);
    if (BARE) return;
    const log = measurement.log();
    const found = new Set<SharedCall>();
    const wrong: string[] = [];
    for (const line of log.calls) {
      const call = truth.get(`${line.direction}/${line.lport}/${line.rport}/${line.offset}`);
      if (!call) continue; // Of the ends that one thread alone serves.
      found.add(call);
      const stamp = line.direction === OUT ? line.startNs : line.endNs;
      if (line.bytes !== call.bytes || stamp < call.beforeNs || stamp > call.afterNs) {
        wrong.push(line.text);
      }
    }
    expect({ wrong: wrong.length, such: wrong.slice(0, 3) }).toEqual({ wrong: 0, such: [] });
    const missing = [...truth.values()].filter((call) => call.alone && !found.has(call));
    expect(missing.length).toBe(0);
    const summary = measurement.summary();
    for (const direction of [OUT, IN] as const) {
      const books = directionOf(summary, direction);
      const others = Object.keys(books.bytesUnmatched).filter((reason) => reason !== "concurrent");
      expect(others).toEqual([]);
    }
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(measurement)).toEqual([]);
    expect(timeFlaws(log)).toEqual([]);
  });
}, 60_000);
