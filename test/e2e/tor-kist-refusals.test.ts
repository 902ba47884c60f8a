// What the comparison of schedulers cannot start with it says at once, in one line, and not after
// minutes; and it is not gone before what it has started.

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { HELP, parse } from "../../examples/tor-kist/options.ts";
import { e2e } from "../lib/e2e.ts";
import { ROOT } from "../lib/kqtime.ts";
import { until, withScope, type Scope } from "../lib/process.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";

/** As in the documents. */
const KIST = [process.execPath, "run", "kist"];

function kist(scope: Scope, ...words: string[]) {
  return scope.start([...KIST, ...words], { cwd: ROOT }).exit(10_000);
}

const refused: [string, string[], RegExp][] = [
  ["a scheduler that Tor does not have", ["KIST", "Kiss"], /"Kiss" is no scheduler \(Vanilla, KIST, KISTLite\)/],
  ["a list of schedulers", ["KIST,Vanilla"], /is no scheduler/],
  ["an option without its value in torrc lines", ["Schedulers KIST;Nickname"], /nor torrc lines/],
  ["nothing but separators", [";"], /is no scheduler/],
  ["a rate of nothing", ["--rate", "0mbit"], /--rate takes/],
  ["a rate without a unit of tc", ["--rate", "40furlongs"], /--rate takes .*, not "40furlongs"/],
  ["no number", ["--runs", "many"], /--runs takes a whole number/],
  ["no value", ["--json", "--quick"], /--json needs a value/],
  ["an unknown option", ["--fast"], /unknown option --fast/],
  ["a file in no folder", ["--json", "/nowhere/kist.json"], /\/nowhere\/kist.json cannot be written \(ENOENT\)/],
  ["a folder for a file", ["--json", ROOT], /cannot be written \(EISDIR\)/],
];

describe("refused at the start, exit code 2", () => {
  for (const [name, words, message] of refused) {
    test(name, async () => {
      await withScope(async (scope) => {
        const { code, stdout, stderr } = await kist(scope, ...words);
        expect(stderr).toMatch(message);
        expect(stderr).toMatch(/^kist: .*\n$/);
        expect([code, stdout]).toEqual([2, ""]);
      });
    });
  }

  e2e("torrc lines that Tor refuses", async () => {
    await withScope(async (scope) => {
      const { code, stderr } = await kist(scope, "KISTSchedRunInterval 2 parsecs");
      expect(stderr).toMatch(/^kist: Tor refuses "KISTSchedRunInterval 2 parsecs": .*Unknown unit.*\n$/);
      expect(code).toBe(2);
    });
  }, 20_000, ["tor", "tor-gencert"]);
});

test("what is understood", () => {
  const options = parse(["kistlite", "Schedulers KIST; KISTSockBufSizeFactor 0.5;", "--rate", "1.5Gbit"])!;
  expect(options.rate).toBe("1.5Gbit");
  expect(options.variants.map(({ torrc }) => torrc)).toEqual([
    ["Schedulers KISTLite"], ["Schedulers KIST", "KISTSockBufSizeFactor 0.5"],
  ]);
});

test("--json leaves no empty file, and what is in one", async () => {
  await withScope(async (scope) => {
    const path = scope.path("kist.json");
    parse(["--json", path]);
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, "before");
    parse(["--json", path]);
    expect(readFileSync(path, "utf8")).toBe("before");
    expect(statSync(path).size).toBe(6);
  });
});

testUnless(reason(!isLinux && "needs Linux"), "--help has all options, exit code 0", async () => {
  await withScope(async (scope) => {
    const { code, stdout, stderr } = await kist(scope, "--runs", "x", "--help");
    expect([code, stdout, stderr]).toEqual([0, `${HELP}\n`, ""]);
  });
  const read = readFileSync(`${ROOT}/examples/tor-kist/options.ts`, "utf8");
  for (const [, option] of read.matchAll(/word === "(--\w+)"/g)) expect(HELP).toContain(`\n  ${option} `);
});

e2e("Ctrl-C, twice: ends after its namespaces, exit code 130", async () => {
  await withScope(async (scope) => {
    // A process group of its own, which a terminal's Ctrl-C reaches as a whole.
    const running = scope.start(["setsid", ...KIST, "--quick"], { cwd: ROOT });
    const own = () => readdirSync("/run/netns").filter((name) => name.startsWith(`kqlab${running.pid}x`));
    await until("namespaces", () => existsSync("/run/netns") && own().length >= 7);
    process.kill(-running.pid, "SIGINT");
    await running.says(/ending what it started/);
    if (!running.ended) process.kill(-running.pid, "SIGINT");
    const { code, stderr } = await running.exit(20_000);
    expect(own()).toEqual([]);
    expect(stderr).toBe("starting a private network of 6 Tors\nkist: ending what it started\n");
    expect(code).toBe(130);
  });
}, 40_000, ["tor", "tor-gencert", "setsid"]);
