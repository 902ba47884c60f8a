// Files of a log that grows: its own rotation, logrotate's two ways, and what keeps them from it.

import { describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { KQTimeError } from "../../src/errors.ts";
import { IntervalLog } from "../../src/output/interval-log.ts";
import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";
import { rotatedPath, type Rotation } from "../../src/output/rotation.ts";
import type { QueueRow } from "../../src/match/queue-samples.ts";
import { SocketField } from "../../src/output/socket-fields.ts";
import { writeMeta } from "../../src/output/selection.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import type { Summary } from "../../src/output/summary.ts";
import { BASE_SEC, counting, field, inFolder, offsets, readLines, writeLines, zcat } from "./log-lines.ts";

const HEAD = writeMeta({ minNs: 0, sample: 1, seed: 1 }, 0, BASE_SEC);
const META = new TextDecoder().decode(HEAD).trim();

function open(path: string, rotation: Rotation | null, messages: string[] = []): Log {
  const onError = (message: string) => void messages.push(message);
  return Log.open(path, { baseSec: BASE_SEC, onError, head: HEAD, rotation, follow: true });
}

/** The log's files, the oldest first. */
function files(path: string): string[] {
  const found = [path];
  for (let n = 1; existsSync(rotatedPath(path, n)); n++) found.unshift(rotatedPath(path, n));
  return found;
}

/** The lines of calls in a file, which must begin as every file does. */
function calls(path: string): string[] {
  const lines = readLines(path);
  expect(lines[0]).toBe(META);
  return lines.filter((line) => line.startsWith("KQTIME-OUT"));
}

function queueRows(sockets: number): QueueRow[] {
  return Array.from({ length: sockets }, (_, sock) => ({
    fd: sock + 3, values: new Float64Array(SocketField.count).fill(1e6 + sock * 977),
    unsentAgeNs: sock, unreadAgeNs: -1, sock, pid: 77, lport: 1024 + sock, rport: 443,
  }));
}

for (const name of ["a.log", "a.log.gz"]) {
  describe(name, () => {
    test("no line is lost from file to file, and each is a whole log", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const messages: string[] = [];
        const log = open(path, { sizeBytes: 100_000, files: 1000 }, messages);
        for (let n = 0; n < 200; n++) {
          writeLines(log, 500, n * 500);
          if (n % 3 === 0) log.sync();
        }
        log.books(0, 0, 1e9, new DirectionStats(), encodeName("x"));
        log.close();
        const found = files(path);
        expect(found.length).toBeGreaterThan(10);
        expect(offsets(found.flatMap(calls))).toEqual(counting(100_000));
        expect([log.linesLost, messages]).toEqual([0, []]);
        for (const each of found.slice(0, -1)) {
          expect(statSync(each).size).toBeLessThanOrEqual(100_000);
          expect(statSync(each).size).toBeGreaterThan(20_000);
          expect(statSync(each).mode & 0o777).toBe(0o600);
          expect(readLines(each).some((line) => line.startsWith("KQTIME-BOOKS"))).toBe(false);
          if (name.endsWith(".gz")) expect(zcat(each)).toMatchObject({ status: 0, stderr: "" });
        }
        expect(readLines(path).at(-1)).toStartWith("KQTIME-BOOKS");
      }));

    test("so many files are kept, the newest ones", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const log = open(path, { sizeBytes: 70_000, files: 3 });
        writeLines(log, 50_000);
        log.close();
        expect(readdirSync(folder).sort()).toEqual([path, rotatedPath(path, 1), rotatedPath(path, 2)]
          .map((each) => each.slice(folder.length + 1)).sort());
        const kept = offsets(files(path).flatMap(calls));
        expect(kept).toEqual(counting(kept.length, 50_000 - kept.length));
        expect(log.linesLost).toBe(0);
      }));

    test("short runs that follow each other keep to the size, their books as well", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const runs = 100;
        // Fewer than a chunk: they wait until the end.
        const lines = name.endsWith(".gz") ? 90 : 60;
        const stats = new DirectionStats();
        for (let n = 0; n < 3000; n++) stats.callNs.record(n * 977, 1);
        for (let run = 0; run < runs; run++) {
          const log = open(path, { sizeBytes: 65_536, files: 1000 });
          writeLines(log, lines, run * lines);
          log.books(0, 0, 1e9, stats, encodeName("x"));
          log.books(1, 0, 1e9, stats, encodeName("x"));
          log.close();
        }
        const found = files(path);
        expect(found.length).toBeGreaterThan(2);
        for (const each of found) expect(statSync(each).size).toBeLessThanOrEqual(65_536);
        expect(offsets(found.flatMap(calls))).toEqual(counting(runs * lines));
        const books = found.map((each) => readLines(each).filter((line) => line.startsWith("KQTIME-BOOKS")).length);
        // Those of a run stand in one file.
        expect(books.every((count) => count % 2 === 0)).toBe(true);
        expect(books.reduce((sum, count) => sum + count, 0)).toBe(2 * runs);
      }));

    test("the books stand together, however long they are", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const log = open(path, { sizeBytes: 65_536, files: 5 });
        const stats = new DirectionStats();
        for (let n = 0; n < 3000; n++) stats.callNs.record(2 ** (n % 50) + n * 977, 1);
        for (let n = 0; n < 300; n++) log.books(0, 0, 1e9, stats, encodeName(`label ${n}`));
        log.close();
        expect(files(path)).toEqual([path]);
        expect(readLines(path).length).toBe(301);
      }));

    for (const sizeBytes of [65_536, name.endsWith(".gz") ? 550_000 : 3_000_000]) {
      test(`a moment's queue lengths stand in one file of ${sizeBytes} bytes`, () =>
        inFolder((folder) => {
          const path = join(folder, name);
          const log = open(path, { sizeBytes, files: 1000 });
          const [moments, sockets] = [12, 5000];
          for (let n = 0; n < moments; n++) {
            writeLines(log, 300, n * 300);
            log.queues(n * 1e9, n * 1e9 + 1000, queueRows(sockets));
            if (n % 2 === 0) log.sync();
          }
          log.close();
          const seen = new Map<string, { files: Set<string>; sockets: number }>();
          const found = files(path);
          let momentBytes = 0;
          for (const each of found) {
            for (const line of readLines(each).filter((one) => one.startsWith("KQTIME-STATS"))) {
              const start = /start=([\d.]+)/.exec(line)![1]!;
              const moment = seen.get(start) ?? { files: new Set(), sockets: 0 };
              moment.files.add(each);
              moment.sockets += field(line, "num_fds");
              seen.set(start, moment);
              momentBytes += line.length / moments;
            }
          }
          // Its lines do not all fit into one write.
          expect(momentBytes).toBeGreaterThan(1.1 * 1024 * 1024);
          expect(seen.size).toBe(moments);
          for (const moment of seen.values()) expect([moment.files.size, moment.sockets]).toEqual([1, sockets]);
          expect(offsets(found.flatMap(calls))).toEqual(counting(moments * 300));
          expect(log.linesLost).toBe(0);
          expect(found.length).toBeGreaterThan(3);
          if (sizeBytes > 65_536) {
            for (const each of found) expect(statSync(each).size).toBeLessThanOrEqual(sizeBytes);
          }
        }));
    }

    test("an earlier run's files move on, and a gap is filled first", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        for (const n of [1, 3]) writeFileSync(rotatedPath(path, n), `old ${n}`);
        const log = open(path, { sizeBytes: 65_536, files: 9 });
        // Until the first rotation, and a little more.
        for (let n = 0; !existsSync(rotatedPath(path, 2)); n++) {
          writeLines(log, 400, n * 400);
          log.sync();
        }
        log.close();
        expect(readFileSync(rotatedPath(path, 2), "utf8")).toBe("old 1");
        expect(readFileSync(rotatedPath(path, 3), "utf8")).toBe("old 3");
      }));

    test("logrotate moves the file away: what comes goes to a new one", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const log = open(path, null);
        writeLines(log, 10);
        log.sync();
        renameSync(path, join(folder, "moved"));
        writeLines(log, 10, 10);
        log.sync();
        // Created by logrotate, as its `create` does.
        renameSync(path, join(folder, "moved too"));
        writeFileSync(path, "");
        writeLines(log, 10, 20);
        log.sync();
        rmSync(path);
        log.sync();
        writeLines(log, 10, 30);
        log.close();
        renameSync(path, join(folder, name.replace("a", "b")));
        const last = join(folder, name.replace("a", "b"));
        expect(offsets(calls(last))).toEqual(counting(10, 30));
        for (const [moved, first] of [["moved", 0], ["moved too", 10]] as const) {
          const as = join(folder, `${first}.${name}`);
          renameSync(join(folder, moved), as);
          expect(offsets(calls(as))).toEqual(counting(10, first));
        }
        expect(log.linesLost).toBe(0);
      }));

    test("logrotate copies and truncates it: it goes on from the start", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const log = open(path, null);
        writeLines(log, 10);
        log.sync();
        copyFileSync(path, join(folder, `copy.${name}`));
        truncateSync(path, 0);
        writeLines(log, 10, 10);
        log.close();
        expect(offsets(calls(join(folder, `copy.${name}`)))).toEqual(counting(10));
        expect(offsets(calls(path))).toEqual(counting(10, 10));
      }));

    test("a second run's file is followed and not moved, and both lose nothing", () =>
      inFolder((folder) => {
        const path = join(folder, name);
        const rotation = { sizeBytes: 65_536, files: 1000 };
        const logs = [open(path, rotation), open(path, rotation)];
        for (let n = 0; n < 120; n++) {
          writeLines(logs[n % 2]!, 400, n * 400);
          logs[n % 2]!.sync();
        }
        for (const log of logs) log.close();
        const all = offsets(files(path).flatMap(calls));
        expect(all.sort((a, b) => a - b)).toEqual(counting(48_000));
      }));
  });
}

