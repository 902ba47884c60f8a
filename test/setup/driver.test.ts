// tools/test.ts on trees of a few small tests.

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseJunit } from "../../tools/junit.ts";
import { copyParts, runProgram, temporaryFolder } from "./folder.ts";

const head = 'import { describe, expect, test } from "bun:test";\n';

function drive(files: Record<string, string>, env: Record<string, string>, ...filters: string[]) {
  const folder = temporaryFolder();
  copyParts(folder, "tools/test.ts", "tools/junit.ts");
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), head + text);
  }
  const ended = runProgram([process.execPath, join(folder, "tools", "test.ts"), ...filters], {
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
  });
  const lines = ended.stdout.trimEnd().split("\n");
  return { ...ended, last: lines.at(-1)!, lines };
}

test("counts what passes and what is skipped, with the reason", () => {
  const files = {
    "test/a.test.ts": 'test("one", () => {}); test.skip("two [needs luck]", () => {});',
    "test/e2e/b.test.ts": 'describe("group", () => { test("three", () => {}); test.todo("four"); });',
  };
  const plain = drive(files, {}, "test/");
  expect(plain.last).toBe("2 passed, 0 failed, 2 skipped");
  expect(plain.lines).toContain("skipped test/a.test.ts: two: needs luck");
  expect(plain.lines).toContain("skipped test/e2e/b.test.ts: group > four: todo");
  expect(plain.code).toBe(0);
  expect(drive(files, { CI: "true" }, "test/").code).toBe(1);
  expect(drive(files, { CI: "true" }, "none of this").code).toBe(2);
});

test("filters take files by a part of their path", () => {
  const files = { "test/a.test.ts": 'test("one", () => {});', "test/b.test.ts": 'test("two");' };
  const { last, code } = drive(files, { CI: "true" }, "./test/a");
  expect(last).toBe("1 passed, 0 failed, 0 skipped");
  expect(code).toBe(0);
});

test("a failing test fails the run, and shows what it printed", () => {
  const files = {
    "test/a.test.ts":
      'test("one", () => {}); test("two", () => { console.log("so far"); expect(1).toBe(2); });',
  };
  const { last, code, stdout } = drive(files, {}, "test/");
  expect(last).toBe("1 passed, 1 failed, 0 skipped");
  expect(stdout).toContain("| so far");
  expect(code).toBe(1);
});

test("a crash, a throw outside of tests, an empty file and a hang each fail one file", () => {
  const files = {
    "test/crash.test.ts": 'test("dies", () => { process.kill(process.pid, "SIGKILL"); });',
    "test/empty.test.ts": "expect(1).toBe(1);",
    "test/fine.test.ts": 'test("one", () => {});',
    "test/hang.test.ts": 'test("hangs", () => { for (;;) {} });',
    "test/throw.test.ts": 'test("one", () => {}); throw new Error("outside");',
  };
  const { last, code, stdout } = drive(files, { KQTIME_TEST_TIMEOUT_S: "3" }, "test/");
  expect(stdout).toContain("ok   test/fine.test.ts 1 passed");
  for (const name of ["crash", "empty", "hang", "throw"]) {
    expect(stdout).toContain(`FAIL test/${name}.test.ts`);
  }
  expect(stdout).toContain("not finished after 3 s, killed");
  expect(last).toMatch(/^\d passed, 4 failed, 0 skipped$/);
  expect(code).toBe(1);
});

test("what a test left running does not hold the run", () => {
  const files = {
    "test/leave.test.ts":
      'test("leaves", () => { Bun.spawn(["sleep", "600"], { stdout: "inherit" }).unref(); });',
  };
  const startedMs = performance.now();
  const { last } = drive(files, { KQTIME_TEST_TIMEOUT_S: "60" }, "test/");
  expect(last).toBe("1 passed, 0 failed, 0 skipped");
  expect(performance.now() - startedMs).toBeLessThan(20_000);
});

test("tests do not see who called sudo, or a session", () => {
  const files = {
    "test/a.test.ts": `test("env", () => {
      const stray = Object.keys(process.env).filter((key) => /^(SUDO_|KQTIME_S|npm_)/.test(key));
      expect(stray).toEqual([]);
    });`,
  };
  const env = { SUDO_UID: "7", SUDO_USER: "x", KQTIME_SESSION: "/nowhere", npm_config_x: "y" };
  expect(drive(files, env, "test/").last).toBe("1 passed, 0 failed, 0 skipped");
});

test("reads names with escaped characters from reports", () => {
  const xml =
    '<testcase name="a &lt;b&gt; &quot;c&quot; &#10;&#x41;" classname="in &gt; out" time="0.5" />' +
    '<testcase name="d" classname=""><failure type="E" message="x"/></testcase>';
  expect(parseJunit(xml)).toEqual([
    { name: 'out > in > a <b> "c" \nA', outcome: "passed", seconds: 0.5, reason: "" },
    { name: "d", outcome: "failed", seconds: 0, reason: "" },
  ]);
});
