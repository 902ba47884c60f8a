// What libkqtime and the preload library say to a collector: a scripted one, that prints it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import { ENTRY, LOSS, STATE } from "../preload/ringdump.ts";
import { Bench, BUILD_MS, canCompile, measured, ROOT } from "./bench.ts";

const OPEN = 1;
const FREE = 2;
/** kq_open_flag */
const STATS = 1;
const IN = 2;
const OUT = 4;
const GZIP = 8;
/** open(2): O_WRONLY or O_RDWR, O_APPEND, O_NONBLOCK. */
const APPEND = 0o2000;
const NONBLOCK = 0o4000;
const ENDED = "kqtime: the collector has ended before: the log ends where it did\n";
const NOT_MEASURED = /^kqtime: not measured: [^\n]+\n$/;

describe.skipIf(!canCompile)("the C API and its collector", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
  }, BUILD_MS);
  afterAll(() => bench.remove());

  test("a collector is started, joined, asked, and ends with the last handle", async () => {
    const seen = await bench.sees("opens");
    expect(seen.stdout).toMatch(/^handle \d+\n$/);
    expect(seen.starts).toHaveLength(1);
    expect(seen.starts[0]).toMatchObject({ argv: 2, arg1: "collect" });
    expect(seen.rings).toHaveLength(1);
    expect(seen.rings[0]!.slots).toBe(1024);
    expect(seen.requests).toMatchObject([
      { type: OPEN, handle: 0, flags: STATS | IN | OUT, writes: APPEND | NONBLOCK | 2, text: bench.log },
      { type: FREE, handle: 1, writes: -1, text: "" },
    ]);
    expect(seen).toMatchObject({ ends: 1, bad: 0 });
    expect(readFileSync(bench.log, "utf8")).toBe("opened\n");
  });

  test("interface, filter, kinds of lines and compression are passed on", async () => {
    rmSync(join(bench.folder, "x.gz"), { force: true });
    const seen = await bench.sees("full", { log: "x.gz" });
    expect(seen.starts[0]).toMatchObject({
      argv: 6, arg1: "collect", arg2: "--interface", arg3: "lo", arg4: "--filter", arg5: "tcp port 1",
    });
    expect(seen.requests[0]).toMatchObject({ flags: OUT | GZIP, text: "x.gz" });
  });

  for (const how of ["gone", "full", "closed"]) {
    test(`a program whose stderr is ${how} goes on, and its log has nothing of it`, async () => {
      rmSync(bench.log, { force: true });
      const ran = bench.run("unheard", { script: "refuses", env: { CAPI_STDERR: how } });
      expect(ran).toMatchObject({ code: 0, signal: null, stdout: "went on\n" });
      expect(readFileSync(bench.log, "utf8")).toBe("");
      await bench.ended();
    });
  }

  test("a thread that is cancelled leaves the library as it should be", async () => {
    expect((await bench.sees("cancelled")).stdout).toBe("went on\n");
  });

  test("NULL, odd descriptors and freed handles do nothing", async () => {
    rmSync(bench.log, { force: true });
    const ran = bench.run("nulls");
    expect(ran.stderr).toBe("kqtime: not measured: there is no path for the log\n".repeat(2));
    expect(ran.code).toBe(0);
    const seen = await bench.ended();
    expect(seen.records.filter(({ kind }) => kind === "REGISTER" || kind === "NAME")).toEqual([]);
    expect(seen.records.filter(({ kind }) => kind === "DEREGISTER")).toHaveLength(1);
    expect(seen.requests.map(({ type }) => type)).toEqual([OPEN, FREE]);
  });

  test("names are copied, replaced, cut, and may be missing; offsets count from birth", async () => {
    const seen = await bench.sees("names");
    const name = `relay=1,key=${"n".repeat(243)}`;
    expect(measured(seen.records)).toEqual([
      `OUT 100+1 ${name}`, "OUT 101+2 exactly sixteen.", "OUT 103+3 NULL",
      `OUT 106+4 ${"X".repeat(255)}`, "OUT 160+5 again", "IN 160+5 server",
    ]);
  });

  test("a descriptor that was closed and is used again is not measured", async () => {
    const seen = await bench.sees("reuse");
    expect(measured(seen.records)).toEqual(["OUT 0+1 first", "OUT 0+3 second"].map((call) =>
      call.replace("0+3", "2+3")));
  });

  test("sockets that are registered before they are connected", async () => {
    const seen = await bench.sees("early");
    expect(measured(seen.records)).toEqual([
      "OUT 0+1 blocking", "OUT 0+2 in progress", "OUT 0+4 copied", "OUT 0+5 at the second try",
    ]);
  });

  test("more such sockets than are remembered are counted, and leave no trace", async () => {
    const seen = await bench.sees("many-early", { env: { CAPI_SLOTS: "65536" } });
    expect(measured(seen.records)).toEqual(["OUT 0+3 there is room again"]);
    expect(seen.losses[LOSS.tableFull]).toBe(2100 - 2048);
  });

  test("sockets that are open when measuring begins are adopted at once", async () => {
    const seen = await bench.sees("adopts");
    const [listener, client, server, copy, idle] = seen.stdout.trim().split(" ").map(Number);
    const before = seen.records.slice(0, 3);
    expect(before.map(({ kind, fd }) => [kind, fd]).sort()).toEqual([
      ["BIRTH", client!], ["BIRTH", server!], ["LISTEN", listener!],
    ]);
    const adopted = seen.entries.filter(({ flags }) => flags & ENTRY.adopted);
    expect(adopted).toHaveLength(2);
    for (const { state, lport, rport } of adopted) {
      expect([state, lport > 0, rport > 0]).toEqual([STATE.open, true, true]);
    }
    const queues = adopted.map(({ fd, queuedIn }) => [fd, queuedIn]).sort();
    expect(queues).toEqual([[client!, 0], [server!, 30]]);
    const out = seen.records.filter(({ kind }) => kind === "OUT");
    const [first, second] = out;
    // The copy is the same socket; the one that was idle is connected under our eyes.
    const original = adopted.find(({ fd }) => fd === client)!;
    expect([first!.fd, first!.bytes, first!.entry]).toEqual([copy!, 4, original.entry]);
    expect([second!.fd, second!.bytes]).toEqual([idle!, 5]);
    expect(seen.entries.find(({ entry }) => entry === second!.entry)!.flags & ENTRY.connected).toBeTruthy();
  });

  test("one session after the other: nothing of one gets into the next", async () => {
    const seen = await bench.sees("sessions");
    expect(seen.starts).toHaveLength(3);
    const calls = seen.records.filter(({ kind }) => kind === "OUT" || kind === "IN");
    const of = (session: number) =>
      calls.filter((call) => call.session === session).map(({ kind, bytes }) => `${kind} ${bytes}`);
    expect(of(0)).toEqual(["OUT 1", "IN 1"]);
    // The call that began in the first session ended in the second, which cannot know its bytes.
    expect(of(1)).toEqual(["OUT 8", "OUT 3", "IN 3"]);
    expect(of(2)).toEqual(["OUT 5", "IN 5"]);
    const generations = new Set(seen.records.filter(({ gen }) => gen > 0).map(({ gen }) => gen >>> 20));
    expect([...generations].sort()).toEqual([0, 1, 2]);
    expect(seen.bad).toBe(0);
  });

  test("rounds of new and free: neither descriptors nor processes nor memory are left", async () => {
    const seen = await bench.sees("rounds");
    const [slowestNew, slowestFree, fds, kib] = seen.stdout.trim().split(" ").map(Number);
    expect(seen.starts).toHaveLength(101);
    expect(seen.ends).toBe(101);
    expect(slowestNew).toBeLessThan(1000);
    expect(slowestFree).toBeLessThan(1000);
    expect(fds).toBe(0);
    expect(kib).toBeLessThan(1024);
  }, 60_000);

  test("the memory of a session is given back", async () => {
    const { stdout } = await bench.sees("returns", { env: { CAPI_SLOTS: "65536" } });
    const [used, left] = stdout.trim().split(" ").map(Number);
    expect(used).toBeGreaterThan(900);
    expect(left).toBeLessThan(64);
  });

  test("a forked child's free is not its parent's", async () => {
    const seen = await bench.sees("forks");
    const calls = measured(seen.records);
    for (const call of ["OUT 0+1 parent", "OUT 3+5 parent", "OUT 0+3 child"]) {
      expect(calls).toContain(call);
    }
    expect(seen.requests.map(({ type }) => type)).toEqual([OPEN, FREE]);
    // The parent's call after free is not recorded at all.
    expect(seen.records.some(({ bytes, kind }) => kind === "OUT" && bytes === 6)).toBe(false);
  });

  test("a forked child's own measurement outlives its parent's", async () => {
    const seen = await bench.sees("heirs");
    const of = (name: string) => measured(seen.records).filter((call) => call.endsWith(name));
    expect(of(" child").sort()).toEqual([
      "IN 0+2 child", "IN 12+3 child", "IN 2+10 child",
      "OUT 0+2 child", "OUT 12+3 child", "OUT 2+10 child",
    ]);
    expect(of(" parent")).toEqual(["OUT 0+1 parent"]);
    // The parent's second measurement is one of a session of its own.
    expect(of(" parent again")).toEqual(["OUT 0+4 parent again", "OUT 4+5 parent again"]);
    expect(seen.starts).toHaveLength(2);
    expect(seen.losses.every((count) => count === 0)).toBe(true);
    expect(seen).toMatchObject({ ends: 2, bad: 0 });
  });

  test("a daemon frees what its parent made", async () => {
    rmSync(bench.seen, { force: true });
    const child = Bun.spawn(bench.command("daemonises"), {
      cwd: bench.folder, env: bench.environment(), stdout: "pipe", stderr: "inherit",
    });
    expect(await child.exited).toBe(0);
    expect(await new Response(child.stdout).text()).toMatch(/^freed \d+\n$/);
    const seen = await bench.ended();
    expect(seen.requests.map(({ type }) => type)).toEqual([OPEN, FREE]);
    expect(measured(seen.records)).toContain("OUT 0+8 later");
  });

  test("in a sandbox like Tor's sockets are registered, and the measurement ends", async () => {
    rmSync(bench.log, { force: true });
    const ran = bench.run("sandboxed");
    expect(ran).toMatchObject({ code: 0, stdout: "freed\n" });
    expect(ran.stderr).toMatch(NOT_MEASURED);
    const seen = await bench.ended();
    expect(measured(seen.records)).toEqual(["OUT 1+2 in a sandbox", "OUT 0+3 early"]);
    expect(seen.requests.map(({ type }) => type)).toEqual([OPEN, FREE]);
  });

  test("a full ring is waited for a tenth of a second, once, and counted", async () => {
    const seen = await bench.sees("overflows", { script: "hold", env: { CAPI_SLOTS: "64" } });
    const [first, others] = seen.stdout.split(" ").map(Number);
    expect(first).toBeWithin(95, 400);
    expect(others).toBeLessThan(90);
    expect(measured(seen.records)).toHaveLength(1);
    expect(seen.losses[LOSS.ringFull]).toBeGreaterThan(0);
  });

  test("free ends early when the collector does, and the next handle gets another one", async () => {
    const ran = bench.run("frees", { script: "vanishes" });
    expect(ran.stderr).toBe(ENDED);
    const [ms, next] = ran.stdout.trim().split("\n");
    expect(Number(ms)).toBeLessThan(1000);
    expect(next).toBe("handle");
    expect((await bench.ended()).starts).toHaveLength(2);
  });

  test("a collector that died: the program goes on, and may begin anew", async () => {
    rmSync(bench.seen, { force: true });
    const child = Bun.spawn(bench.command("survives"), {
      cwd: bench.folder, env: bench.environment(), stdin: "pipe", stdout: "pipe", stderr: "pipe",
    });
    await child.stdout.getReader().read();
    process.kill(bench.look().starts[0]!.pid, "SIGKILL");
    await bench.ended();
    child.stdin.write("x");
    await child.stdin.end();
    expect(await child.exited).toBe(0);
    expect(await new Response(child.stderr).text()).toBe("");
    const seen = await bench.ended();
    expect(seen.starts).toHaveLength(2);
    const anew = seen.records.filter(({ session }) => session === 1);
    expect(measured(anew)).toEqual(["OUT 7+2 anew"]);
  });

  test("two measurements share a collector", async () => {
    const seen = await bench.sees("two");
    expect(seen.starts).toHaveLength(1);
    expect(seen.requests.map(({ type, handle, flags }) => [type, handle, flags])).toEqual([
      [OPEN, 0, IN | OUT], [OPEN, 0, OUT | GZIP], [FREE, 1, 0], [FREE, 2, 0],
    ]);
    const said = seen.records.filter(({ kind }) => /REGISTER/.test(kind));
    expect(said.map(({ kind, off }) => `${kind} ${off}`)).toEqual(["REGISTER 1", "REGISTER 2", "DEREGISTER 1"]);
  });

  test("threads register, deregister, make and free while sockets are in use", async () => {
    const seen = await bench.sees("threads", { env: { CAPI_SLOTS: "65536" } });
    expect(seen.stdout).toBe("done\n");
    const calls = measured(seen.records).filter((call) => call.startsWith("OUT"));
    expect(calls).toHaveLength(4 * 300);
    expect(calls.every((call) => /^OUT \d+\+16 thread \d$/.test(call))).toBe(true);
    const changing = await bench.sees("threads", { env: { CAPI_SLOTS: "65536", CAPI_CHANGING: "1" } });
    expect(changing.stdout).toBe("done\n");
    expect(changing.bad).toBe(0);
  }, 60_000);

  const tsan = "-fsanitize=thread";
  const noTsan = canCompile && Bun.spawnSync(
    [process.env.CC ?? "cc", tsan, "-x", "c", "-o", "/dev/null", "-"],
    { stdin: Buffer.from("int main(void) { return 0; }") },
  ).exitCode !== 0;
  testUnless(reason(noTsan && "needs libtsan"), "… without a data race in the library", async () => {
    const folder = join(bench.folder, "tsan");
    mkdirSync(folder);
    const names = ["libkqtime", "collector", "log_file", "process", "spawn"];
    const sources = names.map((name) => join(ROOT, "c", `${name}.c`));
    const library = join(folder, "libkqtime.so");
    const built = Bun.spawnSync([
      process.env.CC ?? "cc", "-std=gnu11", "-O1", "-g", tsan, "-shared", "-fPIC", "-fvisibility=hidden",
      `-Wl,--version-script=${join(ROOT, "c/exports.map")}`, "-Wl,-soname,libkqtime.so",
      ...sources, "-o", library, "-ldl",
    ]);
    expect(built.stderr.toString()).toBe("");
    const program = bench.compile("tsan/program", tsan, "-g");
    const seen = await bench.sees("threads", {
      program,
      env: { LD_LIBRARY_PATH: folder, CAPI_SLOTS: "65536", CAPI_CHANGING: "1" },
    });
    expect(seen.stdout).toBe("done\n");
  }, 120_000);

  testUnless(reason(lacks("c++")), "the header is C++ too", () => {
    const source = join(bench.folder, "header.cc");
    writeFileSync(source, "#include <kqtime.h>\nint main() { kqtime_free(nullptr); }\n");
    const words = [
      "c++", "-Wall", "-Wextra", "-Werror", "-I", join(ROOT, "c"), "-o", `${source}.out`, source,
      "-L", bench.folder, "-lkqtime",
    ];
    expect(Bun.spawnSync(words).stderr.toString()).toBe("");
  }, BUILD_MS);
});
