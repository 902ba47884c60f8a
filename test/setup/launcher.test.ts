// bin/kqtime finds its package and Bun from anywhere, and takes nothing from where it is started.

import { beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { copyParts, runProgram, temporaryFolder, writeProgram } from "./folder.ts";

const folder = temporaryFolder();
const kqtime = join(folder, "kq", "bin", "kqtime");
const shortPath = { PATH: "/usr/bin:/bin" };

beforeAll(() => {
  const kq = join(folder, "kq");
  copyParts(kq, "bin/kqtime", "bunfig.toml", "tsconfig.json");
  mkdirSync(join(kq, "node_modules", ".bin"), { recursive: true });
  cpSync(process.execPath, join(kq, "node_modules", ".bin", "bun"));
  writeFileSync(
    join(kq, "kqtime.ts"),
    `console.log(JSON.stringify({ pid: process.pid, cwd: process.cwd(), argv: process.argv.slice(2),
      nofile: process.env.KQTIME_NOFILE, stray: process.env.STRAY ?? null, bun: process.execPath }));
    process.exit(process.argv.includes("seven") ? 7 : 0);`,
  );
});

function answer(argv: string[], options: Parameters<typeof runProgram>[1] = {}) {
  const ended = runProgram(argv, { env: shortPath, ...options });
  expect(ended.stderr).toBe("");
  return JSON.parse(ended.stdout);
}

describe("bin/kqtime", () => {
  test("hands its arguments on, from any folder, with a short PATH", () => {
    const said = answer([kqtime, "run", "--x", "-v", "--", "a b", ""], { cwd: "/usr" });
    expect(said.argv).toEqual(["run", "--x", "-v", "--", "a b", ""]);
    expect(said.cwd).toBe("/usr");
    expect(said.bun).toStartWith(folder);
  });

  test("passes the exit code on", () => {
    expect(runProgram([kqtime, "seven"], { env: shortPath }).code).toBe(7);
  });

  test("is reached through symbolic links, relative ones too", () => {
    mkdirSync(join(folder, "a", "b"), { recursive: true });
    symlinkSync("../../kq/bin/kqtime", join(folder, "a", "b", "kqtime"));
    symlinkSync("a/b/kqtime", join(folder, "link"));
    expect(answer([join(folder, "link"), "x"]).argv).toEqual(["x"]);
    expect(answer(["./link", "x"], { cwd: folder }).argv).toEqual(["x"]);
    const env = { PATH: `${join(folder, "a", "b")}:/usr/bin:/bin` };
    expect(answer(["sh", "-c", "kqtime x"], { env }).argv).toEqual(["x"]);
    expect(answer(["sh", "kqtime", "x"], { cwd: join(folder, "kq", "bin") }).argv).toEqual(["x"]);
  });

  test("is one process", () => {
    const { stdout } = runProgram(["sh", "-c", `echo $$; exec ${kqtime}`], { env: shortPath });
    const [pid, said] = stdout.trim().split("\n");
    expect(JSON.parse(said!).pid).toBe(Number(pid));
  });

  test("tells the limits of open files that it was started with", () => {
    const limits = "ulimit -Sn 512; ulimit -Hn 4096;";
    expect(answer(["sh", "-c", `${limits} exec ${kqtime}`]).nofile).toBe("512:4096");
    const env = { ...shortPath, KQTIME_NOFILE: "1:2" };
    expect(answer(["sh", "-c", `${limits} exec ${kqtime}`], { env }).nofile).toBe("512:4096");
  });

  test("says what it needs where too few files may be open", () => {
    for (const limit of [12, 23]) {
      const ended = runProgram(["sh", "-c", `ulimit -n ${limit}; exec ${kqtime}`], { env: shortPath });
      const why = `only ${limit} files may be open at a time: raise \`ulimit -n\` to 24 or more`;
      expect(ended).toEqual({ code: 125, stdout: "", stderr: `kqtime: ${why}\n` });
    }
    // A soft limit is no obstacle.
    expect(answer(["sh", "-c", `ulimit -Sn 12; exec ${kqtime}`]).nofile).toStartWith("12:");
  });

  test("takes no settings from the folder where it is started", () => {
    const cwd = join(folder, "stray");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(cwd, "preload.ts"), 'console.log("code of the folder ran");\n');
    writeFileSync(join(cwd, ".env"), "STRAY=1\n");
    writeFileSync(join(cwd, "tsconfig.json"), '{"compilerOptions":{"paths":{"*":["./preload.ts"]}}}');
    expect(answer([kqtime], { cwd }).stray).toBeNull();
  });

  test("KQTIME_BUN names another Bun", () => {
    const other = join(folder, "other bun");
    writeProgram(other, '#!/bin/sh\necho "other"\n');
    const env = { ...shortPath, KQTIME_BUN: other };
    expect(runProgram([kqtime], { env }).stdout).toBe("other\n");
    const wrong = runProgram([kqtime], { env: { ...shortPath, KQTIME_BUN: "/nonexistent/bun" } });
    expect(wrong.code).toBe(125);
    expect(wrong.stderr).toBe("kqtime: KQTIME_BUN=/nonexistent/bun cannot be run\n");
  });

  test("finds Bun beside it, on PATH and in homes, and else says what to do", () => {
    const bare = join(folder, "bare", "node_modules", "kqtime");
    copyParts(bare, "bin/kqtime", "bunfig.toml", "tsconfig.json");
    const start = join(bare, "bin", "kqtime");
    const home = join(folder, "home");
    mkdirSync(home);
    const env: Record<string, string> = { PATH: "/usr/bin:/bin", HOME: home };
    // Bun may be installed for the whole machine; then there is nothing to miss.
    if (Bun.which("bun", { PATH: env["PATH"]! }) === null) {
      const none = runProgram([start], { env });
      expect(none.code).toBe(125);
      expect(none.stderr.split("\n")).toHaveLength(2);
      expect(none.stderr).toContain("npm install bun");
    }
    cpSync(join(folder, "kq", "kqtime.ts"), join(bare, "kqtime.ts"));
    const bun = process.execPath;
    const places: [string, Record<string, string>][] = [
      [join(home, ".bun", "bin", "bun"), env],
      [join(folder, "onpath", "bun"), { ...env, PATH: `${join(folder, "onpath")}:/usr/bin:/bin` }],
      [join(folder, "bare", "node_modules", ".bin", "bun"), env],
    ];
    for (const [place, environment] of places) {
      mkdirSync(join(place, ".."), { recursive: true });
      symlinkSync(bun, place);
      expect(runProgram([start, "seven"], { env: environment }).code, place).toBe(7);
    }
  });

  test("passes over the text that npm leaves where Bun's install script did not run", () => {
    const kq = join(folder, "unfinished");
    copyParts(kq, "bin/kqtime", "bunfig.toml", "tsconfig.json");
    cpSync(join(folder, "kq", "kqtime.ts"), join(kq, "kqtime.ts"));
    writeProgram(join(kq, "node_modules", ".bin", "bun"), "echo not installed >&2\nexit 1\n");
    mkdirSync(join(kq, "node_modules", "@oven", "bun-here", "bin"), { recursive: true });
    symlinkSync(process.execPath, join(kq, "node_modules", "@oven", "bun-here", "bin", "bun"));
    expect(answer([join(kq, "bin", "kqtime"), "x"]).argv).toEqual(["x"]);
  });

  testUnless(reason(!isRoot && "needs root", lacks("sudo")), "works under sudo", () => {
    const said = answer(["sudo", "-n", kqtime, "x"]);
    expect(said.argv).toEqual(["x"]);
  });
});
