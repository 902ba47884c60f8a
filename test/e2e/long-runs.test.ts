// A run that does not wait for its end: results meanwhile, a log that leaves out what was not asked
// for and says so, files that follow each other, and a replay that does the same.

import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Summary } from "../../src/output/summary.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, BUN, kqtime, Measurement, ROOT } from "../lib/kqtime.ts";
import { parseLog, readLog } from "../lib/kqlog.ts";
import { withLoopback } from "../lib/network.ts";
import { type Scope, until, withScope } from "../lib/process.ts";
import { type Schema, schemaErrors } from "../output/schema-check.ts";

const schema = JSON.parse(readFileSync(join(ROOT, "docs", "summary.schema.json"), "utf8")) as Schema;

/** Moves data both ways; `slowly` ends when it is told to. */
async function pair(node: { v4: string }, port: string, total: string): Promise<string[]> {
  return [
    await fixture("flow"), "pair", "--address", node.v4, "--port", port, "--total", total,
    "--size", "3000", "--both",
  ];
}

function linesOf(path: string): Summary[] {
  return readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line) as Summary);
}

/** Says something each 20 ms, until there is a file of this name. */
const TALKER = `
import os, socket, sys, time
l = socket.create_server((sys.argv[1], 0))
s = socket.create_connection(l.getsockname())
c, _ = l.accept()
while not os.path.exists(sys.argv[2]):
    s.sendall(b"x" * 1000)
    c.recv(1000)
    time.sleep(0.02)
`;

function talk(node: { v4: string }, scope: Scope): { command: string[]; stop: () => void } {
  const path = scope.path("stop");
  return {
    command: ["python3", "-c", TALKER, node.v4, path],
    stop: () => void Bun.spawnSync(["touch", path]),
  };
}

