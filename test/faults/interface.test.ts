// A network device that goes down and comes up again, or is deleted and made anew, in the middle of
// a measurement, captured by its name or on `any`. Made anew under another name, it is not what was
// asked for: then what passes is not seen, and said to be so.

import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OUT, readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, booksFlaws, Measurement, ROOT, timeFlaws } from "../lib/kqtime.ts";
import { withLab, type Lab } from "../lib/network.ts";
import { until, type Scope } from "../lib/process.ts";
import { compare } from "../lib/truth.ts";
import { startEcho } from "./echo.ts";

/** Longer than libpcap's error is taken for a passing one. */
const GONE_MS = 800;

async function ip(scope: Scope, ...words: string[]): Promise<void> {
  await scope.run(["ip", ...words]);
}

type How = "down" | "deleted" | "renamed";

/** The device of the left side, made anew. */
async function make({ scope, left, right }: Lab, again: string): Promise<void> {
  await ip(
    scope, "link", "add", again, "netns", left.name, "type", "veth", "peer", "name", right.device,
    "netns", right.name,
  );
  for (const [node, address] of [[left, left.v4], [right, right.v4]] as const) {
    const dev = node === left ? again : right.device;
    await ip(scope, "-n", node.name, "addr", "add", `${address}/24`, "dev", dev);
    await ip(scope, "-n", node.name, "link", "set", dev, "up");
  }
}

async function takeAway(lab: Lab, how: How): Promise<void> {
  const { scope, left } = lab;
  const { name, device } = left;
  if (how === "down") await ip(scope, "-n", name, "link", "set", device, "down");
  else await ip(scope, "-n", name, "link", "del", device);
  // How long it is away is the fault itself.
  await Bun.sleep(GONE_MS);
  if (how === "down") {
    await ip(scope, "-n", name, "link", "set", device, "up");
    return;
  }
  await make(lab, how === "renamed" ? "kq1" : device);
}

const CASES: readonly (readonly [How, string])[] = [
  ["down", "kq0"], ["down", "any"], ["deleted", "kq0"], ["deleted", "any"], ["renamed", "kq0"],
];

for (const [how, device] of CASES) {
  const what = how === "renamed" ? "deleted, and back as kq1" : `${how} and back`;
  e2e(`a device ${what}; captured: ${device}`, () =>
    withLab({}, async (lab) => {
      const { scope, left, right } = lab;
      const program = await fixture("flow");
      const log = scope.path("flow");
      const words = [
        "--address", right.v4, "--port", "7200", "--log", log, "--seconds", "3",
        "--size", "2000", "--write-sleep", "1",
      ];
      const server = scope.start([program, "server", ...words], { prefix: right.prefix });
      await server.says(/ready/);
      const client = new Measurement(scope, [program, "client", ...words], {
        prefix: left.prefix, options: ["--interface", device],
      });
      const lines = () => (BARE ? 2 : lineCount(client.logPath));
      await until("lines", () => lines() > 1);
      await takeAway(lab, how);
      await client.running.success();
      await server.success();
      if (BARE) return;
      const summary = client.summary();
      const calls = readCallLog(`${log}.client`, BASE_SEC);
      const { out } = summary.directions;
      expect(out.bytesCalled).toBe(calls.find((one) => one.direction === OUT)!.bytes);
      expect(booksFlaws(client)).toEqual([]);
      expect(summary.booksBalance).toBe(true);
      const found = client.log();
      expect(timeFlaws(found)).toEqual([]);
      expect(compare(found, { calls }, { lossy: true }).report()).toBe("");
      const stopped = /capture on kq0 stopped: .* cannot be matched/.test(summary.warnings.join("\n"));
      const goesOn = summary.warnings.some((text) => text === "capture on kq0 goes on");
      const isSeen = device === "any" || how === "down";
      expect(summary.losses["captureGaps"]).toBe(isSeen ? 0 : 1);
      expect([stopped, goesOn]).toEqual([!isSeen, how === "deleted" && !isSeen]);
      const reasons = Object.keys(out.bytesUnmatched);
      if (how === "renamed") {
        expect(reasons).toEqual(["capture drop"]);
        expect(out.coverage!).toBeLessThan(0.9);
      } else {
        // What passes before the capture has found its device again is not seen.
        expect(reasons.filter((reason) => isSeen || reason !== "capture drop")).toEqual([]);
        const last = found.calls.filter(({ direction }) => direction === OUT).at(-1)!;
        expect(last.offset + last.bytes).toBe(out.bytesCalled);
      }
    }), 60_000);
}

