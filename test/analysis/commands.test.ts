// The commands that read logs, as they are called: outputs, errors, pipes, memory.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync, closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { LineBuffer } from "../../src/output/line.ts";
import { BUN, kqtime, ROOT } from "../lib/kqtime.ts";
import { peakOf } from "../lib/peak.ts";
import { isLinux, lacks, reason, testUnless } from "../lib/requires.ts";
import { withScope } from "../lib/process.ts";
import { SyntheticLog } from "../lib/synthetic-log.ts";

const LOG = [
  "KQTIME-OUT;start=1400000000.000000000,end=1400000000.001500000,fd=3,bytes=10;a;",
  "KQTIME-IN;start=1400000000.999999600,end=1400000001.000000000,fd=3;b;",
  "damaged;",
  "KQTIME-OUT;start=1400000002.500000000,end=1400000002.400000000,fd=3;NULL;",
  "KQTIME-MISS;start=1400000002.5,end=1400000002.5,fd=3,bytes=1,off=0,pid=1,sock=1,lport=1,rport=1,dir=0,reason=0;a;",
  "KQTIME-STATS;start=1400000003.1,end=1400000003.2,num_fds=2;fd=3,snd_len=2,rcv_len=40;fd=4,snd_len=3,rcv_len=50;",
  "KQTIME-BOOKS;start=1,end=2,dir=0;a;",
  "",
].join("\n");
const PARSED = [
  "1400000000.000000 KQTIME-OUT 1.5",
  "1400000001.000000 KQTIME-IN 0.0004",
  "1400000002.500000 KQTIME-OUT -100.0",
  "1400000003.100000 KQLEN-OUT 5.0",
  "1400000003.100000 KQLEN-IN 90.0",
  "",
].join("\n");

let folder: string;
let log: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kqtime-commands-"));
  log = join(folder, "kqtime.log");
  writeFileSync(log, LOG);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("parse prints a line a sample, as the ancestor's parser did", async () => {
  await withScope(async (scope) => {
    const exit = await kqtime(scope, ["parse", log]).success();
    expect(exit.stdout).toBe(PARSED);
    expect(exit.stderr).toBe(`kqtime: ${log}: 1 line damaged and skipped, 6 read\n`);
  });
});

test("tools/parse-kqtime.ts is that parser: standard input, compressed or not, and what it made itself", async () => {
  await withScope(async (scope) => {
    const words = [BUN, join(ROOT, "tools", "parse-kqtime.ts")];
    const exit = await scope.start(words, { stdin: LOG }).success();
    expect(exit.stdout).toBe(PARSED);
    const again = await scope.start(words, { stdin: PARSED }).success();
    expect([again.stdout, again.stderr]).toEqual([PARSED, ""]);
    const packed = Bun.spawn(words, { stdin: gzipSync(LOG), stdout: "pipe", stderr: "ignore" });
    expect(await new Response(packed.stdout).text()).toBe(PARSED);
    expect(await packed.exited).toBe(0);
  });
});

test("several logs, standard input among them, are read as they are named", async () => {
  await withScope(async (scope) => {
    const other = join(folder, "other.log");
    writeFileSync(other, "1400000009.000000 KQTIME-IN 7.0\n");
    const line = "1400000009.000000 KQTIME-IN 7.0\n";
    const exit = await kqtime(scope, ["parse", other, "-"], { stdin: PARSED }).success();
    expect([exit.stdout, exit.stderr]).toEqual([line + PARSED, ""]);
  });
});

test("a reader that leaves ends the work, quietly", async () => {
  const big = join(folder, "big.log");
  const text = new LineBuffer(1 << 23, 1700000000);
  new SyntheticLog(1).fill(text);
  writeFileSync(big, text.bytes.subarray(0, text.length));
  const script = `"$0" run kqtime parse "$1" | head -n 2; echo "\${PIPESTATUS[0]}"`;
  const child = Bun.spawnSync(["bash", "-c", script, BUN, big], { cwd: ROOT });
  expect(child.stderr.toString()).toBe("");
  expect(child.stdout.toString()).toMatch(/^(1700000000\.\d{6} KQTIME-(OUT|IN) \d+\.\d+\n){2}0\n$/);
});

