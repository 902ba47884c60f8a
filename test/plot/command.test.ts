// `kqtime plot` and tools/plot-kqtime.ts, as they are called.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { LineBuffer } from "../../src/output/line.ts";
import { BUN, kqtime, ROOT } from "../lib/kqtime.ts";
import { withScope } from "../lib/process.ts";
import { SyntheticLog } from "../lib/synthetic-log.ts";

const PARSED = [
  "1400000000.000000 KQTIME-OUT 1.5",
  "1400000001.000000 KQTIME-IN 0.0004",
  "1400000002.500000 KQTIME-OUT -100.0",
  "1400000003.100000 KQLEN-OUT 5.0",
  "1400000003.100000 KQLEN-IN 90.0",
  "damaged",
  "",
].join("\n");
const WARNINGS =
  "kqtime: standard input: 1 line unknown, not kqtime's; skipped\n" +
  "kqtime: found 1/6 corrupt line(s)\n" +
  "kqtime: page percentiles is left out: fewer than 100 samples\n" +
  "kqtime: page heatmap is left out: fewer than 500 samples\n" +
  "kqtime: page names is left out: no names (parsed data has none)\n";

let folder: string;
let log: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kqtime-plot-"));
  const text = new LineBuffer(1 << 21, 1700000000);
  new SyntheticLog(1).fill(text);
  log = join(folder, "kqtime.log.gz");
  writeFileSync(log, gzipSync(text.bytes.subarray(0, text.length)));
});
afterAll(() => rmSync(folder, { recursive: true }));

function svgText(path: string): string[] {
  return [...readFileSync(path, "utf8").matchAll(/<(text|tspan)[^>]*>([^<]+)<\//g)].map(
    ([, , text]) => text!,
  );
}

test("tools/plot-kqtime.ts: parsed data on standard input, kqtimes.pdf, corrupt lines told", async () => {
  await withScope(async (scope) => {
    const words = [BUN, join(ROOT, "tools", "plot-kqtime.ts")];
    const exit = await scope.start(words, { stdin: PARSED, cwd: folder }).success();
    expect(exit.stderr).toBe(WARNINGS);
    expect(exit.stdout).toBe("");
    const pdf = readFileSync(join(folder, "kqtimes.pdf"));
    expect(pdf.toString("latin1").match(/\/Type \/Page\b/g)).toHaveLength(5);
    expect(statSync(join(folder, "kqtimes.pdf")).mode & 0o777).toBe(0o600);
  });
}, 30_000);

test("what is in no picture is written under it", async () => {
  await withScope(async (scope) => {
    const path = join(folder, "small.svg");
    const miss =
      "KQTIME-MISS;start=1,end=1,fd=3,bytes=70,off=0,pid=1,sock=1,lport=1,rport=1,dir=0,reason=0;a;\n";
    await kqtime(scope, ["plot", "-o", path, "--pages", "time-cdf,time"], {
      stdin: `${PARSED}${miss}KQTIME-OUT;cut\n`,
    }).success();
    const text = svgText(path);
    expect(text).toContain("1 of 8 lines were damaged and skipped.");
    expect(text).toContain("1 of 8 lines were unknown and skipped.");
    expect(text).toContain("1 sample below zero or without a time is not in it.");
    expect(text).toContain("70 B without a time (KQTIME-MISS) are not in it.");
    expect(
      text.filter(
        (line) => line === "outbound: 1 call, p50 1.50 ms, p90 1.50 ms, p99 1.50 ms, max 1.50 ms",
      ),
    ).toHaveLength(2);
    expect(
      text.filter(
        (line) => line === "inbound: 1 call, p50 400 ns, p90 400 ns, p99 400 ns, max 400 ns",
      ),
    ).toHaveLength(2);
  });
}, 30_000);

test("several logs, compressed, and standard input, in every format", async () => {
  await withScope(async (scope) => {
    for (const end of ["pdf", "svg", "png", "html"]) {
      const path = join(folder, `all.${end}`);
      const exit = await kqtime(scope, ["plot", `--output=${path}`, log, "-"], {
        stdin: "",
      }).success();
      expect(exit.stderr).toBe(
        "kqtime: page length-cdf is left out: no queue lengths (KQTIME-STATS)\n" +
          "kqtime: page length is left out: no queue lengths (KQTIME-STATS)\n",
      );
      expect(statSync(path).size).toBeGreaterThan(50_000);
    }
  });
}, 60_000);

test("a file that was there is overwritten, and kept where there is nothing to draw", async () => {
  await withScope(async (scope) => {
    const path = join(folder, "old.svg");
    writeFileSync(path, "x".repeat(5_000_000));
    const nothing = await kqtime(scope, ["plot", "-o", path], { stdin: "" }).exited;
    expect([nothing.code, statSync(path).size]).toEqual([125, 5_000_000]);
    expect(nothing.stderr).toBe("kqtime: no samples to plot: the input has no call with a time\n");
    const exit = kqtime(scope, ["plot", "-o", path, "--pages", "hdr"], { stdin: PARSED });
    await exit.success();
    expect(readFileSync(path, "utf8")).toMatch(/<\/svg>\s*$/);
    expect(statSync(path).size).toBeLessThan(1_000_000);
  });
}, 30_000);

test("what cannot be done is told in a line, before a long log is read", async () => {
  await withScope(async (scope) => {
    const fails = async (...words: string[]): Promise<string> => {
      const exit = await kqtime(scope, ["plot", ...words], { stdin: PARSED }).exited;
      expect(exit.code).toBeGreaterThan(0);
      return exit.stderr;
    };
    expect(await fails("-o", "x.jpeg")).toBe(
      'kqtime: --output takes a name that ends in .pdf, .svg, .png, .html, not "x.jpeg"\n',
    );
    expect(await fails("--pages", "cdf")).toMatch(
      /^kqtime: --pages takes time-cdf, .*, not "cdf"\n$/,
    );
    expect(await fails("-o", join(folder, "no", "x.pdf"))).toMatch(
      /no such directory \(ENOENT\)\n$/,
    );
    const path = join(folder, "none.pdf");
    expect(await fails("-o", path, "--pages", "names")).toMatch(
      /kqtime: none of these pages has data\n$/,
    );
    expect(await fails("-o", path, join(folder, "missing.log"))).toContain(
      "missing.log cannot be read",
    );
    expect(existsSync(path)).toBe(false);
  });
}, 30_000);

test("a symbolic link is not followed, and what it points to stays", async () => {
  await withScope(async (scope) => {
    const target = join(folder, "target");
    writeFileSync(target, "keep");
    symlinkSync(target, join(folder, "link.svg"));
    const exit = await kqtime(scope, ["plot", "-o", join(folder, "link.svg")], { stdin: PARSED })
      .exited;
    expect(exit.code).toBe(125);
    expect(exit.stderr).toContain("symbolic link, which is not followed");
    expect(readFileSync(target, "utf8")).toBe("keep");
  });
}, 30_000);
