// Which processes of a command are told as not measured: those that run without the library, and
// none that has not come so far yet, however slow the machine.

import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Bystanders } from "../../src/session/bystanders.ts";
import { SessionFolder } from "../../src/session/folder.ts";
import { fillQueue } from "../fuzz/memory.ts";
import { ROOT } from "../lib/kqtime.ts";
import { childrenOf, Scope, until, withScope } from "../lib/process.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";

const why = reason(!isLinux && "needs /proc");

function start(scope: Scope, ...argv: string[]): number {
  return scope.start(argv).pid;
}

const mapsOf = (pid: number) => readFileSync(`/proc/${pid}/maps`, "latin1");

/** Looks as a session does, for so long. */
function lookFor(bystanders: Bystanders, pid: number, fromMs: number, ms: number): string | null {
  for (let atMs = fromMs; atMs <= fromMs + ms; atMs += 50) bystanders.look(pid, atMs);
  return bystanders.warnings().join("\n") || null;
}

const PRELOAD = join(ROOT, "build", "libkqtime-preload.so");

testUnless(why, "a program without the library is told by its name, once it lasts", () =>
  withScope(async (scope) => {
    const pid = start(scope, "sleep", "60");
    await until("a program that runs", () => /\/libc[.-]/.test(mapsOf(pid)));
    const bystanders = new Bystanders();
    expect(lookFor(bystanders, pid, 0, 50)).toBeNull();
    expect(lookFor(bystanders, pid, 100, 1000)).toMatch(/^1 process of the command .*\(sleep\)/);
    expect(lookFor(bystanders, pid, 1100, 5000)).toMatch(/^1 process /);
  }),
);

testUnless(why, "a program that is still being loaded is not told", () =>
  withScope(async (scope) => {
    const pipe = scope.path("pipe");
    await scope.run(["mkfifo", pipe]);
    // The loader waits at the pipe's opening.
    const pid = start(scope, "env", `LD_PRELOAD=${pipe}`, "sleep", "60");
    const isLoading = () => !/\/libc[.-]/.test(mapsOf(pid)) && /\/ld-linux/.test(mapsOf(pid));
    await until("a loader", () => mapsOf(pid).includes("/sleep") && isLoading());
    const bystanders = new Bystanders();
    expect(lookFor(bystanders, pid, 0, 1900)).toBeNull();
    closeSync(openSync(pipe, "w"));
    await until("a program that runs", () => /\/libc[.-]/.test(mapsOf(pid)));
    expect(lookFor(bystanders, pid, 1900, 200)).toMatch(/\(sleep\)/);
  }),
);

testUnless(why, "a program that the library is in, and that cannot reach the session, is told at once", () =>
  withScope(async (scope) => {
    const socket = scope.path("none/socket");
    const session = ["env", `LD_PRELOAD=${PRELOAD}`, `KQTIME_SESSION=${socket}`, `KQTIME_TOKEN=${"0".repeat(32)}`];
    // As in another mount namespace or a chroot.
    const pid = start(scope, ...session, "sh", "-c", "sleep 60 & wait");
    const child = () => childrenOf(pid)[0];
    const isMarked = (maps: string) => maps.includes("/sleep") && /r--s .*libkqtime-preload/.test(maps);
    await until("a child", () => child() !== undefined && isMarked(mapsOf(child()!)));
    const bystanders = new Bystanders();
    expect(lookFor(bystanders, pid, 0, 1900)).toMatch(/^2 processes of .* not reach kqtime \(sh, sleep\)/);
    // Those who left a word are counted by the session.
    const folder = SessionFolder.make();
    try {
      const connections = fillQueue(folder.socket);
      const known = [...session.slice(0, 2), `KQTIME_SESSION=${folder.socket}`, `KQTIME_TOKEN=${folder.token}`];
      const heard = start(scope, ...known, "sleep", "60");
      await until("a word", () => folder.unheard > 0);
      await until("a program that runs", () => /---s .*libkqtime-preload/.test(mapsOf(heard)));
      expect(lookFor(new Bystanders(), heard, 0, 5000)).toBeNull();
      for (const connection of connections) closeSync(connection);
    } finally {
      folder.close();
    }
  }),
);

testUnless(why, "a program that another thread than the first has started is told", () =>
  withScope(async (scope) => {
    const script = "import subprocess, threading\n" +
      "threading.Thread(target=lambda: subprocess.run(['sleep', '5'])).start()";
    const pid = start(scope, "python3", "-c", script);
    const bystanders = new Bystanders();
    await until("a warning", () => {
      bystanders.look(pid, performance.now());
      return bystanders.warnings().join().includes("sleep");
    });
  }), 20_000);

test("nobody is told of before there is somebody", () => {
  expect(new Bystanders().warnings()).toEqual([]);
});