test("a full disk is told", async () => {
  const script = `"$0" run kqtime parse "$1" > /dev/full`;
  const child = Bun.spawnSync(["bash", "-c", script, BUN, log], { cwd: ROOT });
  expect(child.exitCode).toBe(125);
  expect(child.stderr.toString()).toMatch(/^kqtime: standard output cannot be written: .*ENOSPC/m);
});

test("a command line that is not understood is 2, what cannot be done 125, in one line", async () => {
  const parquet = join(folder, "x.parquet");
  const cases: [string[], number, RegExp][] = [
    [["parse", join(folder, "none")], 125, /none cannot be read: there is no such file \(ENOENT\)/],
    [["parse", "-", "-"], 2, /standard input \(-\) can be read once/],
    [["parse", "--fast", log], 2, /unknown option --fast/],
    [["report", "--by", "colour", log], 2, /--by takes label, name, socket, not "colour"/],
    [["report", "--since", "yesterday", log], 2, /--since takes a time as .* not "yesterday"/],
    [["report", "--json", "--csv", log], 2, /--json or --csv/],
    [["report", "--since", "+1h", log], 125, /holds no call in this window/],
    [["compare", log], 2, /compare needs two logs: kqtime compare A B, or /],
    [["compare", "--", log], 2, /compare needs two logs/],
    [["compare", "-", log, "--", log, "-"], 2, /can be read once/],
    [["report", log, "--", log], 2, /report takes no command/],
    [["compare", "-", "-"], 2, /can be read once/],
    [["compare", "--block", "0", log, log], 2, /--block takes a length of time/],
    [["compare", log, log, log], 2, /takes two logs: .* A1 A2 -- B1 B2/],
    [["export", log], 2, /export needs --parquet/],
    [["export", "--parquet", log], 125, /exists and is no Parquet file: it is not overwritten/],
    [["export", "--parquet", parquet, join(folder, "none")], 125, /none cannot be read/],
  ];
  await withScope(async (scope) => {
    for (const [words, code, pattern] of cases) {
      const exit = await kqtime(scope, words).exit();
      expect([words, exit.code]).toEqual([words, code]);
      expect(exit.stderr).toMatch(pattern);
      expect(exit.stderr).not.toMatch(/^\s+at /m);
      expect(exit.stdout).toBe("");
    }
    expect(readFileSync(log, "utf8")).toBe(LOG);
    expect(await Bun.file(parquet).exists()).toBe(false);
  });
});

test("a log without a call is 125 of every command that tells of calls, and replaces nothing", async () => {
  const empty = join(folder, "empty.log");
  writeFileSync(empty, "");
  const parquet = join(folder, "kept.parquet");
  const fresh = join(folder, "fresh.parquet");
  await withScope(async (scope) => {
    await kqtime(scope, ["export", "--parquet", parquet, log]).success();
    const before = readFileSync(parquet);
    const window = ["--since", "+1h", log];
    for (const [words, what] of [
      [["report", empty], "call"], [["report", "--json", empty], "call"],
      [["report", "--csv", ...window], "call in this window"],
      [["compare", empty, log], "call"], [["export", "--parquet", parquet, empty], "sample"],
      [["export", "--parquet", fresh, ...window], "sample in this window"],
    ] as const) {
      const exit = await kqtime(scope, [...words]).exit();
      expect([words, exit.code, exit.stdout]).toEqual([words, 125, ""]);
      expect(exit.stderr).toContain(`.log holds no ${what}`);
    }
    expect(readFileSync(parquet)).toEqual(before);
    expect(await Bun.file(fresh).exists()).toBe(false);
    expect((await kqtime(scope, ["parse", empty]).success()).stdout).toBe("");
  });
});

