// The C API with the collector that it is made for, on loopback in a network namespace of its own.

import { afterAll, beforeAll, expect } from "bun:test";
import {
  chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { OUT } from "../lib/calllog.ts";
import { type KQTimeLog, readLog } from "../lib/kqlog.ts";
import { enter, makeNamespace } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { Scope, until } from "../lib/process.ts";
import { Bench, BUILD_MS, canCompile, isRunning, ROOT, type RunOptions } from "./bench.ts";

const BASE_SEC = Math.floor(Date.now() / 1000);
const NAME_255 = `relay=1,key=${"n".repeat(243)}`;
const mark = `capi-${process.pid}-${Date.now()}`;

let bench: Bench;
let scope: Scope;
let prefix: string[] = [];

beforeAll(async () => {
  if (!canCompile || process.getuid?.() !== 0) return;
  bench = new Bench();
  chmodSync(bench.folder, 0o755);
  scope = new Scope();
  prefix = enter(await makeNamespace(scope, "c"));
}, BUILD_MS);
afterAll(async () => {
  await scope?.end();
  bench?.remove();
});

function e2e(name: string, body: () => void | Promise<void>, timeoutMs = 30_000): void {
  needsNamespaces(name, body, { timeoutMs, programs: ["cc", "nsenter", "gzip"] });
}

function options(more: RunOptions = {}): RunOptions {
  const KQTIME_COLLECTOR = join(ROOT, "bin", "kqtime");
  return { prefix, ...more, env: { KQTIME_COLLECTOR, CAPI_MARK: mark, ...more.env } };
}

/** Pids of this test's collectors. */
function collectors(own = mark): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`CAPI_MARK=${own}`) &&
        readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("\0collect") && isRunning(pid);
    } catch {
      return false;
    }
  });
}

async function noCollector(): Promise<void> {
  await until("end of the collector", () => collectors().length === 0);
}

interface Result {
  stdout: string;
  log: KQTimeLog;
}

let logs = 0;

/** Runs a scenario that must succeed silently; its log when the collector has ended. */
async function measure(scenario: string, more: RunOptions = {}, suffix = ""): Promise<Result> {
  const log = join(bench.folder, `log-${logs++}${suffix}`);
  const ran = bench.run(scenario, options({ ...more, log }));
  expect(ran.stderr).toBe("");
  expect(ran.code).toBe(0);
  await noCollector();
  expect(statSync(log).mode & 0o777).toBe(0o600);
  return { stdout: ran.stdout, log: readLog(log, BASE_SEC) };
}

/** Each call in the log: direction, offset, bytes, name. */
function lines(log: KQTimeLog): string[] {
  expect(log.misses).toEqual([]);
  for (const call of log.calls) expect(call.endNs).toBeGreaterThanOrEqual(call.startNs);
  return log.calls.map(({ direction, offset, bytes, name }) =>
    `${direction === OUT ? "OUT" : "IN"} ${offset}+${bytes} ${name}`).sort();
}

e2e("only what is registered, from the first registered byte, under its name", async () => {
  const { log } = await measure("names");
  expect(lines(log)).toEqual([
    `OUT 100+1 ${NAME_255}`, "OUT 101+2 exactly sixteen.", "OUT 103+3 NULL",
    `OUT 106+4 ${"X".repeat(255)}`, "OUT 160+5 again", "IN 160+5 server",
  ].sort());
});

e2e("descriptors that are used again, and sockets registered before they are connected", async () => {
  expect(lines((await measure("reuse")).log)).toEqual(["OUT 0+1 first", "OUT 2+3 second"]);
  expect(lines((await measure("early")).log)).toEqual([
    "OUT 0+1 blocking", "OUT 0+2 in progress", "OUT 0+4 copied", "OUT 0+5 at the second try",
  ]);
});

e2e("a compressed log is valid, beside another one of the same program", async () => {
  const { log } = await measure("two", {}, ".log");
  expect(lines(log)).toEqual(["OUT 0+1 a"]);
  const other = join(bench.folder, `log-${logs - 1}.log.2.gz`);
  expect(Bun.spawnSync(["gzip", "-t", other]).exitCode).toBe(0);
  expect(lines(readLog(other, BASE_SEC))).toEqual(["OUT 0+1 b", "OUT 1+2 b", "OUT 3+3 b"]);
});

for (const how of ["exit", "kill"]) {
  e2e(`a program that ends by ${how} without kqtime_free leaves a valid log`, async () => {
    const log = join(bench.folder, `${how}.gz`);
    const ran = bench.run("leaves", options({ log, env: { CAPI_END: how } }));
    expect(ran.signal).toBe(how === "kill" ? "SIGKILL" : null);
    await noCollector();
    expect(Bun.spawnSync(["gzip", "-t", log]).exitCode).toBe(0);
    expect(lines(readLog(log, BASE_SEC))).toEqual(["OUT 0+11 left"]);
  });
}