test("what keeps a log from being rotated is told once, and it goes on", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    mkdirSync(rotatedPath(path, 1));
    const messages: string[] = [];
    const log = open(path, { sizeBytes: 65_536, files: 2 }, messages);
    for (let n = 0; n < 20; n++) writeLines(log, 1000, n * 1000);
    log.close();
    expect(offsets(calls(path))).toEqual(counting(20_000));
    expect(messages.length).toBe(1);
    expect(messages[0]).toContain(`log "${path}" cannot be rotated: it is a directory (EISDIR)`);
    expect(log.linesLost).toBe(0);
  }));

test("a link that comes to its place is not followed", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const precious = join(folder, "precious");
    writeFileSync(precious, "precious");
    const messages: string[] = [];
    const log = open(path, { sizeBytes: 65_536, files: 3 }, messages);
    writeLines(log, 10);
    log.sync();
    renameSync(path, join(folder, "moved"));
    symlinkSync(precious, path);
    for (let n = 1; n < 4; n++) {
      writeLines(log, 10, n * 10);
      log.sync();
    }
    writeLines(log, 2000, 40);
    log.close();
    expect(readFileSync(precious, "utf8")).toBe("precious");
    expect(lstatSync(path).isSymbolicLink()).toBe(true);
    expect(offsets(calls(join(folder, "moved")))).toEqual(counting(2040));
    expect(messages.length).toBe(1);
    expect(messages[0]).toContain("symbolic link");
  }));