e2e("intervals come while the program runs, and add up", () =>
  withLoopback(async (node, scope) => {
    const path = scope.path("intervals");
    const { command, stop } = talk(node, scope);
    const measurement = new Measurement(scope, command, {
      prefix: node.prefix,
      options: ["--interval", "0.5", "--interval-log", path],
    });
    await until("intervals", () => existsSync(path) && readFileSync(path, "utf8").split("\n").length > 4);
    expect(existsSync(measurement.jsonPath) ? statSync(measurement.jsonPath).size : 0).toBe(0);
    stop();
    expect((await measurement.finish()).code).toBe(0);
    const whole = measurement.summary();
    const intervals = linesOf(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    for (const [n, each] of intervals.entries()) {
      expect(schemaErrors(schema, each)).toEqual([]);
      expect([each.booksBalance, each.warnings]).toEqual([true, []]);
      expect(each.target.exitCode).toBe(n === intervals.length - 1 ? 0 : null);
      const next = intervals[n + 1];
      if (next !== undefined) {
        expect(BigInt(each.startUnixNs) + BigInt(each.durationNs)).toBe(BigInt(next.startUnixNs));
        expect(each.directions.out.calls).toBeGreaterThan(0);
      }
    }
    for (const direction of ["out", "in"] as const) {
      for (const key of ["calls", "bytesCalled", "bytesMatched"] as const) {
        const sum = intervals.reduce((total, each) => total + each.directions[direction][key], 0);
        expect(sum).toBe(whole.directions[direction][key]);
      }
    }
  }));

e2e("intervals on stderr wait for no reader", () =>
  withLoopback(async (node, scope) => {
    const path = scope.path("stderr");
    execFileSync("mkfifo", [path]);
    // For reading too: so there is somebody who could read.
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    scope.finally(() => closeSync(fd));
    const filler = "x".repeat(4095) + "\n";
    let fillers = 0;
    expect(() => {
      for (;; fillers++) writeSync(fd, filler);
    }).toThrow("EAGAIN");
    const { command, stop } = talk(node, scope);
    const [log, json] = [scope.path("full.log"), scope.path("full.json")];
    const running = scope.start(
      [
        "sh", "-c", 'exec "$@" 2>"$0"', path, BUN, "run", "kqtime", "run", "--interval", "0.25",
        "--sockets", "0", "--log", log, "--json", json, "--", ...command,
      ],
      { cwd: ROOT, prefix: node.prefix },
    );
    // Two calls in 20 ms: far more than in the first interval.
    const lines = () => (existsSync(log) ? readLog(log, BASE_SEC).calls.length : 0);
    await until("lines of calls that come after some intervals", () => lines() > 150);
    stop();
    // The summary waits for the reader: the measurement is over.
    await until("a summary", () => existsSync(json) && statSync(json).size > 0);
    const whole = JSON.parse(readFileSync(json, "utf8")) as Summary;
    let text = "";
    const piece = Buffer.alloc(65536);
    await until("the end", () => {
      try {
        text += piece.toString("utf8", 0, readSync(fd, piece));
      } catch {
        return running.ended;
      }
      return false;
    });
    expect((await running.exit()).code).toBe(0);
    expect(text.startsWith(filler.repeat(fillers))).toBe(true);
    const intervals = text.split("\n").filter((line) => line.startsWith("{"));
    expect(intervals.length).toBeGreaterThan(4);
    const calls = intervals.map((line) => (JSON.parse(line) as Summary).directions.out.calls);
    expect(calls.reduce((sum, each) => sum + each)).toBe(whole.directions.out.calls);
    expect(whole.losses.ringRecords).toBe(0);
  }));

e2e("a sampled log says so, keeps exact books, and replays the same", () =>
  withLoopback(async (node, scope) => {
    const folder = scope.path("record");
    const measurement = new Measurement(scope, await pair(node, "7031", "6000000"), {
      prefix: node.prefix,
      options: [
        "--record", folder, "--log-sample", "10", "--log-min", "1ns", "--interval", "0.25",
        "--interval-log", scope.path("intervals"),
      ],
    });
    expect((await measurement.finish()).code).toBe(0);
    const text = readFileSync(measurement.logPath, "utf8");
    expect(text.split("\n")[0]).toMatch(/^KQTIME-META;start=[\d.]+,end=[\d.]+,log_min_ns=1,log_sample=10,log_seed=\d+;NULL;$/);
    const log = parseLog(text, BASE_SEC);
    const { directions } = measurement.summary();
    const calls = directions.out.calls + directions.in.calls;
    expect(calls).toBeGreaterThan(1000);
    expect(Math.abs(log.calls.length - calls / 10)).toBeLessThan(6 * Math.sqrt(calls / 10));
    const matched = log.books.reduce((sum, { values }) => sum + values["matched"]!, 0);
    expect(matched).toBe(directions.out.bytesMatched + directions.in.bytesMatched);
    const [again, json] = [scope.path("again.log"), scope.path("again.json")];
    await kqtime(scope, ["replay", folder, "--log", again, "--json", json]).success();
    expect(readFileSync(again, "utf8")).toBe(text);
    expect(JSON.parse(readFileSync(json, "utf8"))).toMatchObject({ directions });
  }));

e2e("calls that waited for less have no line", () =>
  withLoopback(async (node, scope) => {
    const measurement = new Measurement(scope, await pair(node, "7032", "3000000"), {
      prefix: node.prefix,
      options: ["--log-min", "20us"],
    });
    expect((await measurement.finish()).code).toBe(0);
    const { calls, books } = measurement.log();
    for (const { startNs, endNs } of calls) expect(endNs - startNs).toBeGreaterThanOrEqual(20_000);
    // As many as the exact histograms have at and above it, but for the edge's own bucket.
    let [surely, perhaps] = [0, 0];
    for (const { values } of books) {
      for (const [key, weight] of Object.entries(values)) {
        const bucket = Number(/^call_(\d+)$/.exec(key)?.[1] ?? -1);
        if (bucket < 64) continue;
        const low = (64 + (bucket % 64)) * 2 ** (Math.floor(bucket / 64) - 1);
        if (low >= 20_000) surely += weight;
        if (low * (1 + 1 / 64) > 20_000) perhaps += weight;
      }
    }
    expect(calls.length).toBeGreaterThanOrEqual(surely);
    expect(calls.length).toBeLessThanOrEqual(perhaps);
    expect(calls.length).toBeGreaterThan(0);
  }));

e2e("a log in several files has every line", () =>
  withLoopback(async (node, scope) => {
    const path = scope.path("files.log.gz");
    const measurement = new Measurement(scope, await pair(node, "7033", "40000000"), {
      prefix: node.prefix,
      options: ["--log", path, "--log-size", "64k", "--log-count", "100"],
    });
    expect((await measurement.finish()).code).toBe(0);
    const found = [path];
    for (let n = 1; existsSync(scope.path(`files.log.${n}.gz`)); n++) found.push(scope.path(`files.log.${n}.gz`));
    expect(found.length).toBeGreaterThan(2);
    const logs = found.map((each) => readLog(each, BASE_SEC));
    const calls = logs.reduce((sum, log) => sum + log.calls.length, 0);
    const { directions, losses, booksBalance } = measurement.summary();
    expect([booksBalance, losses["logLines"]]).toEqual([true, 0]);
    expect(calls).toBe(directions.out.calls + directions.in.calls);
    expect(logs.map((log) => log.others.get("KQTIME-META"))).toEqual(logs.map(() => 1));
    expect(logs.map((log) => log.books.length > 0)).toEqual(logs.map((_, n) => n === 0));
  }));

e2e("logrotate may move the log away, or copy and truncate it", () =>
  withLoopback(async (node, scope) => {
    const { command, stop } = talk(node, scope);
    const measurement = new Measurement(scope, command, { prefix: node.prefix });
    const { logPath } = measurement;
    const size = () => (existsSync(logPath) ? statSync(logPath).size : 0);
    await until("lines", () => size() > 0);
    renameSync(logPath, scope.path("moved"));
    await until("lines", () => size() > 0);
    copyFileSync(logPath, scope.path("copy"));
    truncateSync(logPath, 0);
    await until("lines", () => size() > 0);
    stop();
    expect((await measurement.finish()).code).toBe(0);
    const lines = ["moved", "copy"].map((name) => readLog(scope.path(name), BASE_SEC).calls.length);
    const rest = measurement.log();
    for (const count of [...lines, rest.calls.length]) expect(count).toBeGreaterThan(0);
    const { directions } = measurement.summary();
    const calls = directions.out.calls + directions.in.calls;
    const found = lines[0]! + lines[1]! + rest.calls.length;
    // What is written between a copy and its truncation is lost, as logrotate(8) says: one sync.
    expect(found).toBeLessThanOrEqual(calls);
    expect(found).toBeGreaterThan(calls - 150);
    expect(readFileSync(logPath).includes(0)).toBe(false);
  }));

test.skipIf(BARE)("what makes no sense is told before anything is measured", async () => {
  await withScope(async (scope) => {
    const log = ["--log", scope.path("a.log")];
    const cases: [string[], RegExp][] = [
      [["--log-min", "5ms"], /--log-min does nothing without --log$/m],
      [["--log-sample", "5"], /--log-sample does nothing without --log$/m],
      [["--log-size", "5M"], /--log-size does nothing without --log$/m],
      [[...log, "--log-count", "5"], /--log-count does nothing without --log-size/],
      [["--interval-log", "x"], /--interval-log does nothing without --interval$/m],
      [["--interval", "1", "--quiet"], /needs a file for its lines: --interval-log FILE/],
      [["--interval", "0.1"], /--interval takes a number from 0.25 to 86400/],
      [[...log, "--log-min", "5"], /takes a time with its unit \(5ms, 250us, 1.5s\), not "5"/],
      [[...log, "--log-sample", "0"], /whole number from 1/],
      [[...log, "--log-sample", "1.5"], /whole number from 1/],
      [[...log, "--log-size", "1k"], /a size of at least 65536 bytes \(64k, 100M, 2G\), not "1k"/],
      [[...log, "--log-size", "5X"], /not "5X"/],
      [[...log, "--log-size", "1M", "--log-count", "1"], /whole number from 2/],
    ];
    for (const [words, pattern] of cases) {
      const { code, stderr } = await kqtime(scope, ["run", ...words, "--", "true"]).exit();
      expect(code).toBe(125);
      expect(stderr).toMatch(pattern);
    }
    expect(existsSync(scope.path("a.log"))).toBe(false);
  });
});