e2e("100 idle rounds: each within a second, nothing is left", async () => {
  const { stdout } = await measure("rounds", { env: { CAPI_ROUNDS: "100" } }, ".gz");
  const [slowestNew, slowestFree, fds, kib] = stdout.trim().split(" ").map(Number);
  expect(slowestNew).toBeLessThan(1000);
  expect(slowestFree).toBeLessThan(1000);
  expect(fds).toBe(0);
  expect(kib).toBeLessThan(1024);
}, 120_000);

for (const CAPI_SUBREAPER of [undefined, "1"]) {
  const whose = CAPI_SUBREAPER === undefined ? "" : " of a subreaper";
  e2e(`the collector${whose} holds nothing of the program's, and wait() does not see it`, async () => {
    const log = join(bench.folder, `waits${CAPI_SUBREAPER}.log`);
    const child = Bun.spawn(bench.command("waits", options({ log })), {
      cwd: bench.folder, env: bench.environment(options({ env: { CAPI_SUBREAPER } })), stdin: "pipe", stdout: "pipe", stderr: "pipe",
    });
    const words = child.stdout.getReader();
    await words.read();
    const [pid] = collectors();
    expect(pid).toBeGreaterThan(0);
    const links = (of: number) =>
      readdirSync(`/proc/${of}/fd`).map((fd) => readlinkSync(`/proc/${of}/fd/${fd}`));
    const held = links(pid!);
    const own = links(child.pid);
    expect(own.some((link) => /^(pipe|socket):/.test(link))).toBe(true);
    expect(held.filter((link) => /^(pipe|socket):/.test(link) && own.includes(link))).toEqual([]);
    expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toContain("LD_PRELOAD");
    expect(readFileSync(`/proc/${pid}/maps`, "utf8")).not.toContain("libkqtime");
    child.stdin.write("x");
    await child.stdin.flush();
    await words.read();
    await noCollector();
    child.stdin.write("x");
    await child.stdin.end();
    expect(await new Response(child.stderr).text()).toBe("");
    expect(await child.exited).toBe(0);
  });
}

e2e("without the privilege to capture: NULL, one line, and the program runs", async () => {
  const folder = join(bench.folder, "anybody");
  mkdirSync(folder, { mode: 0o777 });
  chmodSync(folder, 0o777);
  const unprivileged = [
    ...prefix, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
  ];
  const ran = bench.run("opens", options({ prefix: unprivileged, log: join(folder, "log") }));
  expect(ran.stderr).toMatch(/^kqtime: not measured: [^\n]*CAP_NET_RAW[^\n]*\n$/);
  const [what, ms] = ran.stdout.trim().split(" ");
  expect(what).toBe("NULL");
  expect(Number(ms)).toBeLessThan(1000);
  expect(ran.code).toBe(0);
  await noCollector();
});

e2e("a log that the collector refuses: NULL, one line, and no collector is left", async () => {
  const log = join(bench.folder, "text.gz");
  writeFileSync(log, "not compressed\n");
  const child = Bun.spawn(bench.command("refused", options({ log })), {
    cwd: bench.folder, env: bench.environment(options()), stdin: "pipe", stdout: "pipe", stderr: "pipe",
  });
  await child.stdout.getReader().read();
  await noCollector();
  child.stdin.write("x");
  await child.stdin.end();
  expect(await child.exited).toBe(0);
  const said = await new Response(child.stderr).text();
  expect(said).toMatch(/^kqtime: not measured: [^\n]*no gzip file[^\n]*\n$/);
  expect(readFileSync(log, "utf8")).toBe("not compressed\n");
});

e2e("forks: the child's free is not the parent's; a daemon's is its own", async () => {
  const { log } = await measure("forks");
  const calls = lines(log);
  for (const call of ["OUT 0+1 parent", "OUT 3+5 parent", "OUT 0+3 child"]) expect(calls).toContain(call);
  expect(calls.some((call) => call.includes("any more") || call.startsWith("OUT 8+6"))).toBe(false);
  const path = join(bench.folder, "daemon.gz");
  const child = Bun.spawn(bench.command("daemonises", options({ log: path })), {
    cwd: bench.folder, env: bench.environment(options()), stdout: "pipe", stderr: "pipe",
  });
  const said = await new Response(child.stdout).text();
  expect(Number(said.match(/^freed (\d+)\n$/)![1])).toBeLessThan(1500);
  expect(await new Response(child.stderr).text()).toBe("");
  await noCollector();
  expect(lines(readLog(path, BASE_SEC))).toEqual(["OUT 0+8 later", "OUT 0+9 daemon"]);
});

