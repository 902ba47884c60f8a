// How libkqtime starts its collector: what that inherits, whose child it is, and what is said when it
// cannot be.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { needsNamespaces } from "../lib/privilege.ts";
import { until } from "../lib/process.ts";
import { Bench, BUILD_MS, canCompile, isRunning } from "./bench.ts";

const NOT_MEASURED = /^kqtime: not measured: [^\n]+\n$/;

function statusKiB(pid: number, name: string): number {
  return Number(readFileSync(`/proc/${pid}/status`, "utf8").match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))![1]);
}

describe.skipIf(!canCompile)("the start of a collector", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
  }, BUILD_MS);
  afterAll(() => bench.remove());

  test("what a collector must not get from the program, it does not get", async () => {
    const env = {
      NODE_CHANNEL_FD: "3", BUN_INSPECT: "x", KQTIME_BUN: "/b", KQTIME_TOKEN: "t",
      CAPI_REALTIME: process.getuid?.() === 0 ? "1" : undefined,
    };
    const held = bench.steps("holds", { env });
    const processors = Number((await held.says()).match(/^measuring, (\d+) processors\n$/)![1]);
    await held.goOn();
    expect(await held.ends()).toEqual({ code: 0, stderr: "" });
    const [start] = (await bench.ended()).starts;
    const { "": _, "3": status, ...rest } = start!.fds;
    expect(rest).toEqual({ "0": "/dev/null", "1": "/dev/null", "2": "/dev/null" });
    expect(status).toStartWith("pipe:");
    expect(start!.cwd).toBe("/");
    expect(start!.sid).toBe(start!.pid);
    expect(start!.ppid).not.toBe(held.pid);
    expect(start!.handled).toBe("");
    expect(start!).toMatchObject({ policy: 0, nice: 0, umask: 0o022, limited: "" });
    expect(start!.processors).toBe(processors);
    const names = /^(LD_PRELOAD|KQTIME_|NODE_CHANNEL|BUN_INSPECT)/;
    expect(start!.environment.filter((name) => names.test(name))).toEqual(["KQTIME_BUN"]);
  });

  for (const closed of ["0", "12", "0123", "3", "13"]) {
    test(`a program whose descriptors ${closed.split("").join(", ")} are closed`, async () => {
      rmSync(bench.seen, { force: true });
      const ran = bench.run("holds", { env: { CAPI_CLOSE: closed } });
      expect(ran.code).toBe(0);
      const [start] = (await bench.ended()).starts;
      expect(Object.keys(start!.fds).sort()).toEqual(["", "0", "1", "2", "3"]);
      expect(start!.fds["3"]).toStartWith("pipe:");
    });
  }

  test("wait() and SIGCHLD are the program's own", async () => {
    rmSync(bench.seen, { force: true });
    const child = Bun.spawn(bench.command("waits"), {
      cwd: bench.folder, env: bench.environment(), stdin: "pipe", stdout: "pipe", stderr: "inherit",
    });
    const words = child.stdout.getReader();
    await words.read();
    child.stdin.write("x");
    await child.stdin.flush();
    await words.read();
    await bench.ended();
    child.stdin.write("x");
    await child.stdin.end();
    expect(await child.exited).toBe(0);
  });

  test("… also where orphans come back to the program, and nothing of it is kept", async () => {
    const program = bench.steps("waits", { env: { CAPI_SUBREAPER: "1" } });
    expect(await program.says()).toBe("measuring\n");
    const { ppid } = bench.look().starts[0]!;
    expect(ppid).not.toBe(program.pid);
    await until("end of its memory", () => statusKiB(ppid, "RssAnon") < 1024);
    // Of what is shared, and of files, it keeps its stack and its code.
    const maps = () => readFileSync(`/proc/${ppid}/maps`, "latin1").trim().split("\n");
    const kept = maps().filter((line) => / \S{3}s /.test(line) || / [1-9]\d* +\//.test(line));
    const named = kept.filter((line) => !line.endsWith("/libkqtime.so"));
    expect(named.map((line) => line.replace(/^\S+ /, ""))).toEqual([
      expect.stringMatching(/^rw-s 0+ \S+ \d+ +\/dev\/zero \(deleted\)$/),
    ]);
    const [from, to] = named[0]!.split(" ")[0]!.split("-").map((word) => parseInt(word, 16));
    expect(to! - from!).toBeLessThan(1 << 20);
    // It goes on after the kernel has written to what it keeps for that.
    process.kill(ppid, "SIGSTOP");
    await until("its stop", () => /^T /.test(readFileSync(`/proc/${ppid}/stat`, "latin1").split(") ")[1]!));
    process.kill(ppid, "SIGCONT");
    await until("its wait", () => /^S /.test(readFileSync(`/proc/${ppid}/stat`, "latin1").split(") ")[1]!));
    expect(readdirSync(`/proc/${ppid}/fd`)).toEqual([]);
    expect(readlinkSync(`/proc/${ppid}/cwd`)).toBe("/");
    expect(await program.goOn()).toBe("freed\n");
    await bench.ended();
    await program.goOn();
    expect(await program.ends()).toEqual({ code: 0, stderr: "" });
    expect(isRunning(ppid)).toBe(false);
  });

  needsNamespaces("… and where it is the first process of its namespace", async () => {
    const prefix = ["unshare", "--pid", "--fork", "--mount-proc"];
    const program = bench.steps("waits", { prefix });
    expect(await program.says()).toBe("measuring\n");
    expect(await program.goOn()).toBe("freed\n");
    await until("end of the collector", () => bench.look().ends === 1);
    await program.goOn();
    expect(await program.ends()).toEqual({ code: 0, stderr: "" });
  }, { programs: ["unshare"] });

  test("… whose rounds leave one process to reap", async () => {
    const program = bench.steps("reaps");
    expect(await program.says()).toBe("freed\n");
    for (let round = 0; round < 5; round++) {
      await bench.ended();
      const { ppid } = bench.look().starts[round]!;
      await until("end of the process in between", () => !isRunning(ppid));
      expect(await program.goOn()).toBe(round < 4 ? "freed\n" : "1\n");
    }
    expect(await program.ends()).toEqual({ code: 0, stderr: "" });
  });

  needsNamespaces("a program whose children are in another pid namespace: NULL, one line", async () => {
    const ran = bench.run("unshares");
    expect(ran.stderr).toMatch(/^kqtime: not measured: [^\n]*pid namespace[^\n]*before unshare\n$/);
    expect(ran.code).toBe(0);
    expect(existsSync(bench.seen)).toBe(false);
  });

  const refusals: [string, RegExp][] = [
    ["error", /^kqtime: not measured: capturing needs CAP_NET_RAW\n$/],
    ["dies", /^kqtime: not measured: the collector ended before it was ready.*\n$/],
    ["unknown", /^kqtime: not measured: the collector says something unknown.*\n$/],
    ["refuses", /^kqtime: not measured: the log is on fire\n$/],
  ];
  for (const [script, line] of refusals) {
    test(`a collector that ${script}: NULL and one line`, async () => {
      const ran = bench.run("opens", { script });
      expect(ran.stderr).toMatch(line);
      expect(ran.stdout).toMatch(/^NULL \d+\n$/);
      expect(ran.code).toBe(0);
      await bench.ended();
    });
  }

  test("a collector that says nothing is waited for less than a second, and told", async () => {
    const ran = bench.run("opens", { script: "silent" });
    expect(ran.stderr).toBe("kqtime: not measured: the collector was not ready within a second\n");
    expect(Number(ran.stdout.split(" ")[1])).toBeWithin(500, 1000);
    expect((await bench.ended()).alone).toBe(1);
  });

  test("without the preload library: NULL and one line that names it", () => {
    const ran = bench.run("opens", { preload: null });
    expect(ran.stderr).toBe(
      `kqtime: not measured: start the program with LD_PRELOAD=${bench.library}\n`,
    );
    expect(ran.stdout).toMatch(/^NULL \d+\n$/);
    expect(existsSync(bench.seen)).toBe(false);
  });

  test("a preload library of another version: NULL and one line", () => {
    const other = join(bench.folder, "other.so");
    const source = join(bench.folder, "other.c");
    writeFileSync(source, "unsigned kq_preload_version(void) { return 1; }\n");
    const words = [process.env.CC ?? "cc", "-shared", "-fPIC", "-o", other, source];
    expect(Bun.spawnSync(words).exitCode).toBe(0);
    const ran = bench.run("opens", { preload: other });
    expect(ran.stderr).toMatch(/^kqtime: not measured: [^\n]+ different versions \(\d+ and 1\)[^\n]+\n$/);
    expect(ran.stdout).toMatch(/^NULL/);
  });

  test("no collector, and one that cannot be run: NULL and one line", () => {
    const nobody = { KQTIME_COLLECTOR: undefined, PATH: "/nonexistent:relative" };
    const ran = bench.run("opens", { env: nobody });
    expect(ran.stderr).toMatch(/^kqtime: not measured: no collector found: [^\n]+\n$/);
    expect(ran.stdout).toMatch(/^NULL/);
    for (const KQTIME_COLLECTOR of ["/nonexistent", "bin/kqtime"]) {
      const named = bench.run("opens", { env: { KQTIME_COLLECTOR } });
      expect(named.stderr).toBe(
        `kqtime: not measured: KQTIME_COLLECTOR=${KQTIME_COLLECTOR} cannot be run: ` +
          "give the full path of bin/kqtime\n",
      );
    }
    const text = join(bench.folder, "text");
    writeFileSync(text, "no program\n", { mode: 0o755 });
    const failed = bench.run("opens", { env: { KQTIME_COLLECTOR: text } });
    expect(failed.stderr).toMatch(/^kqtime: not measured: the collector [^\n]+ cannot be started: [^\n]+\n$/);
    expect(failed.stdout).toMatch(/^NULL/);
    const inherits = bench.run("opens", { env: { KQTIME_COLLECTOR: text, CAPI_SUBREAPER: "1" } });
    expect(inherits.stderr).toBe(
      `kqtime: not measured: the collector ${text} cannot be started (errno 008)\n`,
    );
  });

  test("a collector is found beside the library's folder, and in PATH", async () => {
    const prefix = join(bench.folder, "prefix");
    for (const name of ["lib", "bin", "path"]) mkdirSync(join(prefix, name), { recursive: true });
    for (const name of ["libkqtime.so", "libkqtime-preload.so"]) {
      Bun.spawnSync(["cp", join(bench.folder, name), join(prefix, "lib")]);
    }
    const collector = join(bench.folder, "collector");
    symlinkSync(collector, join(prefix, "path", "kqtime"));
    const env = {
      KQTIME_COLLECTOR: undefined,
      LD_LIBRARY_PATH: join(prefix, "lib"),
      PATH: `${prefix}/none:${prefix}/path`,
    };
    const there = await bench.sees("opens", { env });
    expect(there.starts).toHaveLength(1);
    symlinkSync("/bin/false", join(prefix, "bin", "kqtime"));
    const beside = bench.run("opens", { env });
    expect(beside.stderr).toContain("the collector ended before it was ready");
  });

  test("logs that cannot be written: NULL, one line, and no collector", () => {
    symlinkSync("elsewhere", join(bench.folder, "link"));
    Bun.spawnSync(["mkfifo", join(bench.folder, "fifo")]);
    for (const [log, why] of [
      ["/nonexistent/log", /No such file or directory/],
      [bench.folder, /directory/],
      ["link", /symbolic link/],
      ["fifo", /nobody reads that pipe/],
    ] as const) {
      const ran = bench.run("opens", { log });
      expect(ran.stderr).toMatch(NOT_MEASURED);
      expect(ran.stderr).toMatch(why);
      expect(ran.stdout).toMatch(/^NULL/);
      expect(existsSync(bench.seen)).toBe(false);
    }
    expect(existsSync(join(bench.folder, "elsewhere"))).toBe(false);
  });
});
