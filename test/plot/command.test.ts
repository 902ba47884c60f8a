// `kqtime plot` and tools/plot-kqtime.ts, as they are called.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { LineBuffer } from "../../src/output/line.ts";
import { EVENTS_FILE } from "../../src/session/tape.ts";
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

test("tools/plot-kqtime.ts: parsed data on standard input, kqtimes.pdf, damage told once", async () => {
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

test("what is in no picture is written under those that it concerns", async () => {
  await withScope(async (scope) => {
    const time = "start=1400000001,end=1400000001";
    const more = [
      `KQTIME-META;${time},log_min_ns=1000000,log_sample=10,log_seed=1;NULL;`,
      `KQTIME-MISS;${time},fd=3,bytes=70,off=0,pid=1,sock=1,lport=1,rport=1,dir=0,reason=0;a;`,
      "1400000003.200000 KQLEN-OUT -2.0",
      "1400000003.200000 KQLEN-IN -2.0",
      "KQTIME-OUT;cut",
      `KQTIME-LOSS;${time},ringRecords=2,capturePackets=3,tableSockets=1,logLines=4;NULL;`,
      "",
    ].join("\n");
    const drawn = async (pages: string, input: string): Promise<string[]> => {
      const path = join(folder, "small.svg");
      await kqtime(scope, ["plot", "-o", path, "--pages", pages], { stdin: input }).success();
      return svgText(path);
    };
    const isRemark = (line: string): boolean => /^(Not of|Lost in)|not in it|skipped/.test(line);
    const all = [
      "Lost in the whole run: 4 lines of the log not written; 1 socket not measured, the table was full.",
      "1 of 12 lines was damaged and skipped.",
      "1 of 12 lines was unknown and skipped.",
    ];
    const calls = [
      "Not of all calls: the log has only one in 10 of the calls that waited 1.00 ms or more.",
      "70 B without a time (KQTIME-MISS) are not in it.",
      "1 sample below zero or without a time is not in it.",
      "Lost in the whole run: 2 records dropped, the ring was full; 3 packets dropped by the capture.",
    ];
    const lengths = "2 samples below zero or without a time are not in it.";
    for (const page of ["time-cdf", "time", "hdr"]) {
      expect((await drawn(page, PARSED + more)).filter(isRemark)).toEqual([...calls, ...all]);
    }
    for (const page of ["length-cdf", "length"]) {
      expect((await drawn(page, PARSED + more)).filter(isRemark)).toEqual([lengths, ...all]);
    }
    const text = await drawn(" time-cdf, time", PARSED);
    for (const [direction, wait] of [["outbound", "1.50 ms"], ["inbound", "400 ns"]]) {
      const figures = `${direction}: 1 call, p50 ${wait}, p90 ${wait}, p99 ${wait}, max ${wait}`;
      expect(text.filter((line) => line === figures)).toHaveLength(2);
    }
    expect(text.filter((line) => /^(Not of|Lost in)/.test(line))).toEqual([]);
  });
}, 30_000);

test("a window's times count from the log's start", async () => {
  await withScope(async (scope) => {
    const path = join(folder, "window.svg");
    const words = ["plot", "-o", path, "--pages", "time,length", "--since", "+0.5s"];
    const later = PARSED.replace("1400000000.000000", "1400000000.250000");
    await kqtime(scope, words, { stdin: later }).success();
    const text = svgText(path);
    const title = "time since 2014-05-13 16:53:20.250 UTC, in";
    expect(text.filter((line) => line.startsWith(title))).toEqual([`${title} ms`, `${title} s`]);
    // One sample, one moment, between round ticks.
    const ticks = text.filter((line) => /^[\d.]+$/.test(line));
    expect(ticks).toEqual([
      "749.6", "749.8", "750", "750.2", "750.4", "0", "0", "2.4", "2.6", "2.8", "3", "3.2", "0",
    ]);
    expect(text).toContain("The one sample is drawn.");
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
    await kqtime(scope, ["plot", "-o", path, "--pages", "hdr"], { stdin: PARSED }).success();
    appendFileSync(path, "x".repeat(5_000_000));
    chmodSync(path, 0o644);
    const { size } = statSync(path);
    const nothing = await kqtime(scope, ["plot", "-o", path], { stdin: "" }).exited;
    expect([nothing.code, statSync(path).size]).toEqual([125, size]);
    expect(nothing.stderr).toBe("kqtime: no samples to plot: the input has no call with a time\n");
    const exit = kqtime(scope, ["plot", "-o", path, "--pages", "hdr"], { stdin: PARSED });
    await exit.success();
    expect(readFileSync(path, "utf8")).toMatch(/<\/svg>\s*$/);
    expect(statSync(path).size).toBeLessThan(1_000_000);
    expect(statSync(path).mode & 0o777).toBe(0o644);
  });
}, 30_000);

test("every format replaces what it has written, and nothing else; no log is its own picture", async () => {
  await withScope(async (scope) => {
    for (const end of ["pdf", "svg", "png", "html"]) {
      const path = scope.path(`picture.${end}`);
      for (const pages of ["time,hdr", "hdr"]) {
        await kqtime(scope, ["plot", "-o", path, "--pages", pages], { stdin: PARSED }).success();
      }
      const other = scope.path(`log.${end}`);
      writeFileSync(other, PARSED);
      const kept = await kqtime(scope, ["plot", "-o", other], { stdin: PARSED }).exited;
      expect([kept.code, readFileSync(other, "utf8")]).toEqual([125, PARSED]);
      expect(kept.stderr).toMatch(/exists and is no [A-Z]+ file.*: it is not overwritten: name another\n$/);
    }
    const own = scope.path("log.pdf");
    linkSync(own, scope.path("hard.pdf"));
    for (const input of [own, scope.path("hard.pdf")]) {
      const exit = await kqtime(scope, ["plot", "-o", own, input]).exited;
      expect([exit.code, readFileSync(own, "utf8")]).toEqual([125, PARSED]);
      expect(exit.stderr).toBe(
        `kqtime: "${own}" is one of the logs that are read: name another file for the output\n`,
      );
    }
    // An empty file would be replaced by any format.
    const empty = scope.path("empty.pdf");
    writeFileSync(empty, "");
    const words = ["sh", "-c", '"$0" run kqtime plot -o "$1" < "$1"', BUN, empty];
    const exit = await scope.start(words, { cwd: ROOT }).exited;
    expect(exit.stderr).toContain("is one of the logs that are read");
  });
}, 60_000);

test("a full disk leaves the picture that was there, and nothing beside it", async () => {
  await withScope(async (scope) => {
    const path = scope.path("old.svg");
    await kqtime(scope, ["plot", "-o", path, "--pages", "hdr"], { stdin: PARSED }).success();
    const old = readFileSync(path);
    const files = readdirSync(dirname(path));
    // Files may not grow beyond 64 KiB: a write fails as on a full disk, with another errno.
    const limited = 'trap "" XFSZ; ulimit -f 128; exec "$0" run kqtime plot -o "$1"';
    const exit = await scope.start(["sh", "-c", limited, BUN, path], { stdin: PARSED, cwd: ROOT }).exited;
    expect(exit.code).toBe(125);
    expect(exit.stderr).toContain("cannot be written: the file may not grow further (EFBIG)\n");
    expect(readFileSync(path).equals(old)).toBe(true);
    expect(readdirSync(dirname(path))).toEqual(files);
  });
}, 60_000);

test("a signal leaves nothing", async () => {
  await withScope(async (scope) => {
    const pipe = scope.path("pipe");
    await scope.run(["mkfifo", pipe]);
    const files = readdirSync(dirname(pipe));
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const running = kqtime(scope, ["plot", "-o", scope.path("big.pdf"), pipe]);
      // The log is opened after the picture was begun.
      const input = await open(pipe, "w");
      running.kill(signal);
      expect((await running.exited).signal).toBe(signal);
      await input.close();
      expect(readdirSync(dirname(pipe))).toEqual(files);
    }
  });
}, 60_000);

test("what cannot be done is told in a line, before a long log is read", async () => {
  await withScope(async (scope) => {
    const fails = async (...words: string[]): Promise<string> => {
      const exit = await kqtime(scope, ["plot", ...words], { stdin: PARSED }).exited;
      expect(exit.code).toBeGreaterThan(0);
      return exit.stderr;
    };
    expect(await fails("-o", "x.jpeg")).toBe(
      'kqtime: --output takes a name that ends in .pdf, .svg, .png, .html, which tells the format, not "x.jpeg"\n',
    );
    expect(await fails("-o", "/dev/stdout")).toContain('which tells the format, not "/dev/stdout"\n');
    expect(await fails("--pages", "time, cdf")).toMatch(
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
    const sock = ["-o", path, "--socket", "1"];
    const file = `kqtime: --socket takes the folder of \`kqtime run --record\`, not a file as ${log}\n`;
    expect(await fails(...sock, log)).toBe(file);
    expect(await fails(...sock)).toContain("--socket takes one folder of `kqtime run --record`");
    expect(await fails(...sock, join(folder, "missing"))).toContain("missing holds no recording");
    expect(await fails("-o", path, folder)).toBe(
      `kqtime: ${folder} is a folder: name the logs in it\n`,
    );
    const recording = join(folder, "rec");
    mkdirSync(recording);
    writeFileSync(join(recording, EVENTS_FILE), "");
    expect(await fails("-o", path, recording)).toBe(
      `kqtime: ${recording} is a recording: draw one of its sockets with --socket N, or plot its ` +
        `log, which kqtime replay --log FILE ${recording} makes\n`,
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