e2e("forks: a child's own measurement outlives its parent's", async () => {
  const { log } = await measure("heirs");
  expect(lines(log)).toEqual(["OUT 0+1 parent", "OUT 0+4 parent again", "OUT 4+5 parent again"]);
  const child = readLog(join(bench.folder, `log-${logs - 1}.child`), BASE_SEC);
  expect(lines(child)).toEqual([
    "IN 0+2 child", "IN 12+3 child", "IN 2+10 child",
    "OUT 0+2 child", "OUT 12+3 child", "OUT 2+10 child",
  ]);
});

e2e("in a sandbox like Tor's", async () => {
  const log = join(bench.folder, "sandbox.gz");
  const ran = bench.run("sandboxed", options({ log }));
  expect(ran).toMatchObject({ code: 0, stdout: "freed\n" });
  await noCollector();
  expect(lines(readLog(log, BASE_SEC))).toEqual(["OUT 0+3 early", "OUT 1+2 in a sandbox"]);
});

e2e("after a chroot the log is completed when the program ends", async () => {
  const log = join(bench.folder, "chroot.gz");
  const root = join(bench.folder, "root");
  mkdirSync(root);
  const program = bench.steps("apart", options({ log, env: { CAPI_ROOT: root } }));
  expect(await program.says()).toBe("measuring\n");
  expect(await program.goOn()).toMatch(/^freed \d{1,3}\n$/);
  await program.goOn();
  expect(await program.ends()).toEqual({
    code: 0,
    stderr: "kqtime: the collector cannot be reached (chroot?): " +
      "the log is completed when the program ends\n",
  });
  await noCollector();
  expect(lines(readLog(log, BASE_SEC))).toEqual(["OUT 0+1 apart", "OUT 1+2 apart", "OUT 3+4 apart"]);
});

e2e("a collector that stood still at the end of the handle, and of the program, reads on", async () => {
  const late = async (name: string, alive: boolean) => {
    const own = `${mark}-${name}`;
    const log = join(bench.folder, `${name}.gz`);
    const program = bench.steps("apart", options({ log, env: { CAPI_MARK: own, CAPI_NEXT: "1" } }));
    await program.says();
    const [pid] = collectors(own);
    process.kill(pid!, "SIGSTOP");
    try {
      expect(await program.goOn()).toMatch(/^freed \d+\n$/);
      if (!alive) program.kill();
    } finally {
      process.kill(pid!, "SIGCONT");
    }
    await until("end of the collector", () => collectors(own).length === 0);
    expect(lines(readLog(log, BASE_SEC))).toEqual(["OUT 0+1 apart", "OUT 1+2 apart"]);
    if (!alive) return;
    expect(await program.goOn()).toBe("handle\n");
    expect((await program.ends()).stderr).toMatch(/^kqtime: [^\n]* not completed [^\n]*\n$/);
    await until("end of the collector", () => collectors(own).length === 0);
    expect(lines(readLog(log, BASE_SEC))).toContain("OUT 0+8 next");
  };
  await Promise.all([late("alive", true), late("killed", false)]);
}, 60_000);

e2e("threads: every registered call has its line, and no other", async () => {
  const { log } = await measure("threads", {}, ".gz");
  const calls = lines(log);
  expect(calls).toHaveLength(4 * 300);
  expect(calls.every((call) => /^OUT \d+\+16 thread \d$/.test(call))).toBe(true);
  const changing = await measure("threads", { env: { CAPI_CHANGING: "1" } }, ".gz");
  expect(changing.stdout).toBe("done\n");
}, 60_000);

e2e("under kqtime run its collector takes the measurement", async () => {
  const log = join(bench.folder, "run-inner.gz");
  const outer = join(bench.folder, "run-outer.log");
  rmSync(log, { force: true });
  const command = bench.command("names", { log });
  const child = Bun.spawnSync(
    [...prefix, join(ROOT, "bin", "kqtime"), "run", "--quiet", "--log", outer, "--", ...command],
    {
      cwd: bench.folder,
      env: { ...bench.environment(options()), LD_PRELOAD: undefined, KQTIME_COLLECTOR: "/bin/false" },
      stdout: "pipe",
      stderr: "pipe",
      timeout: 20_000,
    },
  );
  expect(child.stderr.toString()).toBe("");
  expect(child.exitCode).toBe(0);
  expect(lines(readLog(log, BASE_SEC))).toContain("OUT 160+5 again");
  expect(lines(readLog(log, BASE_SEC))).toHaveLength(6);
  expect(existsSync(outer)).toBe(true);
  expect(readLog(outer, BASE_SEC).calls.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(2 * 225);
});
