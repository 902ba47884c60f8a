// What the tests of the log share.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";

export const BASE_SEC = 1732345678;
const LABEL = encodeName("out:443");

/** Runs `body` in a new folder that is gone afterwards. */
export async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-log-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function openLog(path: string, messages: string[] = []): Log {
  return Log.open(path, { baseSec: BASE_SEC, onError: (message) => messages.push(message) });
}

/** Writes outbound lines whose `off` counts from `first`. */
export function writeLines(log: Log, count: number, first = 0): void {
  for (let line = first; line < first + count; line++) {
    const end = line * 1000 + (Math.imul(line, 2654435761) >>> 8);
    log.call(0, line * 1000, end, end, 0, 1448, line, 77, 5, 1, 40000, 443, LABEL);
  }
}

/** The lines of a log, through zcat if it is compressed. */
export function readLines(path: string): string[] {
  const text = path.endsWith(".gz") ? zcat(path).text : readFileSync(path, "utf8");
  return text.split("\n").filter((line) => line !== "");
}

export function zcat(path: string): { text: string; status: number; stderr: string } {
  const result = spawnSync("gzip", ["-dc", path], { maxBuffer: 2 ** 30, encoding: "utf8" });
  return { text: result.stdout, status: result.status ?? -1, stderr: result.stderr };
}

/** The value of `key` in a line, as the ancestor's parser takes it. */
export function field(line: string, key: string): number {
  const pairs = line.split(";")[1]!.split(",").map((pair) => pair.split("="));
  return Number(new Map(pairs as [string, string][]).get(key) ?? Number.NaN);
}

/** `off` of each line: which lines there are, in their order. */
export function offsets(lines: readonly string[]): number[] {
  return lines.map((line) => field(line, "off"));
}

export function counting(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
