// The log's lines and its file.

import { expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { KQTimeError } from "../../src/errors.ts";
import { encodeName } from "../../src/output/name.ts";
import { Reason } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { isRoot, reason, testUnless } from "../lib/requires.ts";
import { counting, inFolder, offsets, openLog, readLines, writeLines } from "./log-lines.ts";

function openError(path: string): KQTimeError {
  try {
    openLog(path).close();
  } catch (error) {
    if (error instanceof KQTimeError) return error;
    throw error;
  }
  throw new Error(`${path} could be opened`);
}

test("the lines are the ancestor's, with more keys", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const log = openLog(path);
    const name = encodeName("peer;\n1");
    log.call(0, -1, 2.5e9, 1e9, 0, 1448, 2 ** 40, 12, 5, 7, 40000, 443, name);
    log.call(1, 1.4, 2.6, 0, 3, 9, 0, 12, -1, 8, 443, 40000, encodeName(""));
    log.miss(1, 5, 6, 100, 200, 12, 5, 7, 1, 2, Reason.captureDrop, encodeName("x"));
    const stats = new DirectionStats();
    stats.calls = 3;
    stats.bytesCalled = stats.unmatched[Reason.ringDrop] = 10;
    log.books(0, 0, 7e9, stats, encodeName("x"));
    log.close();
    expect(readFileSync(path, "utf8")).toBe(
      "KQTIME-OUT;start=1732345677.999999999,end=1732345680.500000000,fd=5,bytes=1448," +
        "first=1732345679.000000000,off=1099511627776,pid=12,sock=7,lport=40000,rport=443;peer__1;\n" +
        "KQTIME-IN;start=1732345678.000000001,end=1732345678.000000003,fd=-1,bytes=9," +
        "first=1732345678.000000000,inorder=1732345678.000000003,off=0,pid=12,sock=8,lport=443," +
        "rport=40000;NULL;\n" +
        "KQTIME-MISS;start=1732345678.000000005,end=1732345678.000000006,fd=5,bytes=100,off=200," +
        "pid=12,sock=7,lport=1,rport=2,dir=1,reason=1;x;\n" +
        "KQTIME-BOOKS;start=1732345678.000000000,end=1732345685.000000000,dir=0,sockets=0,calls=3," +
        "called=10,matched=0,inflight=0,unread=0,unexplained=0,retransmitted=0,miss2=10;x;\n",
    );
    expect([log.linesWritten, log.linesLost]).toEqual([4, 0]);
  }));

test("many lines come out whole and in order, over the edges of the chunks", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const log = openLog(path);
    writeLines(log, 20000);
    log.close();
    expect(offsets(readLines(path))).toEqual(counting(20000));
    expect(log.linesWritten).toBe(20000);
  }));

test("sync hands over what there is; a line after close is counted as lost", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const log = openLog(path);
    writeLines(log, 3);
    expect(readLines(path).length).toBe(0);
    log.sync();
    expect(readLines(path).length).toBe(3);
    log.close();
    log.close();
    writeLines(log, 2);
    log.books(0, 0, 0, new DirectionStats(), encodeName("x"));
    log.sync();
    expect([log.linesWritten, log.linesLost, readLines(path).length]).toEqual([3, 3, 3]);
  }));

test("shedding counts lines of calls as lost and keeps the books", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const log = openLog(path);
    writeLines(log, 2);
    log.shedding = true;
    writeLines(log, 5, 2);
    log.shedding = false;
    writeLines(log, 1, 7);
    log.close();
    expect(offsets(readLines(path))).toEqual([0, 1, 7]);
    expect([log.linesWritten, log.linesLost]).toEqual([3, 5]);
  }));

test("a log is appended to, and a line that was cut does not swallow the next", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    writeFileSync(path, "KQTIME-OUT;start=17323");
    chmodSync(path, 0o644);
    for (let run = 0; run < 2; run++) {
      const log = openLog(path);
      writeLines(log, 2, run * 2);
      log.close();
    }
    const lines = readLines(path);
    expect(lines[0]).toBe("KQTIME-OUT;start=17323");
    expect(offsets(lines.slice(1))).toEqual([0, 1, 2, 3]);
    // An existing file's mode is its owner's affair.
    expect(statSync(path).mode & 0o777).toBe(0o644);
  }));

test("a new log is private", () =>
  inFolder((folder) => {
    for (const name of ["a.log", "a.log.gz"]) {
      const path = join(folder, name);
      openLog(path).close();
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(statSync(path).size).toBe(0);
    }
  }));

test("the descriptor is not inherited", () =>
  inFolder((folder) => {
    const path = join(folder, "a.log");
    const log = openLog(path);
    const found = spawnSync("ls", ["-l", "/proc/self/fd"], { encoding: "utf8" }).stdout;
    log.close();
    expect(found).not.toContain(path);
  }));

testUnless(reason(!isRoot && "needs root"), "under sudo a new log belongs to the caller", () =>
  inFolder((folder) => {
    const { SUDO_UID, SUDO_GID } = process.env;
    try {
      process.env["SUDO_UID"] = "1234";
      process.env["SUDO_GID"] = "5678";
      const path = join(folder, "a.log");
      const old = join(folder, "old.log");
      writeFileSync(old, "");
      openLog(path).close();
      openLog(old).close();
      expect([statSync(path).uid, statSync(path).gid]).toEqual([1234, 5678]);
      expect([statSync(old).uid, statSync(old).gid]).toEqual([0, 0]);
      process.env["SUDO_UID"] = "-1; x";
      const odd = join(folder, "odd.log");
      openLog(odd).close();
      expect(statSync(odd).uid).toBe(0);
    } finally {
      if (SUDO_UID === undefined) delete process.env["SUDO_UID"];
      else process.env["SUDO_UID"] = SUDO_UID;
      if (SUDO_GID === undefined) delete process.env["SUDO_GID"];
      else process.env["SUDO_GID"] = SUDO_GID;
    }
  }),
);

test("what cannot be opened is one line that says why", () =>
  inFolder((folder) => {
    const target = join(folder, "target");
    writeFileSync(target, "precious");
    symlinkSync(target, join(folder, "link.log"));
    spawnSync("mkfifo", [join(folder, "pipe")]);
    const cases: [path: string, why: RegExp][] = [
      [join(folder, "link.log"), /symbolic link/],
      [join(folder, "none", "a.log"), /no such directory/],
      [folder, /is a directory/],
      [join(target, "a.log"), /not a directory/],
      [join(folder, "pipe"), /nobody reads/],
    ];
    for (const [path, why] of cases) {
      const error = openError(path);
      expect(error.code).toBe("E_LOG");
      expect(error.exitCode).toBe(125);
      expect(error.message).toMatch(why);
      expect(error.message).toContain(path);
      expect(error.message).not.toContain("\n");
    }
    expect(readFileSync(target, "utf8")).toBe("precious");
  }));
