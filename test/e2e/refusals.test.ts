// What cannot be measured is not started, and the one line that says so names the remedy; what
// shows only later is warned of in the summary.

import { expect, test } from "bun:test";
import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { e2e } from "../lib/e2e.ts";
import { BARE, kqtime, ROOT, type Summary } from "../lib/kqtime.ts";
import { withLoopback, type Node } from "../lib/network.ts";
import type { Exit, Scope } from "../lib/process.ts";

const NOBODY = 65534;
/** Says that it ran, so that a test sees whether the target was started. */
const SOURCE = `#include <stdio.h>\nint main(void) { puts("started"); return 7; }\n`;

function refusal(name: string, body: (node: Node, scope: Scope) => Promise<void>): void {
  if (BARE) test.skip(`${name} [skipped: it is about kqtime itself]`, () => {});
  else e2e(name, () => withLoopback(body), 60_000);
}

function run(
  scope: Scope,
  node: Node,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<Exit> {
  return kqtime(scope, ["run", "--quiet", ...words], {
    prefix: node.prefix,
    env: { ...process.env, ...env } as Record<string, string>,
  }).exit();
}

async function compile(scope: Scope, name: string, flags: readonly string[]): Promise<string> {
  const source = scope.path(`${name}.c`);
  writeFileSync(source, SOURCE);
  const program = scope.path(name);
  await scope.start(["cc", ...flags, source, "-o", program]).success();
  return program;
}

function expectRefusal(exit: Exit, ...patterns: RegExp[]): void {
  expect(exit).toMatchObject({ code: 125, stdout: "" });
  for (const pattern of patterns) expect(exit.stderr).toMatch(pattern);
  expect(exit.stderr.trim().split("\n")).toHaveLength(1);
}

async function warningsOf(scope: Scope, node: Node, command: readonly string[], options: string[] = []) {
  const json = scope.path("summary.json");
  const exit = await run(scope, node, ["--json", json, ...options, "--", ...command]);
  const summary = JSON.parse(readFileSync(json, "utf8")) as Summary & { warnings: string[] };
  return { exit, warnings: summary.warnings.join("\n") };
}

refusal("a static program", async (node, scope) => {
  const program = await compile(scope, "static", ["-static"]);
  expectRefusal(await run(scope, node, ["--", program]), /statically linked/, /--anyway/);
  const anyway = await run(scope, node, ["--anyway", "--", program]);
  expect(anyway).toMatchObject({ code: 7, stdout: "started\n" });
  expect(anyway.stderr).toMatch(/statically linked/);
});

refusal("a script whose interpreter is static", async (node, scope) => {
  const program = await compile(scope, "interpreter", ["-static"]);
  const script = scope.path("script");
  writeFileSync(script, `#!${program}\n`);
  chmodSync(script, 0o755);
  expectRefusal(await run(scope, node, ["--", script]), /statically linked/);
});

refusal("a setuid program", async (node, scope) => {
  const program = await compile(scope, "setuid", []);
  chownSync(program, NOBODY, NOBODY);
  chmodSync(program, 0o4755);
  expectRefusal(await run(scope, node, ["--", program]), /setuid/, /owner/);
});

refusal("a program for musl, and one for another architecture", async (node, scope) => {
  const musl = await compile(scope, "musl", ["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
  expectRefusal(await run(scope, node, ["--", musl]), /musl/);
  const foreign = await compile(scope, "foreign", []);
  const bytes = readFileSync(foreign);
  bytes.writeUInt16LE(8, 18); // EM_MIPS
  writeFileSync(foreign, bytes);
  expectRefusal(await run(scope, node, ["--", foreign]), /architecture/);
});

refusal("no libpcap, no libz", async (node, scope) => {
  const program = await compile(scope, "plain", []);
  const noPcap = { KQTIME_LIBPCAP: "/nonexistent/libpcap.so" };
  expectRefusal(await run(scope, node, ["--", program], noPcap), /libpcap/, /nonexistent/);
  const noZ = { KQTIME_LIBZ: "/nonexistent/libz.so" };
  const words = ["--log", scope.path("x.log.gz"), "--", program];
  expectRefusal(await run(scope, node, words, noZ), /libz|zlib/);
  // With --anyway the program runs, and is not measured.
  const anyway = await run(scope, node, ["--anyway", "--", program], noPcap);
  expect(anyway).toMatchObject({ code: 7, stdout: "started\n" });
  expect(anyway.stderr).toMatch(/without measuring/);
});

refusal("a preload library that the user cannot read", async (node, scope) => {
  const folder = scope.path("private");
  mkdirSync(folder);
  const preload = join(folder, "libkqtime-preload.so");
  copyFileSync(join(ROOT, "build", "libkqtime-preload.so"), preload);
  chmodSync(preload, 0o600);
  chmodSync(folder, 0o700);
  const exit = await run(scope, node, ["--user", "nobody", "--", "true"], { KQTIME_PRELOAD: preload });
  expectRefusal(exit, /cannot read/, /libkqtime-preload\.so/);
});

refusal("a build that is not there", async (node, scope) => {
  const exit = await run(scope, node, ["--", "true"], { KQTIME_PRELOAD: scope.path("none.so") });
  expectRefusal(exit, /not built/, /npm run setup/);
});

refusal("no memory for the ring", async (node, scope) => {
  const { exit, warnings } = await warningsOf(scope, node, ["sh", "-c", "ulimit -f 100; exec true"]);
  expect(exit.code).toBe(0);
  expect(warnings).toMatch(/no memory for a ring/);
  expect(warnings).toMatch(/--ring/);
});

refusal("a program in another network namespace", async (node, scope) => {
  const { exit, warnings } = await warningsOf(scope, node, ["unshare", "--net", "true"]);
  expect(exit.code).toBe(0);
  expect(warnings).toMatch(/another network namespace/);
  expect(warnings).toMatch(/ip netns exec/);
});

refusal("a command whose environment is cleared", async (node, scope) => {
  const program = await compile(scope, "static", ["-static"]);
  const { exit, warnings } = await warningsOf(scope, node, [program], ["--anyway"]);
  expect(exit.code).toBe(7);
  expect(warnings).toMatch(/no process loaded the preload library/);
});
