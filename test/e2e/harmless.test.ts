// What goes wrong with the collector must not go wrong with the target: a full ring, a collector
// that is stopped or killed, a log that cannot be written. And what happens to the target, or
// beside it, must leave the collector with books that are true and memory that is bounded.

import { expect } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { IN, OUT, readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { judge, transferOnLoopback } from "../lib/flow.ts";
import { BARE, BASE_SEC, booksFlaws, Measurement, timeFlaws } from "../lib/kqtime.ts";
import { parseLog } from "../lib/kqlog.ts";
import { withLab, withLoopback, type Node } from "../lib/network.ts";
import { childrenOf, until, type Running, type Scope } from "../lib/process.ts";

import { compare } from "../lib/truth.ts";
import { Witness } from "../lib/tcpdump.ts";

function transmitted(node: Node): number {
  const listing = Bun.spawnSync(["ip", "-n", node.name, "-s", "-j", "link", "show", node.device]);
  return JSON.parse(listing.stdout.toString())[0].stats64.tx.bytes as number;
}

function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(status.match(/VmRSS:\s+(\d+) kB/)?.[1] ?? 0) / 1024;
}

e2e("a full ring", async () => {
  await withLoopback(async (node, scope) => {
    const total = 100_000_000;
    const result = await transferOnLoopback(node, scope, {
      measure: "client",
      flow: ["--total", `${total}`, "--size", "2048", "--content", "zero"],
      kqtime: ["--ring", "64"],
    });
    const { client } = result;
    expect(judge(client, { lossy: true }).report()).toBe("");
    if (!client.measurement) return;
    const summary = client.measurement.summary();
    const { out } = summary.directions;
    expect(summary.losses.ringRecords).toBeGreaterThan(0);
    expect(out.bytesUnmatched["ring drop"]).toBeGreaterThan(0);
    expect(out.bytesCalled).toBe(total);
    expect(out.coverage!).toBeLessThan(1);
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(client.measurement)).toEqual([]);
  });
}, 60_000);

e2e("memory that is gone when a call on it returns", async () => {
  await withLoopback(async (node, scope) => {
    const program = await fixture("gone");
    for (const how of ["cut", "unmapped", "protected"]) {
      for (const call of ["send", "write", "writev", "sendmsg"]) {
        const measurement = new Measurement(scope, [program, how, call], { prefix: node.prefix });
        const { stdout } = await measurement.running.success();
        expect({ how, call, stdout }).toEqual({ how, call, stdout: "went on\n" });
        if (!BARE) expect(measurement.summary().directions.out.calls).toBe(1);
      }
    }
  });
}, 60_000);

const RACE_BYTES = 3_000_000_000;

/** An unshaped transfer; gives the seconds that the unmeasured receiver saw it take. */
async function race(
  node: Node, scope: Scope, port: number, measured: boolean,
  meanwhile?: (kqtime: Running, server: Running) => Promise<void>,
): Promise<{ seconds: number; measurement?: Measurement }> {
  const words = [
    "--address", node.v4, "--port", `${port}`, "--total", `${RACE_BYTES}`, "--size", "65536",
    "--content", "zero",
  ];
  const program = await fixture("flow");
  const server = scope.start([program, "server", ...words], { prefix: node.prefix });
  await server.says(/ready/);
  const command = [program, "client", ...words];
  const measurement = measured ? new Measurement(scope, command, { prefix: node.prefix }) : undefined;
  const client = measurement?.running ?? scope.start(command, { prefix: node.prefix });
  await meanwhile?.(client, server);
  const { stdout } = await server.success(60_000);
  if (measured) client.kill("SIGCONT");
  await client.success(60_000);
  return { seconds: Number(stdout.match(/seconds=([\d.]+)/)![1]), ...(measurement && { measurement }) };
}