test("a link among the old files is moved, not followed", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const precious = join(folder, "precious");
    writeFileSync(precious, "precious");
    symlinkSync(precious, rotatedPath(path, 1));
    const log = open(path, { sizeBytes: 65_536, files: 3 });
    writeLines(log, 3000);
    log.close();
    expect(readFileSync(precious, "utf8")).toBe("precious");
  }));

test("another kind of file in a compressed log's place is not appended to", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log.gz");
    const messages: string[] = [];
    const log = open(path, null, messages);
    writeLines(log, 10);
    log.sync();
    renameSync(path, join(folder, "moved.gz"));
    writeFileSync(path, "text");
    writeLines(log, 10, 10);
    log.close();
    expect(readFileSync(path, "utf8")).toBe("text");
    expect(offsets(calls(join(folder, "moved.gz")))).toEqual(counting(20));
    expect(messages.length).toBe(1);
  }));

test("a log that is appended to says so before its lines", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    writeFileSync(path, "KQTIME-OUT;start=17323");
    const log = open(path, null);
    writeLines(log, 2);
    log.close();
    const lines = readLines(path);
    expect(lines.slice(0, 2)).toEqual(["KQTIME-OUT;start=17323", META]);
    expect(offsets(lines.slice(2))).toEqual([0, 1]);
  }));

test("a device is not rotated", () => {
  try {
    open("/dev/null", { sizeBytes: 65_536, files: 2 }).close();
    throw new Error("it was opened");
  } catch (error) {
    expect(error).toBeInstanceOf(KQTimeError);
    expect((error as KQTimeError).message).toBe(`log "/dev/null" is no regular file, and cannot be rotated`);
  }
});

test("the intervals' file is private, appended to, and followed", () =>
  inFolder((folder) => {
    const path = join(folder, "i.jsonl");
    writeFileSync(path, '{"torn":');
    const messages: string[] = [];
    const log = new IntervalLog(path, (message) => void messages.push(message));
    const summary = (version: string) => ({ version }) as Summary;
    log.write(summary("1"));
    renameSync(path, join(folder, "old"));
    log.write(summary("2"));
    log.close();
    expect(readFileSync(join(folder, "old"), "utf8")).toBe('{"torn":\n{"version":"1"}\n');
    expect(readFileSync(path, "utf8")).toBe('{"version":"2"}\n');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(messages).toEqual([]);
  }));
