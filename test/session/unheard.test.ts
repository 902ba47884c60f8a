// Programs that start while nobody takes what is in the socket's queue: each is told, and none of them
// waits for long.

import { expect } from "bun:test";
import { closeSync, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { CountedFifo } from "../../src/ffi/fifo.ts";
import { SessionFolder } from "../../src/session/folder.ts";
import { fillQueue } from "../fuzz/memory.ts";
import { ROOT } from "../lib/kqtime.ts";
import { withScope } from "../lib/process.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";

/** As preload/lifetime.c. */
const WAIT_MS = 50;
const PROGRAMS = 20;

const why = reason(!isLinux && "needs Linux");

/** Runs a program in the session and returns how long it took, ms. */
function start(folder: SessionFolder, ...words: string[]): number {
  const env = {
    PATH: process.env.PATH!,
    LD_PRELOAD: join(ROOT, "build", "libkqtime-preload.so"),
    KQTIME_SESSION: folder.socket,
    KQTIME_TOKEN: folder.token,
  };
  const startMs = performance.now();
  const { success, stderr } = Bun.spawnSync(words, { env });
  expect([success, stderr.toString()]).toEqual([true, ""]);
  return performance.now() - startMs;
}

testUnless(why, "a program that finds the queue full leaves a word, and the next ones do not wait", () => {
  const folder = SessionFolder.make();
  const connections = fillQueue(folder.socket);
  try {
    expect(folder.unheard).toBe(0);
    expect(start(folder, "true")).toBeGreaterThan(WAIT_MS);
    // However slow the machine, one of them is faster than any that waits.
    const times = Array.from({ length: PROGRAMS }, () => start(folder, "true"));
    expect(Math.min(...times)).toBeLessThan(WAIT_MS);
    expect(folder.unheard).toBe(1 + PROGRAMS);
    // Once the words are read, a place may come free.
    expect(start(folder, "true")).toBeGreaterThan(WAIT_MS);
    expect(folder.unheard).toBe(2 + PROGRAMS);
  } finally {
    for (const connection of connections) closeSync(connection);
    folder.close();
  }
  // Nobody listens any more, and there is no folder.
  start(folder, "true");
});

testUnless(why, "words beyond what the pipe holds are not waited for; nobody else can read them", () =>
  withScope(async (scope) => {
    const umask = process.umask(0o077);
    const fifo = new CountedFifo(scope.path("fifo"));
    process.umask(umask);
    expect(statSync(fifo.path).mode & 0o777).toBe(0o622);
    // Twice as many as it holds; a write that waited would wait for ever.
    await scope.run(["dd", "if=/dev/zero", `of=${fifo.path}`, "bs=1", "count=131072", "oflag=nonblock", "conv=notrunc"])
      .catch(() => {});
    expect(fifo.count()).toBe(65_536);
    expect(fifo.count()).toBe(65_536);
    fifo.close();
    expect(fifo.count()).toBe(65_536);
    expect(existsSync(fifo.path)).toBe(true);
  }),
);
