// `bun run install-native` and what it installs: a program that is built as the ancestor's README
// says, with nothing but the prefix, and measured with nothing of this folder.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync, chownSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { enter, makeNamespace } from "../lib/network.ts";
import { readLog } from "../lib/kqlog.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { isRoot, reason, testUnless } from "../lib/requires.ts";
import { withScope } from "../lib/process.ts";
import { Bench, BUILD_MS, canCompile, ROOT, SOURCES } from "./bench.ts";

const BUN = process.execPath;
const FILES = [
  "bin/kqtime", "include/kqtime.h", "lib/libkqtime-preload.so", "lib/libkqtime.so",
  "lib/pkgconfig/kqtime.pc",
];
/** A program that was written for libkqtime, and its configure script. */
const CONFIGURE = '#!/bin/sh\nset -e\n${CC:-cc} $CFLAGS -o program capi/*.c $LDFLAGS $LIBS\n';

describe.skipIf(!canCompile)("install-native", () => {
  let bench: Bench;
  let prefix: string;
  beforeAll(() => {
    bench = new Bench();
    prefix = join(bench.folder, "usr");
    chmodSync(bench.folder, 0o755);
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const install = (words: string[], env: Record<string, string> = {}) => {
    const child = Bun.spawnSync([BUN, "run", "install-native", ...words], {
      cwd: ROOT,
      env: { ...process.env, KQTIME_BUILD_DIR: bench.folder, KQTIME_DEBUG: "", ...env },
      stdout: "pipe",
      stderr: "pipe",
    });
    return { code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
  };

  test("--help tells what it does, and does nothing", () => {
    const { code, stdout, stderr } = install(["--help"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^usage: .* --prefix DIR \[--debug\]\n[^]*--debug  [^]*Exit codes:/);
    expect(existsSync(prefix)).toBe(false);
  });

  test("puts the files where programs look for them, and says so", () => {
    const { code, stdout, stderr } = install(["--prefix", prefix]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    for (const file of FILES) {
      expect(existsSync(join(prefix, file))).toBe(true);
      expect(stdout).toContain(`  ${join(prefix, file)}\n`);
    }
    expect(lstatSync(join(prefix, "include/kqtime.h")).mode & 0o777).toBe(0o644);
    // Once more, in the place of what is there.
    expect(install([`--prefix=${prefix}`]).code).toBe(0);
    expect(readdirSync(join(prefix, "lib")).sort()).toEqual([
      "kqtime", "libkqtime-preload.so", "libkqtime.so", "pkgconfig",
    ]);
    const version = Bun.spawnSync([join(prefix, "bin/kqtime"), "--version"], {
      cwd: "/", env: { PATH: "/usr/bin:/bin" },
    });
    expect(version.stdout.toString()).toMatch(/^kqtime \d/);
  }, 60_000);

  test("~ is the home; errors are one line", () => {
    expect(install(["--prefix=~/inst"], { HOME: bench.folder }).code).toBe(0);
    expect(existsSync(join(bench.folder, "inst/lib/libkqtime.so"))).toBe(true);
    writeFileSync(join(bench.folder, "file"), "");
    for (const [words, line] of [
      [[], /^install-native: usage: [^\n]*\n$/],
      [["--prefix"], /^install-native: usage: [^\n]*\n$/],
      [["--prefx", "x"], /^install-native: unknown argument --prefx[^\n]*\n$/],
      [["--prefix", "/tmp/a b"], /^install-native: [^\n]*without spaces and colons\n$/],
      [["--prefix", join(bench.folder, "file")], /^install-native: mkdir [^\n]* failed \(ENOTDIR\)\n$/],
    ] as [string[], RegExp][]) {
      const { code, stdout, stderr } = install(words);
      expect(stderr).toMatch(line);
      expect([code, stdout]).toEqual([1, ""]);
    }
  }, 60_000);

  testUnless(reason(!isRoot && "needs root"), "what root installs belongs to the folder's owner", () => {
    const home = join(bench.folder, "home");
    mkdirSync(home);
    chownSync(home, 65534, 65534);
    expect(install(["--prefix", join(home, ".local")]).code).toBe(0);
    for (const file of ["", "bin", "lib/kqtime/src", ...FILES]) {
      expect(lstatSync(join(home, ".local", file)).uid).toBe(65534);
    }
  }, 60_000);

  test("a debug build tells what it does", async () => {
    const folder = join(bench.folder, "debug");
    const env = { ...process.env, KQTIME_BUILD_DIR: folder, KQTIME_DEBUG: "1" };
    expect(Bun.spawnSync(["sh", join(ROOT, "tools", "build-native.sh")], { env }).exitCode).toBe(0);
    const ran = bench.run("names", { env: { LD_LIBRARY_PATH: folder } });
    expect(ran.code).toBe(0);
    expect(ran.stderr).toMatch(/^kqtime: debug: \d+: starting /m);
    expect(ran.stderr).toMatch(/^kqtime: debug: \d+: register fd \d+ as exactly sixteen\.: measured/m);
    await bench.ended();
  }, BUILD_MS);

  needsNamespaces("a program built with the prefix alone measures itself", async () => {
    await withScope(async (scope) => {
      const inside = enter(await makeNamespace(scope, "i"));
      for (const part of [...SOURCES, "program.h", "../preload/pair.h"]) {
        cpSync(join(ROOT, "test/capi", part), join(scope.path("capi"), part));
      }
      writeFileSync(scope.path("configure"), CONFIGURE, { mode: 0o755 });
      const ways: Record<string, string>[] = [
        { CFLAGS: `-w -I${prefix}/include`, LDFLAGS: `-L${prefix}/lib`, LIBS: "-lkqtime" },
        {
          CFLAGS: `-w ${pkgConfig("--cflags")}`, LIBS: pkgConfig("--libs"),
        },
      ];
      for (const [index, env] of ways.entries()) {
        await scope.run(["./configure"], { env: { ...process.env, ...env } });
        const log = scope.path(`${index}.gz`);
        const { stderr } = await scope.run(["./program", "names", log], {
          prefix: inside,
          env: {
            PATH: "/usr/bin:/bin",
            LD_LIBRARY_PATH: `${prefix}/lib`,
            LD_PRELOAD: `${prefix}/lib/libkqtime-preload.so`,
          },
        });
        expect(stderr).toBe("");
        expect(readLog(log, 0).calls).toHaveLength(6);
      }
    });
  }, { programs: ["cc", "nsenter", "pkg-config"], timeoutMs: 60_000 });

  function pkgConfig(flag: string): string {
    const PKG_CONFIG_PATH = `${prefix}/lib/pkgconfig`;
    const env = { ...process.env, PKG_CONFIG_PATH };
    const child = Bun.spawnSync(["pkg-config", flag, "kqtime"], { env });
    expect(child.exitCode).toBe(0);
    return child.stdout.toString().trim();
  }
});
