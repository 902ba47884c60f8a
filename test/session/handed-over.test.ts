// Descriptors that a measured program hands over: none may let the collector wait.

import { expect, test } from "bun:test";
import { closeSync, constants, existsSync, fstatSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { closeForeign } from "../../src/ffi/libc.ts";
import { makeMemory, makePipe } from "../../src/ffi/descriptors.ts";
import { Log } from "../../src/output/log.ts";
import { fileSystemOf, whyNoLog, whyNoLogOn, writeToMemory } from "../../src/session/handed-over.ts";
import { until, withScope } from "../lib/process.ts";
import { isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { BASE_SEC, inFolder, readLines, writeLines } from "../output/log-lines.ts";
import { duplicate, lease, lingeringSocket, makeBlocking } from "./libc.ts";

/** Far from what a close or a write takes, and from what they would wait. */
const AT_ONCE_MS = 1500;
const LINGER_SEC = 4;
/** open(2): names a file without a question to it. */
const O_PATH = 0o10000000;
/** More than there are threads to close them. */
const SOCKETS = 64;

function timed(body: () => void): number {
  const startMs = performance.now();
  body();
  return performance.now() - startMs;
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

function adopt(fd: number, messages: string[] = []): Log {
  const onError = (message: string) => void messages.push(message);
  return Log.adopt(fd, "the log", false, { baseSec: BASE_SEC, onError });
}

test("a log is a regular file, /dev/null, /dev/full, or a pipe that does not block", () =>
  inFolder((folder) => {
    const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_NOCTTY } = constants;
    const why = (path: string, flags = O_WRONLY) => {
      const fd = openSync(path, flags | O_NOCTTY, 0o600);
      const result = whyNoLog(fd, process.pid);
      closeSync(fd);
      return result;
    };
    const file = join(folder, "file");
    expect(why(file, O_WRONLY | O_CREAT)).toBeNull();
    expect(why(file, O_RDONLY)).toBe("it is not open for writing");
    expect(why("/dev/null")).toBeNull();
    expect(why("/dev/full")).toBeNull();
    // A regular file, by its own account.
    expect(why("/proc/self/comm")).toBe("a log is a file or a pipe");
    expect(why("/dev/zero")).toBe("a log is a file or a pipe");
    // A terminal, whose writes wait while its output is stopped.
    expect(why("/dev/ptmx", O_RDWR)).toBe("a log is a file or a pipe");
    const { socket, listener } = lingeringSocket(0);
    expect(whyNoLog(socket, process.pid)).toBe("a log is a file or a pipe");
    closeSync(socket);
    closeSync(listener);
    const pipe = makePipe(4096);
    expect(whyNoLog(pipe.write, process.pid)).toBeNull();
    expect(whyNoLog(pipe.read, process.pid)).toBe("it is not open for writing");
    makeBlocking(pipe.write);
    expect(whyNoLog(pipe.write, process.pid)).toBe("the pipe may block: open it with O_NONBLOCK");
    closeSync(pipe.read);
    closeSync(pipe.write);
    expect(whyNoLog(1 << 20, process.pid)).toBe("it is not open for writing");
  }));

test("no log is on a file system that may not answer", () => {
  for (const type of [
    "fuse", "fuse.sshfs", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs",
    "gpfs", "beegfs", "vboxsf", "one-of-tomorrow",
  ]) {
    expect(whyNoLogOn(type)).toBe(
      `it is on a file system of the type ${type}, which may let the collector wait: take one on a local disk`,
    );
  }
  for (const type of ["proc", "sysfs", "cgroup2", "debugfs"]) {
    expect(whyNoLogOn(type)).toBe("a log is a file or a pipe");
  }
  for (const type of ["", "ext4", "xfs", "btrfs", "tmpfs", "devtmpfs", "devpts", "overlay", "zfs"]) {
    expect(whyNoLogOn(type)).toBeNull();
  }
});

const noFuse = reason(
  !isRoot && "needs root", !existsSync("/dev/fuse") && "needs /dev/fuse", lacks("unshare", "mount"),
);

testUnless(noFuse, "a file system's type is known without a question to it, in another namespace too", () =>
  withScope(async (scope) => {
    const folder = scope.path("mount");
    const held = scope.path("held");
    mkdirSync(folder);
    // Nobody answers for this one.
    const mount = `exec 3<>/dev/fuse; mount -i -t fuse none ${folder} -o fd=3,rootmode=40000,user_id=0,group_id=0`;
    const holder = scope.start(["unshare", "-m", "sh", "-c", `${mount} && echo mounted > ${held}; exec sleep 100`]);
    await until("mount", () => existsSync(held));
    const fd = openSync(`/proc/${holder.pid}/root${folder}`, O_PATH);
    expect(fileSystemOf(fd, holder.pid)).toBe("fuse");
    expect(fileSystemOf(fd, process.pid)).toBeNull();
    closeSync(fd);
  }), 30_000);

test("a pipe whose owner lets it block again does not", () => {
  const pipe = makePipe(4096);
  const handed = duplicate(pipe.write);
  const log = adopt(handed);
  makeBlocking(pipe.write);
  writeLines(log, 1000);
  // Lets a write go on that waits after all.
  const reader = Bun.spawn(["sh", "-c", "sleep 4; cat > /dev/null"], { stdin: pipe.read });
  expect(timed(() => log.sync())).toBeLessThan(AT_ONCE_MS);
  closeSync(pipe.write);
  expect(timed(() => log.close())).toBeLessThan(AT_ONCE_MS);
  expect(log.linesLost).toBeGreaterThan(0);
  expect(log.failure).toBe("its reader is too slow (EAGAIN)");
  reader.kill();
  closeSync(pipe.read);
});

test("closing sockets that linger does not wait, nor lets other closes wait", async () => {
  const sockets = Array.from({ length: SOCKETS }, () => lingeringSocket(LINGER_SEC));
  const pipe = makePipe(4096);
  const ms = timed(() => {
    for (const { socket } of sockets) closeForeign(socket);
    closeForeign(pipe.write);
  });
  expect(ms).toBeLessThan(AT_ONCE_MS);
  const startMs = performance.now();
  await until("the closes", () => !isOpen(pipe.write) && sockets.every(({ socket }) => !isOpen(socket)));
  expect(performance.now() - startMs).toBeLessThan((LINGER_SEC * 1000) / 2);
  for (const { listener } of sockets) closeSync(listener);
  closeSync(pipe.read);
});

test("a log under a lease is not waited for", () =>
  inFolder(async (folder) => {
    const path = join(folder, "a.log");
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o600);
    // One that can be looked at is: something stands in it.
    const first = adopt(duplicate(fd));
    writeLines(first, 1);
    first.close();
    const handed = openSync(path, constants.O_WRONLY | constants.O_APPEND);
    closeSync(fd);
    await until("the close of the first one", () => holders(path) === 1);
    lease(handed);
    let log: Log | null = null;
    expect(timed(() => (log = adopt(handed)))).toBeLessThan(AT_ONCE_MS);
    writeLines(log!, 1, 1);
    log!.close();
    expect(readLines(path).length).toBe(2);
  }));

/** Descriptors of this process for a file. */
function holders(path: string): number {
  const { ino } = statSync(path);
  let count = 0;
  for (let fd = 0; fd < 200; fd++) {
    try {
      if (fstatSync(fd).ino === ino) count++;
    } catch {
      // It is closed.
    }
  }
  return count;
}

test("a snapshot is written to memory, and nowhere else", () => {
  const memory = makeMemory("kqtime-test");
  expect(writeToMemory(memory, "text")).toBeNull();
  expect(readFileSync(`/proc/self/fd/${memory}`, "utf8")).toBe("text");
  closeSync(memory);
  const pipe = makePipe(4096);
  expect(writeToMemory(pipe.write, "text")).toMatch(/is written to memory/);
  expect(writeToMemory(-1, "text")).toMatch(/is written to memory/);
  closeSync(pipe.read);
  closeSync(pipe.write);
});
