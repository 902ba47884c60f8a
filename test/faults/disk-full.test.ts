// All that a run writes, on a disk that is full in the middle of it: the program goes on, what was
// lost is counted and said, and what was written until then can be read. A small tmpfs, the quota of a
// file (RLIMIT_FSIZE) and that of a file system (btrfs, which has its own in every kernel that has
// btrfs) run full in three different ways: ENOSPC, EFBIG with a signal, and EDQUOT.

import { expect } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { OUT, readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, kqtime, Measurement, type Summary } from "../lib/kqtime.ts";
import { parseLog } from "../lib/kqlog.ts";
import { withLoopback, type Node } from "../lib/network.ts";
import { type Scope } from "../lib/process.ts";
import { compare } from "../lib/truth.ts";
import { readable } from "./readable.ts";

const DISK_BYTES = 1 << 20;
const TOTAL = 60_000_000;
const SIZE = 1000;
/** Of a compressed log. */
const GZIP_DISK_BYTES = 1 << 17;

interface Limit {
  name: string;
  /** Makes the folder that will be full; words before the command that are needed for it. */
  make(scope: Scope, bytes: number): Promise<{ disk: string; words: string[] }>;
  why: RegExp;
  programs: readonly string[];
}

async function mountTmpfs(scope: Scope, bytes: number): Promise<string> {
  const disk = scope.path("disk");
  mkdirSync(disk);
  await scope.run(["mount", "-t", "tmpfs", "-o", `size=${bytes}`, "kqtime-test", disk]);
  scope.finally(async () => {
    await Bun.spawn(["umount", "-l", disk]).exited;
  });
  return disk;
}

async function mountQuota(scope: Scope, bytes: number): Promise<string> {
  const image = scope.path("image");
  const disk = scope.path("disk");
  mkdirSync(disk);
  await scope.run(["truncate", "-s", "128M", image]);
  await scope.run(["mkfs.btrfs", "-q", image]);
  await scope.run(["mount", "-o", "loop", image, disk]);
  scope.finally(async () => {
    await Bun.spawn(["umount", "-l", disk]).exited;
  });
  await scope.run(["btrfs", "quota", "enable", disk]);
  await scope.run(["btrfs", "qgroup", "limit", `${bytes}`, disk]);
  return disk;
}

const LIMITS: readonly Limit[] = [
  {
    name: "a full disk",
    make: async (scope, bytes) => ({ disk: await mountTmpfs(scope, bytes), words: [] }),
    why: /no space left/i,
    programs: [],
  },
  {
    name: "the limit of a file's size",
    make: async (scope, bytes) => {
      const disk = scope.path("disk");
      mkdirSync(disk);
      return { disk, words: ["prlimit", `--fsize=${bytes}:unlimited`, "--"] };
    },
    why: /may not grow further/,
    programs: ["prlimit"],
  },
  {
    name: "a disk quota",
    make: async (scope, bytes) => ({ disk: await mountQuota(scope, bytes), words: [] }),
    why: /the disk quota is used up/,
    programs: ["mkfs.btrfs", "btrfs"],
  },
];

/** So slow that the disk is not full at once: two seconds, and more are not recorded. */
const PACED = ["--conns", "4", "--total", "4000000", "--write-sleep", "1"];

/** Full some tenths of a second after. */
const SMALL_DISK_BYTES = 1 << 18;

/** What the program sends: the last of two options counts. */
function total(pace: readonly string[]): number {
  return pace.length === 0 ? TOTAL : 4 * 4_000_000;
}

/** Sends TOTAL bytes to itself under kqtime with these outputs; its own log is elsewhere. */
async function measure(
  node: Node, scope: Scope, words: string[], options: string[], pace: readonly string[] = [],
) {
  const log = scope.path("flow");
  const program = await fixture("flow");
  const flow = [
    "--address", node.v4, "--port", "7100", "--total", `${TOTAL}`, "--size", `${SIZE}`,
    "--content", "zero", ...pace,
  ];
  const server = scope.start([program, "server", ...flow], { prefix: node.prefix });
  await server.says(/ready/);
  // The program's own log is written at its end, and is larger than the limit of a file's size.
  const lift = words[0] === "prlimit" ? ["prlimit", "--fsize=unlimited"] : [];
  const measurement = new Measurement(
    scope, [...lift, program, "client", ...flow, "--log", log],
    { prefix: [...node.prefix, ...words], options },
  );
  const exit = await measurement.running.success();
  // The receiver has checked each byte.
  expect((await server.success()).stdout).toContain(`received=${total(pace)}`);
  const calls = readCallLog(`${log}.client`, BASE_SEC);
  return { measurement, exit, calls };
}

