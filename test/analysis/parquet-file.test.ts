// What becomes of the file that `kqtime export` writes, and of the one that it replaces, when it is
// ended before its time, and with whom it may be replaced.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { ParquetFile } from "../../src/analysis/parquet-file.ts";
import { BUN, kqtime, ROOT } from "../lib/kqtime.ts";
import { Scope } from "../lib/process.ts";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";

const LINE = "KQTIME-OUT;start=1700000000.0,end=1700000000.5,fd=3,bytes=1;x;\n";
const OLD = "PAR1 of old";

let scope: Scope;
let log: string;
beforeAll(() => {
  scope = new Scope();
  log = scope.path("a.log");
  writeFileSync(log, LINE.repeat(10));
});
afterAll(() => scope.end());

/** A folder of its own with a Parquet file to replace. */
function target(name: string): string {
  mkdirSync(scope.path(name));
  const path = scope.path(`${name}/x.parquet`);
  writeFileSync(path, OLD);
  return path;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"] as const) {
  testUnless(reason(!isLinux && "needs Linux"), `${signal} leaves what was there, and nothing else`, async () => {
    const path = target(signal);
    const child = Bun.spawn([BUN, "run", "kqtime", "export", "--parquet", path], {
      cwd: ROOT, stdin: "pipe", stdout: "ignore", stderr: "pipe",
    });
    // Several row groups, and more than the pipe holds: when it is all taken, most of it was read.
    const text = LINE.repeat(200_000);
    child.stdin.write(text);
    await child.stdin.flush();
    child.kill(signal);
    await child.exited;
    // A shell's 128 + n.
    expect(child.signalCode).toBe(signal);
    expect(readdirSync(dirname(path))).toEqual(["x.parquet"]);
    expect(readFileSync(path, "latin1")).toBe(OLD);
  });
}

/** Has no files without names; nor can they be written, or renamed. */
const OTHER = "mqueue";
const noMounts = reason(
  !isLinux && "needs Linux",
  !isRoot && "needs root",
  lacks("unshare", "mount", "umount"),
  spawnSync("unshare", ["-m", "mount", "-t", OTHER, "none", "/mnt"]).status !== 0 &&
    `a file system of the kind ${OTHER} cannot be mounted`,
);

testUnless(noMounts, "on a file system without such files it has a name, which errors tell", () => {
  const folder = scope.path("named");
  mkdirSync(folder);
  expect(spawnSync("mount", ["-t", OTHER, "none", folder]).status).toBe(0);
  // The machine's own queues are in it too.
  const name = `${basename(scope.folder)}.parquet`;
  const found = () => readdirSync(folder).filter((each) => each.startsWith(name));
  const files: ParquetFile[] = [];
  try {
    const path = join(folder, name);
    for (let i = 0; i < 2; i++) files.push(new ParquetFile(path));
    const parts = found();
    expect(parts.length).toBe(2);
    for (const part of parts) expect(part.slice(name.length)).toMatch(/^\.part-[0-9a-f]{12}$/);
    for (const file of files) {
      const named = parts.map((part) => `"${path}" (as "${join(folder, part)}" until it is whole)`);
      let why = "";
      try {
        file.finish();
      } catch (error) {
        why = (error as Error).message;
      }
      expect(named).toContain(why.replace(/ cannot be written: .*/, ""));
      file.abandon();
    }
    expect(found()).toEqual([]);
  } finally {
    for (const file of files) file.abandon();
    for (const part of found()) rmSync(join(folder, part));
    expect(spawnSync("umount", [folder]).status).toBe(0);
  }
});

test("two at once do not meet, and nothing is seen of them", () => {
  const path = target("two");
  const files = [new ParquetFile(path), new ParquetFile(path)];
  if (isLinux) expect(readdirSync(dirname(path))).toEqual(["x.parquet"]);
  for (const [i, file] of files.entries()) {
    file.appendBytes(new TextEncoder().encode(`PAR1 ${i}`));
    file.finish();
    expect(readFileSync(path, "latin1")).toBe(`PAR1 ${i}`);
  }
  expect(readdirSync(dirname(path))).toEqual(["x.parquet"]);
});

testUnless(reason(!isRoot && "needs root"), "it belongs to whom the one that it replaces belonged", async () => {
  const path = target("owner");
  chownSync(path, 12345, 12346);
  chmodSync(path, 0o604);
  await kqtime(scope, ["export", "--parquet", path, log]).success();
  const { uid, gid, mode, size } = statSync(path);
  expect([uid, gid, mode & 0o777]).toEqual([12345, 12346, 0o604]);
  expect(size).toBeGreaterThan(OLD.length);
});

testUnless(isRoot ? reason(lacks("setpriv")) : null, "who may not write it does not replace it", async () => {
  const path = target("readonly");
  chmodSync(path, 0o444);
  // Into the folder it could be written.
  chmodSync(dirname(path), 0o777);
  chmodSync(scope.folder, 0o755);
  const prefix = isRoot ? ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"] : [];
  const words = [BUN, "run", `${ROOT}/kqtime.ts`, "export", "--parquet", path, log];
  const exit = await scope.start(words, { prefix }).exit();
  expect([exit.code, exit.stderr]).toEqual([
    125, `kqtime: "${path}" cannot be replaced: permission denied (EACCES): name another\n`,
  ]);
  expect(readFileSync(path, "latin1")).toBe(OLD);
});
