// Every libc entry that the library hooks, called well and badly: what a program sees of it is the
// same without the library, with it, and while it measures.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { testUnless } from "../lib/requires.ts";
import { BUILD_MS, Bench, canCompile, LOSS, type Entry } from "../preload/ringdump.ts";

const FAMILIES = ["out", "in", "messages", "birth", "accept", "death", "options"];
const HOOKS = join(import.meta.dir, "../../preload/hooks_syscall.c");
/** Children that a fortified entry ends: their last calls stay known as under way. */
const ENDED_IN_A_CALL: Record<string, number> = { in: 3 };
const CASES_MS = 120_000;

interface Lines {
  code: number;
  lines: string[];
  stderr: string;
}

if (!canCompile) testUnless("needs cc", "what a program sees of each entry", () => {});

describe.skipIf(!canCompile)("what a program sees", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    const others = FAMILIES.map((name) => join(import.meta.dir, `${name}.c`));
    bench.compile("../transparency/cases", "cases", ...others, "-ldl");
    bench.compile("../transparency/nameless", "nameless.so", "-shared", "-fPIC");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const start = async (argv: string[], env: Record<string, string> = {}): Promise<Lines> => {
    const child = Bun.spawn(argv, {
      cwd: bench.folder,
      env: { ...process.env, LD_PRELOAD: undefined, ...env },
      stdin: "ignore", stdout: "pipe", stderr: "pipe",
      timeout: CASES_MS,
    });
    const [stdout, stderr, code] = await Promise.all([
      child.stdout.text(), child.stderr.text(), child.exited,
    ]);
    return { code, lines: stdout.trimEnd().split("\n"), stderr };
  };

  /** What ringdump has seen, for those that run under it. */
  const collected = (name: string) =>
    readFileSync(join(bench.folder, name), "utf8")
      .trimEnd().split("\n").map((line) => JSON.parse(line));

  const bare = new Map<string, Promise<Lines>>();
  const alone = (family: string, env: Record<string, string>): Promise<Lines> => {
    const key = JSON.stringify([family, env]);
    if (!bare.has(key)) bare.set(key, start(["./cases", family], env));
    return bare.get(key)!;
  };

  /** The lines of both, as far as they differ: the first few say enough. */
  const difference = (without: Lines, withLibrary: Lines): string[] => {
    const absent = without.lines
      .filter((line) => line.endsWith(" absent")).map((line) => line.split(" ")[0]!);
    for (const symbol of absent) console.warn(`skipped (this libc has no ${symbol})`);
    const known = (line: string) => !absent.some((symbol) => line.startsWith(`${symbol} `));
    const [left, right] = [without.lines.filter(known), withLibrary.lines.filter(known)];
    const found: string[] = [];
    for (let at = 0; at < Math.max(left.length, right.length) && found.length < 20; at++) {
      if (left[at] !== right[at]) found.push(`- ${left[at]}`, `+ ${right[at]}`);
    }
    return found;
  };

  const expectSame = async (
    family: string, env: Record<string, string>, measured: Promise<Lines>,
  ) => {
    const [without, withLibrary] = await Promise.all([alone(family, env), measured]);
    expect([without.code, without.stderr]).toEqual([0, ""]);
    expect(without.lines.length).toBeGreaterThan(100);
    expect([withLibrary.code, withLibrary.stderr]).toEqual([0, ""]);
    expect(difference(without, withLibrary)).toEqual([]);
  };

  for (const family of FAMILIES) {
    test.concurrent(`${family}: with the library, no session`, async () => {
      await expectSame(family, {}, start(["./cases", family], { LD_PRELOAD: bench.library }));
    }, CASES_MS);

    // FOUND: the sockets came by a way that no hook has seen, and are looked at in their first call.
    for (const [how, env] of [["", {}], [", of sockets found", { CASES_FOUND: "1" }]] as const) {
      test.concurrent(`${family}: measured${how}`, async () => {
        const output = `${family}${how === "" ? "" : "-found"}.json`;
        const run = start(
          ["./ringdump", "--slots", "65536", bench.library, output, "./cases", family], env,
        );
        await expectSame(family, env, run);
        const records = collected(output);
        expect(records.some((record) => record.what === "record")).toBe(true);
        for (const { losses } of records.filter((record) => record.what === "losses")) {
          // Of a peer that has reset, only the caller's buffer can tell the address.
          if (family === "accept") losses[LOSS.noAddress] = 0;
          // Its handlers jump out of calls.
          if (family === "options") losses[LOSS.left] = 0;
          expect(losses.every((count: number) => count === 0)).toBe(true);
        }
        const entries: Entry[] = records.filter((record) => record.what === "entry");
        const active = entries.reduce((sum, entry) => sum + entry.out.active + entry.in.active, 0);
        expect(active).toBe(ENDED_IN_A_CALL[family] ?? 0);
      }, CASES_MS);
    }
  }

  test.concurrent("accept: no name is asked for that the program does not ask for", async () => {
    const behind = join(bench.folder, "nameless.so");
    const measured = start(
      ["./ringdump", bench.library, "nameless.json", "./cases", "accept"],
      { RINGDUMP_PRELOAD: behind },
    );
    await expectSame("accept", { LD_PRELOAD: behind }, measured);
    const { lines } = await alone("accept", { LD_PRELOAD: behind });
    expect(lines.filter((line) => line.includes("ECONNABORTED")).length).toBeGreaterThan(10);
  }, CASES_MS);

  test.concurrent("no entry is without a case", async () => {
    const runs = await Promise.all(FAMILIES.map((family) => alone(family, {})));
    const told = new Set(runs.flatMap(({ lines }) => lines.map((line) => line.split(" ")[0]!)));
    const symbols = Bun.spawnSync(["nm", "-D", "--defined-only", bench.library]).stdout.toString();
    const hooked = symbols.trim().split("\n").map((line) => line.split(" ").at(-1)!)
      .filter((name) => !name.startsWith("kq_preload_") && name !== "syscall");
    expect(hooked.length).toBeGreaterThan(40);
    const numbers = [...readFileSync(HOOKS, "utf8").matchAll(/\[(SYS_\w+)\] = [12]/g)]
      .map(([, name]) => `syscall:${name}`);
    expect(numbers.length).toBeGreaterThan(25);
    expect([...hooked, ...numbers].filter((name) => !told.has(name))).toEqual([]);
  }, CASES_MS);
});