e2e("a collector that is stopped (SIGSTOP)", async () => {
  await withLoopback(async (node, scope) => {
    const free = await race(node, scope, 7010, false);
    const start = transmitted(node);
    const stopped = await race(node, scope, 7011, true, async (kqtime) => {
      await until("traffic", () => transmitted(node) > start + 300_000_000);
      if (!BARE) kqtime.kill("SIGSTOP");
    });
    if (BARE || !stopped.measurement) return;
    // The tap itself costs (facts: 600 to 1650 ns a packet); waiting for the collector would cost
    // seconds, or for ever.
    expect(stopped.seconds).toBeLessThan(free.seconds * 2.5 + 0.5);
    const summary = stopped.measurement.summary();
    expect(summary.booksBalance).toBe(true);
    expect(summary.directions.out.bytesCalled).toBe(RACE_BYTES);
    expect(booksFlaws(stopped.measurement)).toEqual([]);
    expect(timeFlaws(stopped.measurement.log())).toEqual([]);
  });
}, 120_000);

for (const suffix of ["log", "log.gz"]) {
  e2e(`a collector that is killed (SIGKILL), .${suffix}`, async () => {
    await withLab({ shape: { rate: "20mbit" } }, async (lab) => {
      const { scope, left, right } = lab;
      const program = await fixture("flow");
      const log = scope.path("flow");
      const words = [
        "--address", right.v4, "--port", "7012", "--log", log, "--total", "12000000", "--size", "4096",
      ];
      const witness = await Witness.start(scope, left);
      const server = scope.start([program, "server", ...words], { prefix: right.prefix });
      await server.says(/ready/);
      const path = scope.path(`kq.${suffix}`);
      const client = new Measurement(scope, [program, "client", ...words], {
        prefix: left.prefix, options: ["--log", path],
      });
      await until("traffic", () => transmitted(left) > 7_000_000);
      const killedNs = (Date.now() - BASE_SEC * 1000) * 1e6;
      if (!BARE) process.kill(client.running.pid, "SIGKILL");
      // The receiver checks every byte up to the last.
      expect((await server.success()).stdout).toContain("received=12000000");
      const seen = await witness.finish(BASE_SEC, right.v4);
      const calls = await until("log of the client's calls", () => {
        try {
          const streams = readCallLog(`${log}.client`, BASE_SEC);
          return streams.some((stream) => stream.bytes === 12_000_000) ? streams : undefined;
        } catch {
          return undefined;
        }
      });
      if (BARE) return;
      if (suffix.endsWith("gz")) {
        const tried = Bun.spawnSync(["gzip", "-t", path]);
        expect(tried.stderr.toString()).toMatch(/^(|.*unexpected end of file\s*)$/);
      }
      const reader = suffix.endsWith("gz") ? ["gzip", "-dc", path] : ["cat", path];
      const text = Bun.spawnSync(reader, { maxBuffer: 1 << 28 }).stdout.toString();
      // A line may be cut off where the log ends.
      const parsed = parseLog(text.slice(0, text.lastIndexOf("\n") + 1), BASE_SEC);
      expect(compare(parsed, { calls, seen }, { lossy: true }).report()).toBe("");
      const out = calls.find((stream) => stream.direction === OUT)!;
      const wire = seen.between(out.lport, out.rport)[0];
      const due = out.calls.filter(
        (call) => wire.timeOf(call.offset + call.bytes - 1) < killedNs - 1.1e9,
      );
      expect(due.length).toBeGreaterThan(100);
      const logged = new Set(parsed.calls.map((line) => line.offset));
      const lost = due.filter((call) => !logged.has(call.offset));
      expect({ lost: lost.length, of: due.length }).toEqual({ lost: 0, of: due.length });
    });
  }, 60_000);
}

