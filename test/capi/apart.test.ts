// The end of a measurement whose collector cannot be reached, stands still, or has lost lines, with
// the scripted collector: what is in the rings must stay there for it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { renameSync } from "node:fs";
import { needsNamespaces } from "../lib/privilege.ts";
import { Bench, BUILD_MS, canCompile, measured } from "./bench.ts";

const FREE = 2;
const APART = (why: string) =>
  `kqtime: the collector cannot be reached (${why}): the log is completed when the program ends\n`;
const LATE = "kqtime: the collector has not completed the log in 10 s: it does so when it catches up\n";
const ENDED = "kqtime: the collector has ended before: the log ends where it did\n";

describe.skipIf(!canCompile)("a collector that is apart", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
  }, BUILD_MS);
  afterAll(() => bench.remove());

  const collector = () => bench.look().starts[0]!.pid;
  /** Takes the collector's socket out of the program's sight, as a chroot does. */
  const hide = () => {
    const socket = `${bench.seen}.${collector()}`;
    renameSync(socket, `${socket}.hidden`);
  };
  const freedMs = (said: string) => Number(said.match(/^freed (\d+)\n$/)![1]);

  test("lives: the session stays, and the log is completed when the program ends", async () => {
    const program = bench.steps("apart");
    expect(await program.says()).toBe("measuring\n");
    hide();
    expect(freedMs(await program.goOn())).toBeLessThan(1000);
    await program.goOn();
    expect(await program.ends()).toEqual({ code: 0, stderr: APART("chroot?") });
    const seen = await bench.ended();
    expect(measured(seen.records)).toEqual(["OUT 0+1 apart", "OUT 1+2 apart", "OUT 3+4 apart"]);
    expect(seen).toMatchObject({ ends: 1, bad: 0 });
    expect(seen.requests.some(({ type }) => type === FREE)).toBe(false);
  });

  test("… and no other one is started beside it", async () => {
    const program = bench.steps("apart", { env: { CAPI_NEXT: "1" } });
    await program.says();
    hide();
    await program.goOn();
    expect(await program.goOn()).toBe("NULL\n");
    expect(await program.ends()).toEqual({
      code: 0,
      stderr: `${APART("chroot?")}kqtime: not measured: the collector cannot be reached: chroot?\n`,
    });
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(1);
    expect(measured(seen.records)).toContain("OUT 7+8 apart");
  });

  test("… also for a program that has no descriptor left", async () => {
    const program = bench.steps("apart", { env: { CAPI_FILES: "0", CAPI_NEXT: "1" } });
    await program.says();
    await program.goOn();
    // It can be reached again, and the same session goes on.
    expect(await program.goOn()).toBe("handle\n");
    expect(await program.ends()).toEqual({ code: 0, stderr: APART("Too many open files") });
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(1);
    expect(measured(seen.records)).toEqual([
      "OUT 0+1 apart", "OUT 1+2 apart", "OUT 3+4 apart", "OUT 7+8 next",
    ]);
  });

  needsNamespaces("… nor for one that may neither reach nor see it", async () => {
    // Became another user, and /proc shows no other's processes.
    const hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"';
    const prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"];
    const program = bench.steps("apart", { prefix, env: { CAPI_NOBODY: "1" } });
    await program.says();
    await program.goOn();
    await program.goOn();
    expect(await program.ends()).toEqual({ code: 0, stderr: APART("Permission denied") });
    const seen = await bench.ended();
    expect(measured(seen.records)).toEqual(["OUT 0+1 apart", "OUT 1+2 apart", "OUT 3+4 apart"]);
  }, { programs: ["unshare", "mount"] });

  test("has ended: free says so, and the next handle gets another one", async () => {
    const program = bench.steps("apart", { env: { CAPI_NEXT: "1" } });
    await program.says();
    hide();
    process.kill(collector(), "SIGKILL");
    await bench.ended();
    expect(freedMs(await program.goOn())).toBeLessThan(1000);
    expect(await program.goOn()).toBe("handle\n");
    expect(await program.ends()).toEqual({ code: 0, stderr: ENDED });
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(2);
    expect(measured(seen.records.filter(({ session }) => session === 1))).toEqual(["OUT 0+8 next"]);
  });

  test("stands still: free gives up after ten seconds, and nothing is lost", async () => {
    const program = bench.steps("apart", { env: { CAPI_NEXT: "1" } });
    await program.says();
    const pid = collector();
    process.kill(pid, "SIGSTOP");
    let freed: string;
    try {
      freed = await program.goOn();
    } finally {
      process.kill(pid, "SIGCONT");
    }
    expect(freedMs(freed)).toBeWithin(9500, 11_000);
    // It takes what it was asked, which was the end of its last handle.
    await bench.ended();
    expect(await program.goOn()).toBe("handle\n");
    expect(await program.ends()).toEqual({ code: 0, stderr: LATE });
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(2);
    expect(measured(seen.records)).toEqual(["OUT 0+1 apart", "OUT 1+2 apart", "OUT 0+8 next"]);
  }, 30_000);

  test("never answers: the next handle is of the session that is there", async () => {
    const program = bench.steps("apart", { script: "mute", env: { CAPI_NEXT: "1" } });
    await program.says();
    expect(freedMs(await program.goOn())).toBeWithin(9500, 11_000);
    expect(await program.goOn()).toBe("handle\n");
    expect(await program.ends()).toEqual({ code: 0, stderr: LATE });
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(1);
    expect(measured(seen.records)).toEqual([
      "OUT 0+1 apart", "OUT 1+2 apart", "OUT 3+4 apart", "OUT 7+8 next",
    ]);
  }, 30_000);

  test("has lost lines of the log: free says what it says", async () => {
    const ran = bench.run("opens", { script: "loses" });
    expect(ran.stderr).toBe('kqtime: log "x": 12 lines could not be written: no space left\n');
    expect(ran.stdout).toStartWith("handle ");
    await bench.ended();
  });
});