for (const { name, make, why, programs } of LIMITS) {
  for (const file of ["kq.log", "kq.log.gz"]) {
    e2e(`${name}: ${file}`, () => withLoopback(async (node, scope) => {
      const { disk, words } = await make(scope, file.endsWith(".gz") ? GZIP_DISK_BYTES : DISK_BYTES);
      const path = join(disk, file);
      const { measurement, exit, calls } = await measure(node, scope, words, ["--log", path]);
      if (BARE) return;
      const summary = measurement.summary();
      expect(exit.stderr).toMatch(why);
      expect(exit.stderr.trimEnd().split("\n").length).toBeLessThan(5);
      expect(summary.warnings.join("\n")).toMatch(/lines? of the log not written/);
      expect(summary.booksBalance).toBe(true);
      expect([summary.directions.out.bytesCalled, summary.directions.out.coverage]).toEqual([TOTAL, 1]);
      const text = await readable(path);
      const log = parseLog(text.slice(0, text.lastIndexOf("\n") + 1), BASE_SEC);
      expect(compare(log, { calls }, { lossy: true }).report()).toBe("");
      // Up to there: every call from the first one on, none in between is missing.
      const out = calls.find((stream) => stream.direction === OUT)!;
      const found = log.calls.filter((line) => line.direction === OUT).map((line) => line.offset);
      expect(found.length).toBeGreaterThan(1000);
      expect(found).toEqual(out.calls.slice(0, found.length).map((call) => call.offset));
      expect(summary.losses["logLines"]).toBeGreaterThanOrEqual(out.calls.length - found.length);
    }), 60_000, programs);
  }

  e2e(`${name}: --record, --interval-log and --json`, () => withLoopback(async (node, scope) => {
    const { disk, words } = await make(scope, DISK_BYTES);
    const intervals = join(disk, "intervals");
    const record = join(disk, "record");
    const { measurement, exit } = await measure(node, scope, words, [
      "--record", record, "--interval", "0.25", "--interval-log", intervals,
      "--json", join(disk, "summary.json"),
    ], PACED);
    if (BARE) return;
    expect(exit.stderr).toMatch(why);
    const json = scope.path("replayed.json");
    await kqtime(scope, ["replay", "--quiet", record, "--json", json]).success();
    const replayed = JSON.parse(readFileSync(json, "utf8")) as Summary;
    expect(replayed.warnings.join("\n")).toMatch(/recording is cut off/);
    expect(replayed.booksBalance).toBe(true);
    expect(replayed.directions.out.bytesMatched).toBeGreaterThan(500_000);
    expect(replayed.directions.out.bytesCalled).toBeLessThan(total(PACED));
    for (const line of readFileSync(intervals, "utf8").split("\n").slice(0, -1)) JSON.parse(line);
    // A disk is full for all; a limit of each file leaves room for the small ones.
    if (name !== "the limit of a file's size") {
      expect(exit.stderr).toMatch(/JSON summary ".*" is incomplete/);
      const { books } = parseLog(readFileSync(measurement.logPath, "utf8"), BASE_SEC);
      const out = books.filter(({ direction }) => direction === OUT);
      expect(out.reduce((sum, { values }) => sum + values["called"]!, 0)).toBe(total(PACED));
    } else {
      const summary = JSON.parse(readFileSync(join(disk, "summary.json"), "utf8")) as Summary;
      expect(summary.directions.out.bytesMatched).toBe(total(PACED));
      expect(summary.warnings.join("\n")).toMatch(/recording is incomplete/);
    }
    expect(readdirSync(disk).sort()).toEqual(["intervals", "record", "summary.json"]);
  }), 60_000, programs);
}

e2e("a disk that is full within a part of a second has as much of both files of a recording", () =>
  withLoopback(async (node, scope) => {
    const disk = await mountTmpfs(scope, SMALL_DISK_BYTES);
    const record = join(disk, "record");
    const { measurement } = await measure(node, scope, [], ["--record", record], PACED);
    if (BARE) return;
    expect(measurement.summary().warnings.join("\n")).toMatch(/recording is incomplete/);
    const json = scope.path("replayed.json");
    await kqtime(scope, ["replay", "--quiet", record, "--json", json]).success();
    const replayed = JSON.parse(readFileSync(json, "utf8")) as Summary;
    expect(replayed.booksBalance).toBe(true);
    const bytesOf = (file: string) => statSync(join(record, file)).size;
    expect(bytesOf("events.kqt") + bytesOf("headers.pcap")).toBeLessThanOrEqual(SMALL_DISK_BYTES);
    // A call has as much there as its packet.
    expect(bytesOf("events.kqt")).toBeGreaterThan(SMALL_DISK_BYTES / 5);
    expect(replayed.directions.out.bytesMatched).toBeGreaterThan(200_000);
  }), 60_000);