e2e("a target that is killed (SIGKILL) in the middle of a call", async () => {
  await withLab({ shape: { rate: "20mbit" } }, async (lab) => {
    const { scope, left, right } = lab;
    const program = await fixture("flow");
    const size = 64 << 20;
    const words = ["--address", right.v4, "--port", "7013", "--total", `${size}`, "--size", `${size}`];
    const server = scope.start([program, "server", ...words], { prefix: right.prefix });
    await server.says(/ready/);
    const client = new Measurement(
      scope, [program, "client", ...words, "--mode", "threads", "--calls", "write"],
      { prefix: left.prefix },
    );
    await until("traffic", () => transmitted(left) > 2_000_000);
    const target = BARE ? client.running.pid : childrenOf(client.running.pid)[0];
    process.kill(target, "SIGKILL");
    const exit = await client.finish(30_000);
    expect(exit.code).toBe(137);
    if (BARE) return;
    const summary = client.summary();
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(client)).toEqual([]);
    expect(timeFlaws(client.log())).toEqual([]);
    expect(summary.target.signal).toBe("SIGKILL");
    // What the kernel took of the call nobody can know exactly, but that there was one is said.
    expect(`${Object.keys(summary.directions.out.bytesUnmatched)} ${summary.warnings}`)
      .toMatch(/interrupted|killed|cut off/);
  });
}, 60_000);

e2e("a flood of traffic that is not measured", async () => {
  await withLoopback(async (node, scope) => {
    const program = await fixture("flow");
    const flood = [
      "--address", node.v4, "--port", "7014", "--seconds", "9", "--size", "512", "--nodelay",
      "--content", "zero", "--conns", "4",
    ];
    const sink = scope.start([program, "server", ...flood], { prefix: node.prefix });
    await sink.says(/ready/);
    const source = scope.start([program, "client", ...flood], { prefix: node.prefix });
    await until("a flood", () => transmitted(node) > 10_000_000);
    const resident: number[] = [];
    const trickle = ["--seconds", "6", "--write-sleep", "10", "--size", "1000", "--mode", "threads"];
    const words = ["--address", node.v4, "--port", "7015", "--log", scope.path("flow"), ...trickle];
    const server = scope.start([program, "server", ...words], { prefix: node.prefix });
    await server.says(/ready/);
    const client = new Measurement(
      scope, [program, "client", ...words], { prefix: node.prefix, options: ["--buffer", "64"] },
    );
    while (!client.running.ended) {
      try {
        resident.push(residentMiB(client.running.pid));
      } catch {
        break;
      }
      await Promise.race([client.running.exited, Bun.sleep(250)]);
    }
    await client.running.success();
    await server.success();
    await Promise.all([source.exited, sink.exited]);
    if (BARE) return;
    const early = Math.max(...resident.slice(0, resident.length >> 1));
    const late = Math.max(...resident.slice(resident.length >> 1));
    expect(late).toBeLessThan(500);
    expect(late - early).toBeLessThan(50);
    const calls = readCallLog(scope.path("flow.client"), BASE_SEC);
    const log = client.log();
    expect(compare(log, { calls }, { lossy: true }).report()).toBe("");
    const summary = client.summary();
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(client)).toEqual([]);
    // Nothing but what the capture itself lost may be missing.
    const reasons = [
      ...Object.keys(summary.directions.out.bytesUnmatched),
      ...Object.keys(summary.directions.in.bytesUnmatched),
    ];
    expect(reasons.filter((reason) => reason !== "capture drop")).toEqual([]);
    if (summary.losses.capturePackets === 0) expect(summary.directions.out.coverage).toBe(1);
  });
}, 60_000);

e2e("a log on a full disk", async () => {
  await withLoopback(async (node, scope) => {
    const disk = scope.path("disk");
    mkdirSync(disk);
    await scope.run(["mount", "-t", "tmpfs", "-o", "size=64k", "kqtime-test", disk]);
    scope.finally(async () => {
      await Bun.spawn(["umount", "-l", disk]).exited;
    });
    const result = await transferOnLoopback(node, scope, {
      measure: "client",
      flow: ["--total", "20000000", "--size", "2000", "--content", "zero"],
      kqtime: ["--log", `${disk}/kq.log`],
    });
    const { measurement, calls } = result.client;
    expect(calls.find((stream) => stream.direction === OUT)?.bytes).toBe(20_000_000);
    expect(calls.find((stream) => stream.direction === IN)?.bytes).toBe(0);
    if (!measurement) return;
    const summary = measurement.summary();
    expect(summary.losses.logLines).toBeGreaterThan(0);
    expect(summary.directions.out.coverage).toBe(1);
    expect(summary.warnings.join("\n")).toMatch(/log/i);
  });
}, 60_000);
