// A log into a pipe whose reader is slow: it is waited for, and nothing is lost.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";

/** More than a pipe holds (64 KiB, pipe(7)). */
const LINES = 1000;
const LATE_LINES = 8;

test("lines that come while a slow reader is behind reach it at the end", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-pipe-"));
  try {
    const path = join(folder, "fifo");
    expect(Bun.spawnSync(["mkfifo", path]).exitCode).toBe(0);
    // The reader opens at once and reads when it is told to.
    const reader = Bun.spawn(["sh", "-c", `exec 3< "$1"; echo open; sleep 0.3; wc -l <&3`, "sh", path], {
      stdout: "pipe",
    });
    const errors: string[] = [];
    let log: Log | null = null;
    while (log === null) {
      try {
        log = Log.open(path, { baseSec: 0, onError: (message) => errors.push(message) });
      } catch {
        // Without a reader the pipe cannot be opened yet (ENXIO).
        await Bun.sleep(1);
      }
    }
    const name = encodeName("out:1");
    const line = (i: number) => log.call(0, i, i + 1, i + 1, 0, 1, i, 1, 1, 1, 1, 1, name);
    for (let i = 0; i < LINES; i++) line(i);
    log.sync();
    for (let i = 0; i < LATE_LINES; i++) line(LINES + i);
    log.close();
    const text = await new Response(reader.stdout).text();
    expect(text.split("\n")[1]!.trim()).toBe(String(LINES + LATE_LINES));
    expect(log.linesLost).toBe(0);
    expect(errors).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
