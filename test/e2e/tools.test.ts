// From a real run to its figures: the log of `kqtime run`, through the tools that read it.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { transfer } from "../lib/flow.ts";
import { BARE, BUN, kqtime, ROOT, type Summary } from "../lib/kqtime.ts";
import { withLab } from "../lib/network.ts";
import { collect } from "../lib/read-log.ts";

const TOTAL = 4 << 20;

e2e("the report of a log is the summary of its run; parse, compare and export read the same calls", async () => {
  if (BARE) return;
  await withLab({ shape: { rate: "30mbit" } }, async (lab) => {
    const { scope } = lab;
    const { client, server } = await transfer(lab, { flow: ["--total", `${TOTAL}`, "--conns", "3"] });
    for (const end of [client.measurement!, server.measurement!]) {
      const printed = end.summary();
      const { stdout } = await kqtime(scope, ["report", "--json", end.logPath]).success();
      const report = JSON.parse(stdout) as Summary & {
        report: { source: string; lossesKnown: boolean };
      };
      expect(report.report).toMatchObject({ source: "run", lossesKnown: true });
      expect(report.losses).toEqual(printed.losses);
      expect(report.directions).toEqual(printed.directions);
      expect(report.labels).toEqual(printed.labels);
      expect([report.startUnixNs, report.durationNs]).toEqual([printed.startUnixNs, printed.durationNs]);
      // From the lines of the calls alone: what is exact is the same.
      const window = await kqtime(
        scope, ["report", "--json", "--since", "2000-01-01", "--by", "socket", end.logPath],
      ).success();
      const made = JSON.parse(window.stdout) as Summary;
      for (const direction of ["out", "in"] as const) {
        const [calls, books] = [made.directions[direction], printed.directions[direction]];
        expect([calls.sockets, calls.calls]).toEqual([books.sockets, books.calls]);
        expect(calls.callNs).toEqual(books.callNs);
      }
    }
    const { logPath } = client.measurement!;
    const { out, in: inbound } = client.measurement!.summary().directions;
    const parse = Bun.spawnSync(
      ["sh", "-c", `gzip -c "$1" | zcat | xz -c | xzcat | "$0" tools/parse-kqtime.ts`, BUN, logPath],
      { cwd: ROOT },
    );
    const lines = parse.stdout.toString().trimEnd().split("\n");
    expect(parse.stderr.toString()).toBe("");
    const times = lines.filter((line) => line.includes(" KQTIME-"));
    expect(times.length).toBe(out.callNs.count + inbound.callNs.count);
    // Each second the bytes in all send queues together, and in all receive queues.
    const queued = lines.filter((line) => line.includes(" KQLEN-OUT "));
    expect(lines.length).toBe(times.length + 2 * queued.length);
    expect(Math.max(...queued.map((line) => Number(line.split(" ")[2])))).toBeGreaterThan(10000);
    const greatest = Math.max(
      ...times.filter((line) => line.includes(" KQTIME-OUT ")).map((line) => Number(line.split(" ")[2])),
    );
    expect(Math.round(greatest * 1e6)).toBe(out.callNs.max);
    const parquet = scope.path("client.parquet");
    const exported = await kqtime(scope, ["export", "--parquet", parquet, logPath]).success();
    const rows = collect(logPath).told.filter(({ kind }) => kind !== "queues").length;
    expect(exported.stderr).toContain(`${rows.toLocaleString("en")} rows`);
    const same = await kqtime(scope, ["compare", "--json", logPath, logPath]).success();
    const { differences } = JSON.parse(same.stdout);
    for (const { note, differenceNs } of differences) {
      expect(differenceNs).toBe(note === "too few calls" ? null : 0);
    }
    expect(differences.some(({ differenceNs }: { differenceNs: number | null }) => differenceNs === 0)).toBe(true);
  });
}, 120_000, ["xz"]);
