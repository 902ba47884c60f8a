// Programs that come and go: a thousand short lives under one kqtime, curl in a shell's loop, and a
// program that executes itself again and again with its connections open.

import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, booksFlaws, flaws, Measurement, timeFlaws } from "../lib/kqtime.ts";
import { type Node, withLoopback } from "../lib/network.ts";
import type { Scope } from "../lib/process.ts";
import { startEcho } from "./echo.ts";

const LIVES = 1000;
const CURLS = 1000;
const LOOPS = 4;
/** More than are taken in one round. */
const LIVES_UNSEEN = 150;
/** Fewer than that. */
const QUEUE = 16;

e2e(`${LIVES} short-lived processes`, () => withLoopback(async (node, scope) => {
  const { port } = await startEcho(scope, node);
  // Four at a time; a third of them closes its socket, a third exits, a third is killed.
  const loop = `seq ${LIVES} | xargs -P 4 -n 1 sh -c '"$1" "$2" "$3"; true' sh ${await fixture("short")} ${port}`;
  const measurement = new Measurement(scope, ["sh", "-c", loop], { prefix: node.prefix });
  await measurement.running.success();
  if (BARE) return;
  const { directions, sockets, socketsRest, target } = measurement.summary();
  const out = LIVES * 1000;
  expect([directions.out.calls, directions.out.bytesCalled]).toEqual([LIVES, out]);
  expect([sockets.length + socketsRest.count, directions.in.calls]).toEqual([LIVES, LIVES]);
  expect(target.pids.length).toBe(1000);
  expect(flaws(measurement, { out, in: out })).toEqual([]);
  expect(new Set(measurement.log().calls.map(({ pid }) => pid)).size).toBe(LIVES);
}), 60_000, ["python3", "xargs"]);

/** Programs that begin and end while kqtime stands still. */
async function liveUnseen(node: Node, scope: Scope): Promise<Measurement> {
  const { port } = await startEcho(scope, node);
  const go = scope.path("go");
  const loop = `echo waits; while [ ! -e ${go} ]; do sleep 0.01; done; seq ${LIVES_UNSEEN} |
    xargs -P 4 -n 1 sh -c '"$1" "$2" "$3"; true' sh ${await fixture("short")} ${port}; echo done`;
  const measurement = new Measurement(scope, ["sh", "-c", loop], { prefix: node.prefix });
  await measurement.running.says(/waits/);
  if (!BARE) measurement.running.kill("SIGSTOP");
  writeFileSync(go, "");
  await measurement.running.says(/done/);
  measurement.running.kill("SIGCONT");
  await measurement.running.success();
  return measurement;
}

e2e(`${LIVES_UNSEEN} short lives while kqtime stands still`, () => withLoopback(async (node, scope) => {
  const measurement = await liveUnseen(node, scope);
  if (BARE) return;
  const bytes = LIVES_UNSEEN * 1000;
  expect(flaws(measurement, { out: bytes, in: bytes })).toEqual([]);
  expect(measurement.summary().directions.out.calls).toBe(LIVES_UNSEEN);
}), 60_000, ["python3", "xargs"]);

e2e("more lives than the socket's queue takes while kqtime stands still are told", () =>
  withLoopback(async (node, scope) => {
    // Of this namespace alone.
    await scope.run([...node.prefix, "sysctl", "-qw", `net.core.somaxconn=${QUEUE}`]);
    const measurement = await liveUnseen(node, scope);
    if (BARE) return;
    const { directions, losses, warnings } = measurement.summary();
    // seq, xargs, a shell and a program for each life, and a sleep or two before.
    const started = 2 + 2 * LIVES_UNSEEN;
    const unheard = losses["unheardProcesses"]!;
    expect(unheard).toBeGreaterThanOrEqual(started - (QUEUE + 1));
    expect(unheard).toBeLessThan(started + 2);
    expect(directions.out.calls).toBeLessThanOrEqual(QUEUE + 1);
    expect(warnings.join("\n")).toContain(`${unheard} processes not measured, kqtime could not be reached`);
  }), 60_000, ["python3", "xargs", "sysctl"]);

e2e("a program in a mount namespace without the session's folder is told by its name", () =>
  withLoopback(async (node, scope) => {
    const measurement = new Measurement(
      scope, ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /run; sleep 1"], { prefix: node.prefix },
    );
    await measurement.running.success();
    if (BARE) return;
    const warnings = measurement.summary().warnings.join("\n");
    expect(warnings).toMatch(/^1 process of the command could not reach kqtime \(sleep\)/m);
    expect(warnings).not.toContain("without the preload library");
  }), 60_000, ["unshare"]);