test("a Parquet file is replaced when the new one is whole, and only by one", async () => {
  const cut = join(folder, "cut.log.gz");
  const target = join(folder, "replaced.parquet");
  await withScope(async (scope) => {
    await kqtime(scope, ["export", "--parquet", target, log]).success();
    chmodSync(target, 0o640);
    const before = readFileSync(target);
    // Fails behind its first row group: the folder that comes last cannot be read.
    writeFileSync(cut, Bun.gzipSync(LOG.repeat(70000)));
    const failed = await kqtime(scope, ["export", "--parquet", target, cut, folder]).exit();
    expect([failed.code, failed.stderr]).toEqual([125, expect.stringContaining("is a folder")]);
    expect(readFileSync(target)).toEqual(before);
    // Nor does it come before the end: a reader that opened the old one goes on with it.
    const held = openSync(target, "r");
    await kqtime(scope, ["export", "--parquet", target, cut]).success();
    expect(readFileSync(held)).toEqual(before);
    closeSync(held);
    expect(readFileSync(target).length).toBeGreaterThan(before.length);
    expect(statSync(target).mode & 0o777).toBe(0o640);
    const fifo = join(folder, "fifo.parquet");
    expect(Bun.spawnSync(["mkfifo", fifo]).exitCode).toBe(0);
    const link = join(folder, "link.parquet");
    symlinkSync(target, link);
    for (const path of [fifo, link, folder, "/dev/stdout", "/dev/null"]) {
      const exit = await kqtime(scope, ["export", "--parquet", path, log]).exit();
      expect([path, exit.code, exit.stdout]).toEqual([path, 125, ""]);
      const isLink = path === link || path === "/dev/stdout";
      const what = isLink ? "a symbolic link, which is not followed" : "no regular file";
      expect(exit.stderr).toBe(`kqtime: "${path}" is ${what}: name another\n`);
    }
    expect(readdirSync(folder).filter((name) => name.includes(".part-"))).toEqual([]);
  });
}, 60_000);

test("a report for people: one sample is one, and no name is told as such", async () => {
  const path = join(folder, "unnamed.log");
  const call = (name: string) => `KQTIME-OUT;start=1400000002.5,end=1400000002.6,fd=3,bytes=9;${name};\n`;
  const stats = "KQTIME-STATS;start=1400000003.1,end=1400000003.2,num_fds=1;fd=3,snd_len=2,rcv_len=40;\n";
  writeFileSync(path, call("") + call("relay") + call("NULL") + stats);
  await withScope(async (scope) => {
    const { stdout } = await kqtime(scope, ["report", path]).success();
    expect(stdout).toContain("max 2 B (1 sample)\n");
    // Written in both ways, they are the same.
    expect(stdout.match(/^\(no name\).*$/gm)).toEqual([expect.stringMatching(/^\(no name\) +\d+ +2 /)]);
    expect(stdout).not.toContain("NULL");
    const csv = await kqtime(scope, ["report", "--csv", path]).success();
    expect(csv.stdout).toMatch(/^NULL,out,/m);
  });
});

