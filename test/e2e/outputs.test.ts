// What a run leaves behind: its log, its summary, and a recording that gives both again.

import { expect } from "bun:test";
import { closeSync, constants, mkdirSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fixture } from "../lib/fixtures.ts";
import { flaws, kqtime, Measurement } from "../lib/kqtime.ts";
import { expectError, loopback } from "../lib/loopback.ts";
import type { Node } from "../lib/network.ts";
import { childrenOf, until, type Scope } from "../lib/process.ts";

async function pairOf(node: Node, scope: Scope, options: readonly string[]): Promise<Measurement> {
  const measurement = new Measurement(scope, [
    await fixture("flow"), "pair", "--address", node.v4, "--port", "7020", "--conns", "3",
    "--total", "300000", "--size", "3000", "--both",
  ], { prefix: node.prefix, options });
  await measurement.running.success();
  return measurement;
}

loopback("a replayed record gives the same output", async (node, scope) => {
  const folder = scope.path("record");
  const measurement = await pairOf(node, scope, ["--record", folder]);
  expect(flaws(measurement)).toEqual([]);
  const [log, json] = [scope.path("again.log"), scope.path("again.json")];
  await kqtime(scope, ["replay", folder, "--log", log, "--json", json]).success();
  expect(readFileSync(log, "utf8")).toBe(readFileSync(measurement.logPath, "utf8"));
  const again = JSON.parse(readFileSync(json, "utf8"));
  const { directions, labels, sockets, losses, booksBalance } = measurement.summary();
  expect(again).toMatchObject({ directions, labels, sockets, losses, booksBalance });
});

loopback("outputs whose folder is removed during the run: each says so in one line", async (node, scope) => {
  const folder = scope.path("outputs");
  const [log, json, intervals, record] = ["log", "json", "intervals", "record"].map((name) => join(folder, name));
  mkdirSync(folder);
  const exit = await kqtime(scope, [
    "run", "--quiet", "--log", log!, "--json", json!, "--interval", "3600", "--interval-log", intervals!,
    "--record", record!, "--", "sh", "-c", `rm -r ${folder}; exit 7`,
  ], { prefix: node.prefix }).exit();
  expect(exit.code).toBe(7);
  const lines = exit.stderr.trim().split("\n").sort();
  expect(lines).toHaveLength(4);
  expect(lines[0]).toContain(`interval log "${intervals}" was removed, and cannot be made again: no such directory`);
  expect(lines[1]).toContain(`log "${log}" was removed, and cannot be made again: no such directory`);
  expect(lines[2]).toContain(`the JSON summary is lost: "${json}" was removed during the run`);
  expect(lines[3]).toContain(`the recording is incomplete: "${record}/events.kqt" was removed during the run`);
});

loopback("a summary's file that is removed is made again, but another's in its place is left alone", async (node, scope) => {
  const json = scope.path("summary.json");
  const run = (then: string) =>
    kqtime(scope, ["run", "--quiet", "--json", json, "--", "sh", "-c", `rm ${json}; ${then}`], { prefix: node.prefix }).exit();
  expect(await run("true")).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(readFileSync(json, "utf8")).booksBalance).toBe(true);
  expect(statSync(json).mode & 0o777).toBe(0o600);
  const exit = await run(`echo precious > ${json}`);
  expect(exit.code).toBe(0);
  expect(exit.stderr).toMatch(/^kqtime: the JSON summary is lost: .* it is there already \(EEXIST\).*\n$/);
  expect(readFileSync(json, "utf8")).toBe("precious\n");
});

/** Of kqtime's start, its end, and a wait of 5 s; three of these are more. */
const STALLED_MS = 12_000;

