// How fast a log is read: `kqtime parse` on a made-up log of 180 bytes a line, plain and compressed,
// its output thrown away, the start of the program included. MB are those of the log's text.

import { closeSync, openSync, writeSync } from "node:fs";
import { LineBuffer } from "../../src/output/line.ts";
import { SyntheticLog } from "../../test/lib/synthetic-log.ts";
import { withScope } from "../../test/lib/process.ts";
import { type Bench, KQTIME } from "./bench.ts";
import { spread } from "./stats.ts";

const TARGET_MB_S = 200;
const MB = 1e6;
/** Name, the program that compresses, and what it appends to the file's name. */
const FORMATS = [
  ["plain", null, ""],
  ["gzip -1", ["gzip", "-1", "-k"], ".gz"],
  ["zstd", ["zstd", "-q", "-k"], ".zst"],
  ["xz -1", ["xz", "-1", "-k", "-T0"], ".xz"],
] as const;

/** Writes a log of about `mib` MiB; returns its length in bytes. */
function writeLog(path: string, mib: number, seed: number): number {
  const fd = openSync(path, "w");
  const text = new LineBuffer(1 << 20, 1700000000);
  const log = new SyntheticLog(seed);
  let bytes = 0;
  for (let i = 0; i < mib; i++) {
    text.length = 0;
    log.fill(text);
    bytes += writeSync(fd, text.bytes, 0, text.length);
  }
  closeSync(fd);
  return bytes;
}

export async function benchParse(bench: Bench): Promise<void> {
  await withScope(async (scope) => {
    const path = scope.path("parse.log");
    const mib = bench.quick ? 100 : 400;
    const bytes = writeLog(path, mib, Math.floor(bench.random() * 2 ** 31));
    const runs = bench.pairs ?? (bench.quick ? 3 : 10);
    for (const [name, pack, suffix] of FORMATS) {
      if (pack !== null && Bun.which(pack[0]) === null) continue;
      if (pack !== null) await scope.run([...pack, path]);
      const file = path + suffix;
      const rates: number[] = [];
      const cores: number[] = [];
      for (let run = 0; run < runs; run++) {
        const began = performance.now();
        const child = Bun.spawn([KQTIME, "parse", file], { stdout: "ignore", stderr: "inherit" });
        if ((await child.exited) !== 0) throw new Error(`kqtime parse ${file} failed`);
        const ms = performance.now() - began;
        rates.push(bytes / MB / (ms / 1000));
        cores.push(Number(child.resourceUsage()!.cpuTime.total) / 1000 / ms);
      }
      const target = pack === null ? { target: { sign: ">=" as const, value: TARGET_MB_S } } : {};
      bench.report.add("parse", `log text, ${name}`, "MB/s", spread(rates), { digits: 0, ...target });
      if (pack !== null) continue;
      bench.report.add("parse", "… processors used", "", spread(cores), { digits: 2 });
    }
  });
}
