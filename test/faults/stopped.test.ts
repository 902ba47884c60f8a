// A kqtime that stands still (SIGSTOP) for ten seconds under load, then goes on: the program has not
// noticed, what was lost is counted, and no line is wrong by the program's own clock or by that of an
// independent capture. Connections that lived meanwhile are not taken for ones that the filter excludes.

import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { OUT, readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, booksFlaws, Measurement, timeFlaws } from "../lib/kqtime.ts";
import { withLab } from "../lib/network.ts";
import { until } from "../lib/process.ts";
import { startEcho } from "./echo.ts";
import { Witness } from "../lib/tcpdump.ts";
import { compare } from "../lib/truth.ts";

const STOPPED_MS = 10_000;
const SHORT_LIVES = 5;
const RATE_BYTES = 40e6 / 8;

e2e("stopped for ten seconds under load, then continued", () =>
  withLab({ shape: { rate: "40mbit" } }, async ({ scope, left, right }) => {
    const program = await fixture("flow");
    const short = await fixture("short");
    const echo = await startEcho(scope, left);
    const [go, done] = [scope.path("go"), scope.path("done")];
    const log = scope.path("flow");
    const words = [
      "--address", right.v4, "--port", "7600", "--log", log, "--seconds", "13", "--size", "1000",
      "--sndbuf", "100000",
    ];
    const witness = await Witness.start(scope, left);
    const server = scope.start([program, "server", ...words], { prefix: right.prefix });
    await server.says(/ready/);
    // Neither the ring nor the capture's buffer hold ten seconds of this.
    const lives = `${short} ${echo.port} 0; `.repeat(SHORT_LIVES);
    const both = `"$@" & until [ -e ${go} ]; do sleep 0.05; done; ${lives} : > ${done}; wait`;
    const client = new Measurement(scope, ["sh", "-c", both, "sh", program, "client", ...words], {
      prefix: left.prefix, options: ["--ring", "4096", "--buffer", "1"],
    });
    await until("lines", () => Bun.file(client.logPath).size > 100_000);
    const nowNs = () => (Date.now() - BASE_SEC * 1000) * 1e6;
    if (!BARE) client.running.kill("SIGSTOP");
    const stoppedNs = nowNs();
    // The ten seconds are the fault itself.
    await Bun.sleep(STOPPED_MS / 2);
    await Bun.write(go, "");
    await Bun.sleep(STOPPED_MS / 2);
    await until("short lives", () => existsSync(done));
    const continuedNs = nowNs();
    client.running.kill("SIGCONT");
    await client.running.success();
    await server.success();
    const seen = await witness.finish(BASE_SEC, right.v4, left);
    const calls = readCallLog(`${log}.client`, BASE_SEC);
    const out = calls.find((stream) => stream.direction === OUT)!;
    // Undisturbed: each second of the stop moved what the link carries. Else it shows whether the program
    // stood still or was slow.
    const seconds = Array.from({ length: STOPPED_MS / 1000 }, (_, second) => {
      const fromNs = stoppedNs + second * 1e9;
      const ends = out.calls.filter(({ afterNs }) => afterNs >= fromNs && afterNs < fromNs + 1e9);
      const bytes = ends.reduce((sum, call) => sum + call.bytes, 0);
      const gapNs = Math.max(0, ...ends.slice(1).map((call, i) => call.afterNs - ends[i]!.afterNs));
      return { second, bytes, longestGapMs: gapNs / 1e6 };
    });
    expect(seconds.filter(({ bytes }) => bytes <= RATE_BYTES * 0.8)).toEqual([]);
    if (BARE) return;
    const summary = client.summary();
    const lived = summary.labels.find(({ label }) => label === `out:${echo.port}`)!;
    expect([lived.out.sockets, lived.in.sockets]).toEqual([SHORT_LIVES, SHORT_LIVES]);
    expect(lived.out.bytesUnmatched).toEqual({ "capture drop": lived.out.bytesCalled });
    expect(lived.in.bytesUnmatched).toEqual({ "capture drop": lived.in.bytesCalled });
    const books = summary.directions.out;
    expect(books.bytesCalled).toBe(out.bytes + lived.out.bytesCalled);
    expect(summary.losses["ringRecords"]).toBeGreaterThan(10_000);
    expect(books.bytesUnmatched["ring drop"]).toBeGreaterThan(10_000_000);
    expect(Object.keys(books.bytesUnmatched).filter((reason) => !/^(ring|capture) drop$/.test(reason)))
      .toEqual([]);
    expect(summary.warnings.join("\n")).toMatch(/records dropped, the ring was full/);
    expect(summary.booksBalance).toBe(true);
    expect(booksFlaws(client)).toEqual([]);
    const found = client.log();
    expect(timeFlaws(found)).toEqual([]);
    expect(compare(found, { calls, seen }, { lossy: true }).report()).toBe("");
    // Before the stop, and once it is caught up, nothing is missing.
    const logged = new Set(found.calls.filter((line) => line.direction === OUT).map((line) => line.offset));
    const due = out.calls.filter(({ afterNs }) => afterNs < stoppedNs - 1e9 || afterNs > continuedNs + 1e9);
    expect(due.length).toBeGreaterThan(500);
    expect(due.filter((call) => !logged.has(call.offset)).length).toBe(0);
  }), 60_000);
