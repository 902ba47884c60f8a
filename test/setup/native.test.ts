// tools/build-native.sh: this machine's compiler and headers find nothing to warn of, and if they do,
// kqtime is built all the same.

import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isLinux, lacks, reason, testUnless } from "../lib/requires.ts";
import { copyParts, root, runProgram, temporaryFolder } from "./folder.ts";

const why = reason(!isLinux && "needs Linux", lacks(process.env["CC"] ?? "cc"));

function build(folder: string, cflags: string) {
  const env = { ...process.env, KQTIME_BUILD_DIR: join(temporaryFolder(), "build"), CFLAGS: cflags };
  return runProgram(["sh", join(folder, "tools", "build-native.sh")], { env });
}

testUnless(why, "the C parts build without a warning", () => {
  expect(build(root, "-Werror")).toEqual({ code: 0, stdout: "", stderr: "" });
}, 60_000);

testUnless(why, "a warning is shown and does not end the build", () => {
  const folder = temporaryFolder();
  copyParts(folder, "c", "preload", "tools/build-native.sh");
  const source = join(folder, "c", "launch.c");
  writeFileSync(source, `${readFileSync(source, "utf8")}\nstatic int unused_by_all;\n`);
  expect(build(folder, "-Werror").code).toBe(1);
  const { code, stderr } = build(folder, "");
  expect(stderr).toContain("unused_by_all");
  expect(code).toBe(0);
}, 60_000);