loopback("readers of pipes who have stopped hold the end up together, not one after the other", async (node, scope) => {
  const paths = ["log", "json", "intervals"].map((name) => scope.path(name));
  const { O_RDWR, O_NONBLOCK } = constants;
  const fds = paths.map((path) => {
    expect(Bun.spawnSync(["mkfifo", path]).exitCode).toBe(0);
    const fd = openSync(path, O_RDWR | O_NONBLOCK);
    expect(() => {
      for (;;) writeSync(fd, Buffer.alloc(4096));
    }).toThrow("EAGAIN");
    return fd;
  });
  const [log, json, intervals] = paths;
  const startMs = performance.now();
  const exit = await kqtime(scope, [
    "run", "--quiet", "--log", log!, "--json", json!, "--interval", "0.25", "--interval-log", intervals!,
    "--", "sleep", "0.5",
  ], { prefix: node.prefix }).exit();
  expect(performance.now() - startMs).toBeLessThan(STALLED_MS);
  expect(exit.code).toBe(0);
  expect(exit.stderr).toMatch(/JSON summary .* is incomplete: its reader is too slow/);
  expect(exit.stderr).toMatch(/\d+ lines of the interval log were not written/);
  for (const fd of fds) closeSync(fd);
});

loopback("--sockets tells how many sockets are listed; the others are summed", async (node, scope) => {
  const folder = scope.path("record");
  const intervals = scope.path("intervals");
  const measurement = await pairOf(node, scope, [
    "--record", folder, "--sockets", "0", "--interval", "0.25", "--interval-log", intervals,
  ]);
  const { sockets, socketsRest, directions } = measurement.summary();
  expect([sockets, socketsRest.count]).toEqual([[], 6]);
  expect(socketsRest.out.bytesCalled).toBe(directions.out.bytesCalled);
  const lines = readFileSync(intervals, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  expect(lines.map((line) => line.sockets)).toEqual(lines.map(() => []));
  expect(lines.reduce((sum, line) => sum + line.socketsRest.out.bytesCalled, 0)).toBe(
    directions.out.bytesCalled,
  );
  const json = scope.path("again.json");
  for (const [options, listed] of [[[], 0], [["--sockets", "4"], 4]] as const) {
    await kqtime(scope, ["replay", "--quiet", folder, "--json", json, ...options]).success();
    const again = JSON.parse(readFileSync(json, "utf8"));
    expect([again.sockets.length, again.socketsRest.count]).toEqual([listed, 6 - listed]);
    expect(again.directions).toEqual(directions);
  }
});

loopback("a record that a kill cut off is replayed up to the cut", async (node, scope) => {
  const folder = scope.path("record");
  const running = kqtime(scope, [
    "run", "--quiet", "--record", folder, "--", await fixture("flow"), "pair", "--address", node.v4,
    // So slowly that what is in the file by then was read in many rounds.
    "--port", "7024", "--conns", "4", "--seconds", "60", "--size", "3000", "--write-sleep", "1", "--both",
  ], { prefix: node.prefix });
  const bytes = () => statSync(join(folder, "events.kqt"), { throwIfNoEntry: false })?.size ?? 0;
  await until("some of a recording", () => bytes() > 600_000);
  const [target] = childrenOf(running.pid);
  running.kill("SIGKILL");
  await running.exit();
  scope.finally(() => {
    try {
      process.kill(target!, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  });
  const json = scope.path("cut.json");
  await kqtime(scope, ["replay", "--quiet", folder, "--json", json]).success();
  const summary = JSON.parse(readFileSync(json, "utf8"));
  const warnings: string[] = summary.warnings;
  expect(warnings.join("\n")).toMatch(/recording is cut off/);
  for (const warning of warnings.filter((each) => / unseen: | filtered: /.test(each))) {
    expect(warning).toContain("the recording ends before");
  }
  expect(summary.directions.out.bytesMatched).toBeGreaterThan(100_000);
  expect(summary.booksBalance).toBe(true);
});

loopback("a damaged record is refused, not replayed", async (node, scope) => {
  const folder = scope.path("record");
  await pairOf(node, scope, ["--record", folder]);
  const path = join(folder, "events.kqt");
  const whole = readFileSync(path);
  for (let n = 0; n < 12; n++) {
    const bytes = Buffer.from(whole);
    const at = 16 + Math.floor(((n + 0.5) / 12) * (bytes.length - 16));
    bytes[at] = bytes[at]! ^ 0x41;
    writeFileSync(path, bytes);
    const log = scope.path(`damaged-${n}.log`);
    const exit = await kqtime(scope, ["replay", "--quiet", folder, "--log", log]).exit();
    expectError(exit, 125, /damaged/, /events\.kqt/);
  }
  writeFileSync(path, whole);
  const headers = join(folder, "headers.pcap");
  const packets = readFileSync(headers);
  // From the first packet's seconds on: stamps, lengths, addresses, numbers.
  for (const at of [24, 28, 33, 36, ...Array.from({ length: 12 }, (_, n) => Math.floor(packets.length * (n + 0.5) / 12))]) {
    const bytes = Buffer.from(packets);
    bytes[at] = bytes[at]! ^ 0xff;
    writeFileSync(headers, bytes);
    const exit = await kqtime(scope, ["replay", "--quiet", folder]).exit();
    expectError(exit, 125, /damaged/, /headers\.pcap/);
  }
  writeFileSync(headers, packets);
  await kqtime(scope, ["replay", "--quiet", folder]).success();
  const onto = await kqtime(scope, ["replay", "--quiet", folder, "--log", path]).exit();
  expectError(onto, 125, /same file/);
  expect(readFileSync(path).equals(whole)).toBe(true);
});

loopback("the log is private, and appended to", async (node, scope) => {
  const path = scope.path("twice.log");
  const first = await pairOf(node, scope, ["--log", path]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const before = first.log().calls.length;
  expect(before).toBeGreaterThan(100);
  await pairOf(node, scope, ["--log", path]);
  expect(first.log().calls.length).toBeGreaterThan(before * 1.5);
});

loopback("a gzipped log is whole", async (node, scope) => {
  const path = scope.path("kq.log.gz");
  const measurement = await pairOf(node, scope, ["--log", path]);
  await scope.run(["gzip", "-t", path]);
  expect(flaws(measurement)).toEqual([]);
});

loopback("one direction only, and labels", async (node, scope) => {
  const out = await pairOf(node, scope, ["--direction", "out", "--label", "port"]);
  const { calls } = out.log();
  expect(calls.length).toBeGreaterThan(100);
  expect(calls.filter((line) => line.direction === 1)).toEqual([]);
  expect([...new Set(calls.map((line) => line.name))].sort()).toEqual(["in:7020", "out:7020"]);
  const peer = await pairOf(node, scope, ["--direction", "in", "--label", "peer"]);
  expect(peer.log().calls.filter((line) => line.direction === 0)).toEqual([]);
});

loopback("a filter that excludes the traffic is named as the reason", async (node, scope) => {
  const measurement = await pairOf(node, scope, ["--filter", "tcp port 1"]);
  const { directions, booksBalance } = measurement.summary();
  for (const books of [directions.out, directions.in]) {
    expect(books.bytesCalled).toBe(1_800_000);
    expect(books.bytesUnmatched).toEqual({ filtered: 1_800_000 });
    expect(books.coverage).toBe(0);
  }
  expect(booksBalance).toBe(true);
});

loopback("bytes that C stdio moved are unexplained, and said", async (node, scope) => {
  const measurement = new Measurement(
    scope, [await fixture("stdio"), "7021", "50000"], { prefix: node.prefix },
  );
  await measurement.running.success();
  const summary = measurement.summary();
  expect(summary.directions.out.bytesCalled).toBe(0);
  expect(summary.directions.out.bytesUnexplained).toBe(50_000);
  expect(summary.directions.in.bytesCalled).toBe(50_000);
  expect(summary.directions.in.coverage).toBe(1);
  expect(summary.booksBalance).toBe(true);
});

loopback("datagrams are counted", async (node, scope) => {
  const script = `
import socket
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(5): b.sendto(b"x" * 100, a.getsockname()); a.recvfrom(2000)
`;
  const measurement = new Measurement(scope, ["python3", "-c", script], { prefix: node.prefix });
  await measurement.running.success();
  expect(measurement.summary().datagram).toEqual({ sockets: 2, calls: 10, bytes: 1000 });
});

loopback("a terminal summary without --quiet goes to standard error", async (node, scope) => {
  const exit = await kqtime(scope, [
    "run", "--", await fixture("flow"), "pair", "--address", node.v4, "--port", "7022",
  ], { prefix: node.prefix }).success();
  expect(exit.stdout).toMatch(/^done/m);
  expect(exit.stderr).toMatch(/100(\.0+)? ?%/);
});