test("a log that has lines for some calls only is told for such", async () => {
  const chosen = join(folder, "chosen.log");
  const meta = (more: string) => `KQTIME-META;start=1.5,end=1.5,${more},log_seed=7;NULL;\n`;
  const call = LOG.slice(0, LOG.indexOf("\n") + 1);
  await withScope(async (scope) => {
    const told = async (text: string) => {
      writeFileSync(chosen, text + call);
      const exit = await kqtime(scope, ["report", "--json", chosen]).success();
      const { lineChoices, damagedLines } = JSON.parse(exit.stdout).report;
      return [exit.stderr.replaceAll(chosen, "LOG"), lineChoices, damagedLines];
    };
    const both = await told(meta("log_min_ns=5000000,log_sample=10"));
    expect(both[0]).toMatch(/^kqtime: LOG: lines only for one in 10 of the calls that waited 5.00 ms or more:/);
    expect(both.slice(1)).toEqual([[{ minWaitNs: 5e6, oneIn: 10 }], 0]);
    expect(await told(meta("log_min_ns=0,log_sample=1"))).toEqual(["", [], 0]);
    expect((await told(meta("log_min_ns=x,log_sample=1")))[2]).toBe(1);

    // All files of a rotated log begin with the same line: it is told once.
    const parts = ["chosen.log.2", "chosen.log.1", "other.log"].map((name) => join(folder, name));
    const sampled = meta("log_min_ns=0,log_sample=10");
    for (const part of parts) writeFileSync(part, sampled + call);
    writeFileSync(parts[2]!, meta("log_min_ns=0,log_sample=20") + call);
    const exit = await kqtime(scope, ["report", "--json", ...parts]).success();
    const told10 = `kqtime: ${parts[0]} and 1 more: lines only for one in 10 of the calls:`;
    const told20 = `kqtime: ${parts[2]}: lines only for one in 20 of the calls:`;
    expect(exit.stderr.split("\n").map((line) => line.split(" what is")[0])).toEqual([told10, told20, ""]);
    const oneIn = (n: number) => ({ minWaitNs: 0, oneIn: n });
    expect(JSON.parse(exit.stdout).report.lineChoices).toEqual([oneIn(10), oneIn(20)]);
  });
});

test("help tells each command's options, and their limits", async () => {
  await withScope(async (scope) => {
    for (const [command, option] of [
      ["parse", "kqtime parse [log…]"], ["report", "--since <time>"], ["compare", "--block <time>"],
      ["export", "--parquet <file>"], ["compare", "<a…> -- <b…>"], ["run", "JSON; at least 0.25"],
      ["run", "queue lengths, at least 0.25"], ["run", "2G; at least 64k"], ["run", "n up to 1"],
      ["attach", "included; at least 2"],
    ]) {
      const exit = await kqtime(scope, [command!, "--help"]).success();
      expect(exit.stdout).toContain(option!);
      expect(exit.stdout).toContain("Exit codes:");
    }
  });
});

const MEMORY_MIB = 200;

/** The peak of a command that is given a made-up log of `mib` MiB, in MiB. */
async function peakMib(words: readonly string[], mib: number): Promise<number> {
  const text = new LineBuffer(1 << 20, 1700000000);
  const synthetic = new SyntheticLog(3);
  const peak = await peakOf([BUN, "run", "kqtime", ...words], ROOT, async (stdin) => {
    for (let i = 0; i < mib; i++) {
      text.length = 0;
      synthetic.fill(text);
      stdin.write(text.bytes.subarray(0, text.length));
      await stdin.flush();
    }
  });
  expect(peak.code).toBe(0);
  return peak.mib;
}

testUnless(reason(!isLinux && "needs Linux"), "300 MB of log take no more memory than 30 MB", async () => {
  for (const words of [["parse"], ["report", "--json"], ["report", "--json", "--by", "socket"]]) {
    const small = await peakMib(words, 30);
    const large = await peakMib(words, 300);
    expect(small).toBeLessThan(MEMORY_MIB);
    expect([words, large < small + 32]).toEqual([words, true]);
  }
}, 60_000);

testUnless(reason(!isLinux && "needs Linux", lacks("xz")), "a decompression bomb costs time, not memory", async () => {
  const bomb = join(folder, "bomb.xz");
  const script = `head -c 600000000 /dev/zero | xz -0 > "$0"`;
  expect(Bun.spawnSync(["bash", "-c", script, bomb]).exitCode).toBe(0);
  const peak = await peakOf([BUN, "run", "kqtime", "parse", log, bomb], ROOT);
  expect(peak.stderr).toMatch(/bomb.xz holds no line of a kqtime log/);
  expect(peak.mib).toBeLessThan(MEMORY_MIB);
}, 60_000);
