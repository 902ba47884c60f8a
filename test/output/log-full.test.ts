// A full disk: told once, counted, and over when there is room again. The disk is a tmpfs of 1 MiB.

import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { inFolder, offsets, openLog, readLines, writeLines, zcat } from "./log-lines.ts";

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

/** Runs `body` with a file system of 1 MiB of which `used` bytes are taken by a file "ballast". */
async function onSmallDisk(used: number, body: (disk: string) => void): Promise<void> {
  await inFolder((folder) => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]);
    expect(mounted.status).toBe(0);
    try {
      writeFileSync(join(disk, "ballast"), Buffer.alloc(used));
      body(disk);
    } finally {
      spawnSync("umount", [disk]);
    }
  });
}

for (const name of ["a.log", "a.log.gz"]) {
  testUnless(why, `${name} on a full disk: told once, counted, whole again with room`, () =>
    onSmallDisk(800 * 1024, (disk) => {
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
      expect(found.every((off, i) => Number.isInteger(off) && (i === 0 || off > found[i - 1]!))).toBe(true);
      expect(found.slice(-500)[0]).toBe(given);
      if (name.endsWith(".gz")) expect(zcat(path).status).toBe(0);
    }),
  );

  testUnless(why, `${name} on a disk that stays full: closed without a word more, all counted`, () =>
    onSmallDisk(900 * 1024, (disk) => {
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

/** Lines that end in a newline. */
function zcatOrText(path: string): string[] {
  const text = path.endsWith(".gz") ? zcat(path).text : spawnSync("cat", [path], { encoding: "utf8" }).stdout;
  return text.split("\n").slice(0, -1);
}
