// A full disk: told once, counted, and over when there is room again. The disk is a small tmpfs.

import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Log } from "../../src/output/log.ts";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { BASE_SEC, counting, inFolder, offsets, openLog, readLines, writeLines, zcat } from "./log-lines.ts";

function canMount(): boolean {
  if (!isLinux || !isRoot) return false;
  return spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;
}

const why = reason(
  !isLinux && "needs Linux",
  !isRoot && "needs root to mount a tmpfs",
  lacks("mount", "umount", "unshare", "gzip"),
  !canMount() && "mounting is not permitted",
);

/** Holds all that a log keeps in memory, and more. */
const DISK_BYTES = 4 * 1024 * 1024;

/** Runs `body` with a file system that a file "ballast" fills but for `free` bytes. */
async function onSmallDisk(free: number, body: (disk: string) => void): Promise<void> {
  await inFolder((folder) => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", disk]);
    expect(mounted.status).toBe(0);
    try {
      writeFileSync(join(disk, "ballast"), Buffer.alloc(DISK_BYTES - free));
      body(disk);
    } finally {
      spawnSync("umount", [disk]);
    }
  });
}

for (const name of ["a.log", "a.log.gz"]) {
  testUnless(why, `${name} on a full disk: told once, counted, whole again with room`, () =>
    onSmallDisk(200 * 1024, (disk) => {
      const path = join(disk, name);
      const messages: string[] = [];
      const log = openLog(path, messages);
      const given = 60000;
      for (let first = 0; first < given; first += 6000) {
        writeLines(log, 6000, first);
        log.sync();
      }
      expect(messages.length).toBe(1);
      expect(messages[0]).toMatch(/no space left/);
      expect(messages[0]).toContain(path);
      expect(log.linesLost).toBeGreaterThan(10000);

      rmSync(join(disk, "ballast"));
      log.sync();
      const lost = log.linesLost;
      writeLines(log, 500, given);
      log.close();
      expect(log.linesLost).toBe(lost);
      expect(log.linesWritten + log.linesLost).toBe(given + 500);
      expect(messages.length).toBe(1);
      const found = offsets(readLines(path));
      expect(found.length).toBe(log.linesWritten);
      // Nothing torn, nothing twice, nothing out of order; the gap is what was shed.
      const rising = found.every((off, i) => off >= 0 && (i === 0 || off > found[i - 1]!));
      expect(rising).toBe(true);
      expect(found.slice(-500)[0]).toBe(given);
      if (name.endsWith(".gz")) expect(zcat(path).status).toBe(0);
    }),
  );

  testUnless(why, `${name} on a disk that stays full: closed without a word more, all counted`, () =>
    onSmallDisk(100 * 1024, (disk) => {
      const path = join(disk, name);
      const messages: string[] = [];
      const log = openLog(path, messages);
      writeLines(log, 30000);
      log.close();
      expect(messages.length).toBe(1);
      expect(log.linesWritten + log.linesLost).toBe(30000);
      const whole = zcatOrText(path);
      expect(whole.length).toBeGreaterThanOrEqual(log.linesWritten);
      expect(offsets(whole)).toEqual(Array.from(whole, (_, i) => i));
    }),
  );
}

for (const others of [0, 60]) {
  testUnless(why, `a torn end is left with the file that was moved away, ${others} lines after it`, () =>
    onSmallDisk(100 * 1024, (disk) => {
      const path = join(disk, "a.log");
      const log = Log.open(path, { baseSec: BASE_SEC, onError: () => {}, follow: true });
      const given = 1000;
      writeLines(log, given);
      log.sync();
      expect(log.linesWritten).toBe(0);
      const torn = statSync(path).size;
      expect(torn).toBeGreaterThan(50 * 1024);
      rmSync(join(disk, "ballast"));
      const other = "another program's line\n";
      for (let i = 0; i < others; i++) appendFileSync(path, other);
      renameSync(path, `${path}.1`);
      log.sync();
      log.close();
      expect(log.linesLost).toBe(0);
      expect(offsets(readLines(path))).toEqual(counting(given));
      const left = readFileSync(`${path}.1`, "utf8");
      expect(left.length).toBe(others === 0 ? 0 : torn + others * other.length);
      expect(left.endsWith(other.repeat(others))).toBe(true);
    }),
  );
}

testUnless(why, "what another program wrote between two pieces of a torn end stays where it is", () =>
  onSmallDisk(100 * 1024, (disk) => {
    const path = join(disk, "a.log");
    const ballast = join(disk, "ballast");
    const log = Log.open(path, { baseSec: BASE_SEC, onError: () => {}, follow: true });
    const given = 2500;
    writeLines(log, given);
    log.sync();
    const torn = statSync(path).size;
    truncateSync(ballast, statSync(ballast).size - 64 * 1024);
    const other = "another program's line\n";
    appendFileSync(path, other);
    log.sync();
    // The second piece is there, and not yet the end.
    const size = statSync(path).size;
    expect(size).toBeGreaterThan(torn + other.length);
    expect(log.linesWritten).toBe(0);
    truncateSync(ballast, 0);
    renameSync(path, `${path}.1`);
    log.sync();
    log.close();
    expect(log.linesLost).toBe(0);
    expect(offsets(readLines(path))).toEqual(counting(given));
    const left = readFileSync(`${path}.1`, "utf8");
    expect(left.length).toBe(size);
    expect(left.slice(torn, torn + other.length)).toBe(other);
  }),
);

testUnless(
  reason(!existsSync("/dev/full") && "needs /dev/full"),
  "a device that is always full",
  () => {
    const messages: string[] = [];
    const log = openLog("/dev/full", messages);
    for (let first = 0; first < 30000; first += 3000) {
      writeLines(log, 3000, first);
      log.sync();
    }
    log.close();
    expect(messages).toEqual([
      'log "/dev/full" cannot be written: no space left on the device (ENOSPC); ' +
        "lines are lost until it can be written again",
    ]);
    expect([log.linesWritten, log.linesLost]).toEqual([0, 30000]);
  },
);

testUnless(reason(lacks("mkfifo")), "a pipe without a reader neither blocks nor ends it", () =>
  inFolder((folder) => {
    const path = join(folder, "pipe");
    spawnSync("mkfifo", [path]);
    // Reading and writing, so that opening it does not wait for the other end.
    const reader = openSync(path, constants.O_RDWR);
    const messages: string[] = [];
    const log = openLog(path, messages);
    writeLines(log, 20000);
    log.sync();
    expect(messages.length).toBe(1);
    expect(messages[0]).toContain("its reader is too slow");
    closeSync(reader);
    log.sync();
    log.sync();
    log.close();
    expect(messages.length).toBe(2);
    expect(messages[1]).toContain("its reader is gone");
    expect(log.linesWritten + log.linesLost).toBe(20000);
  }),
);

/** Lines that end in a newline. */
function zcatOrText(path: string): string[] {
  const text = path.endsWith(".gz") ? zcat(path).text : readFileSync(path, "utf8");
  return text.split("\n").slice(0, -1);
}