e2e("a connection that begins while its device is not captured", () =>
  withLab({}, async (lab) => {
    const { scope, left, right } = lab;
    const { name, device } = left;
    const program = await fixture("flow");
    const [log, go] = [scope.path("flow"), scope.path("go")];
    const words = [
      "--address", right.v4, "--port", "7201", "--log", log, "--seconds", "3",
      "--size", "2000", "--write-sleep", "1",
    ];
    const server = scope.start([program, "server", ...words], { prefix: right.prefix });
    await server.says(/ready/);
    const wait = `echo waits; until [ -e ${go} ]; do sleep 0.02; done; exec "$@"`;
    const client = new Measurement(scope, ["sh", "-c", wait, "sh", program, "client", ...words], {
      prefix: left.prefix, options: ["--interface", device],
    });
    await client.running.says(/waits/);
    await ip(scope, "-n", name, "link", "del", device);
    await Bun.sleep(GONE_MS);
    await make(lab, "kq1");
    await Bun.write(go, "");
    await Bun.sleep(GONE_MS);
    await ip(scope, "-n", name, "link", "set", "kq1", "down");
    await ip(scope, "-n", name, "link", "set", "kq1", "name", device);
    await ip(scope, "-n", name, "link", "set", device, "up");
    await client.running.success();
    await server.success();
    if (BARE) return;
    const summary = client.summary();
    const { out } = summary.directions;
    expect(summary.warnings.join("\n")).toMatch(/capture on kq0 goes on/);
    expect(out.bytesUnmatched).toEqual({ "capture drop": out.bytesCalled });
    expect(summary.losses["captureGaps"]).toBe(1);
    expect(summary.booksBalance).toBe(true);
  }), 60_000);

e2e("a device deleted and back, when there is less memory for the capture's buffer", () =>
  withLab({}, async (lab) => {
    const { scope, left } = lab;
    const library = scope.path("ring-limit.so");
    const source = join(ROOT, "test", "capture", "ring-limit.c");
    await scope.run(["cc", "-shared", "-fPIC", "-O2", source, "-o", library, "-ldl"]);
    const once = scope.path("once");
    const { port } = await startEcho(scope, left);
    const program = [await fixture("idlers"), "1", port, "20"];
    const client = new Measurement(scope, program, {
      prefix: [
        ...left.prefix, "env", `LD_PRELOAD=${library}`, `KQTEST_RING_BYTES=${20 << 20}`,
        `KQTEST_RING_ONCE=${once}`,
      ],
      options: ["--interface", "kq0"],
    });
    await client.running.says(/ready/);
    const captures = BARE ? "" : capturesOf(client);
    writeFileSync(once, "");
    await takeAway(lab, "deleted");
    // The program is on lo: nothing of what it says tells when the capture is back.
    if (!BARE) await until("another capture", () => capturesOf(client) !== captures);
    client.running.kill("SIGTERM");
    await client.running.success();
    if (BARE) return;
    const { warnings } = client.summary();
    expect(warnings.filter((text) => /goes on|capture buffer/.test(text))).toEqual([
      "capture on kq0 goes on",
      expect.stringMatching(/^the kernel gave a capture buffer of \d+ MiB instead of 64 MiB$/),
    ]);
  }), 60_000, ["python3"]);

/** Inodes of the packet sockets in its network namespace. */
function capturesOf({ running }: Measurement): string {
  const lines = readFileSync(`/proc/${running.pid}/net/packet`, "utf8").trim().split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/).at(-1)).join(" ");
}

function lineCount(path: string): number {
  try {
    return readFileSync(path, "utf8").split("\n").length;
  } catch {
    return 0;
  }
}