e2e(`${CURLS} curls in ${LOOPS} shells' loops`, () => withLoopback(async (node, scope) => {
  const server = scope.start(
    ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "7400", "--protocol", "HTTP/1.1"],
    { prefix: node.prefix, cwd: "/etc" },
  );
  await server.says(/Serving/);
  // What curl itself says of each.
  const told = scope.path("told");
  const loops = `for loop in $(seq ${LOOPS}); do
    for n in $(seq ${CURLS / LOOPS}); do
      curl -s -o /dev/null -w '%{size_request} %{size_header} %{size_download}\\n' http://127.0.0.1:7400/passwd
    done >> ${told} &
  done; wait`;
  const measurement = new Measurement(scope, ["sh", "-c", loops], { prefix: node.prefix });
  await measurement.running.success(150_000);
  const sizes = readFileSync(told, "utf8").trim().split("\n").map((line) => line.split(" ").map(Number));
  expect(sizes.length).toBe(CURLS);
  if (BARE) return;
  const out = sizes.reduce((sum, [request]) => sum + request!, 0);
  const inbound = sizes.reduce((sum, [, header, body]) => sum + header! + body!, 0);
  const { directions } = measurement.summary();
  expect([directions.out.bytesCalled, directions.in.bytesCalled]).toEqual([out, inbound]);
  expect([directions.out.sockets, directions.in.sockets]).toEqual([CURLS, CURLS]);
  expect(flaws(measurement, { out, in: inbound })).toEqual([]);
}), 180_000, ["python3", "curl"]);

for (const others of [false, true]) {
  const title = `a child of which nobody knows when its parent ends${others ? ", and others live on" : ""}`;
  e2e(title, () => withLoopback(async (node, scope) => {
    const { port } = await startEcho(scope, node);
    const command = [await fixture("unannounced"), port];
    // Two processes with rings of their own: the shell, and what outlives the child.
    if (others) command.unshift("sh", "-c", '"$@" & sleep 2', "sh");
    const measurement = new Measurement(scope, command, { prefix: node.prefix });
    await measurement.running.success();
    if (BARE) return;
    const { directions, warnings } = measurement.summary();
    expect([directions.out.bytesCalled, directions.in.bytesCalled]).toEqual([1000, 1000]);
    expect(warnings).toEqual([]);
    expect(flaws(measurement, { out: 1000, in: 1000 })).toEqual([]);
  }), 60_000, ["python3"]);
}

/** Blocks of 10 ms; the end of the killed one is noticed within the first few. */
const BLOCKS = 300;
for (const [how, lost] of [["waits", 0], ["takes", 1000]] as const) {
  const title = `a process killed in a read that ${how === "waits" ? "waits" : "has taken bytes"}: its twin's later reads`;
  e2e(title, () => withLoopback(async (node, scope) => {
    const measurement = new Measurement(
      scope, [await fixture("twin"), how, `${BLOCKS}`], { prefix: node.prefix },
    );
    await measurement.running.success();
    if (BARE) return;
    const { in: inbound, out } = measurement.summary().directions;
    const bytes = BLOCKS * 1000 + lost;
    expect([out.bytesMatched, out.bytesCalled, inbound.bytesCalled]).toEqual([bytes, bytes, bytes]);
    const { concurrent = 0, ...others } = inbound.bytesUnmatched;
    expect(others).toEqual({});
    expect(concurrent).toBeGreaterThanOrEqual(lost);
    expect(concurrent).toBeLessThan(bytes / 2);
    expect(timeFlaws(measurement.log())).toEqual([]);
    expect(booksFlaws(measurement)).toEqual([]);
  }), 60_000);
}

e2e("a program that executes itself with its connections open", () => withLoopback(async (node, scope) => {
  const { port } = await startEcho(scope, node);
  const measurement = new Measurement(scope, [await fixture("again"), port], { prefix: node.prefix });
  const { stdout } = await measurement.running.success();
  const [sent, received, sends, receives] = stdout.match(/\d+/g)!.map(Number);
  expect(sent).toBe(received);
  if (BARE) return;
  const { directions, sockets } = measurement.summary();
  const calls = [directions.out.calls, directions.in.calls];
  expect([directions.out.bytesCalled, directions.in.bytesCalled, ...calls])
    .toEqual([sent!, received!, sends!, receives!]);
  // Two a life, and none is counted twice for having been inherited.
  expect(sockets.length).toBe(8);
  expect(flaws(measurement, { out: sent!, in: received! })).toEqual([]);
}), 60_000, ["python3"]);
