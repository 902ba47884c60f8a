// What a log may be wrapped in: compressed in three ways, in several parts, cut off, damaged, a bomb.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, writeFileSync } from "node:fs";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { Input } from "../../src/analysis/input.ts";
import { LineBuffer } from "../../src/output/line.ts";
import { collect } from "../lib/read-log.ts";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import { Scope } from "../lib/process.ts";
import { SyntheticLog } from "../lib/synthetic-log.ts";

let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

function xz(bytes: Uint8Array): Uint8Array {
  return Bun.spawnSync(["xz", "-c"], { stdin: bytes }).stdout;
}

const FORMATS: [string, (bytes: Uint8Array) => Uint8Array, string | null][] = [
  ["plain", (bytes) => bytes, null],
  ["gzip", (bytes) => gzipSync(bytes), null],
  ["zstd", (bytes) => zstdCompressSync(bytes), null],
  ["xz", xz, reason(lacks("xz"))],
];

function logText(seed: number, bytes = 400000): Uint8Array {
  const text = new LineBuffer(bytes, 1700000000);
  new SyntheticLog(seed).fill(text);
  return text.bytes.slice(0, text.length);
}

function linesOf(bytes: Uint8Array): number {
  return bytes.reduce((count, byte) => count + (byte === 10 ? 1 : 0), 0);
}

/** All that an input holds, read in pieces of `room` bytes. */
function readAll(path: string, room: number): { bytes: Uint8Array; problems: string[] } {
  const input = new Input(path);
  const buffer = new Uint8Array(new ArrayBuffer(room));
  const parts: Uint8Array[] = [];
  for (let count = 1; count > 0; ) {
    count = input.read(buffer, 0, room);
    parts.push(buffer.slice(0, count));
  }
  input.close();
  return { bytes: Buffer.concat(parts), problems: input.problems };
}

for (const [name, compress, why] of FORMATS) {
  testUnless(why, `${name}: in one part and in several, whatever the name, in pieces of any size`, () => {
    const [a, b] = [logText(1), logText(2)];
    const path = scope.path(`${name}-parts.log`);
    writeFileSync(path, Buffer.concat([compress(a), compress(b), compress(new Uint8Array(0))]));
    const whole = Buffer.concat([a, b]);
    for (const room of [1 << 20, 65536, 4093]) {
      const { bytes, problems } = readAll(path, room);
      expect(problems).toEqual([]);
      expect(Buffer.compare(bytes, whole)).toBe(0);
    }
    expect(collect(path).result).toMatchObject({ lines: linesOf(whole), damaged: 0, problems: [] });
  });

  testUnless(why, `${name}: cut off anywhere, what can be read is read, and the cut is told`, () => {
    const text = logText(3);
    const packed = compress(text);
    for (const share of [0.001, 0.3, 0.77, 0.999]) {
      const path = scope.path(`${name}-cut.log`);
      writeFileSync(path, packed.subarray(0, Math.max(8, Math.floor(packed.length * share))));
      const { bytes, problems } = readAll(path, 65536);
      expect(Buffer.compare(bytes, text.subarray(0, bytes.length))).toBe(0);
      // The libraries keep back what is not decided yet: a block at most.
      expect(bytes.length).toBeGreaterThanOrEqual(0.9 * share * text.length - 140000);
      if (name !== "plain") expect(problems.join()).toMatch(/is cut off in the middle/);
    }
  });
}

for (const [name, compress, why] of FORMATS.slice(1)) {
  testUnless(why, `${name}: a part that is cut or damaged costs no other part`, () => {
    const parts = [logText(4), logText(5), logText(6)];
    const packed = parts.map(compress);
    const path = scope.path(`${name}-damaged.log`);
    const lines = parts.map(linesOf);
    // Cut in the middle, and appended to.
    writeFileSync(path, Buffer.concat([packed[0]!, packed[1]!.subarray(0, packed[1]!.length >> 1), packed[2]!]));
    const cut = collect(path).result;
    // What stands before the damage is read, too, but for a block at most.
    const least = lines[0]! + lines[2]! + Math.floor(0.2 * lines[1]!);
    expect(cut.lines).toBeGreaterThanOrEqual(least);
    expect(cut.lines).toBeLessThanOrEqual(lines[0]! + lines[1]! + lines[2]!);
    expect(cut.problems.join("\n")).toMatch(/is damaged near byte [\d,]+ .*reading goes on with the next/);
    // Overwritten in the middle.
    const hurt = packed[1]!.slice();
    hurt.fill(0x55, hurt.length >> 1, (hurt.length >> 1) + 3000);
    writeFileSync(path, Buffer.concat([packed[0]!, hurt, packed[2]!]));
    const overwritten = collect(path).result;
    expect(overwritten.lines).toBeGreaterThanOrEqual(least);
    expect(overwritten.problems.join("\n")).toMatch(/is damaged near byte/);
    // Something else behind the last part.
    writeFileSync(path, packed[0]!);
    appendFileSync(path, "that is no compressed data at all");
    const tail = collect(path).result;
    expect(tail.lines).toBe(lines[0]!);
    expect(tail.problems.join()).toMatch(/nothing behind it can be read/);
  });
}

test("an empty file, compressed or not, is an empty log", () => {
  for (const bytes of [new Uint8Array(0), gzipSync(""), zstdCompressSync("")]) {
    const path = scope.path("empty.log");
    writeFileSync(path, bytes);
    expect(collect(path).result).toMatchObject({ lines: 0, damaged: 0, problems: [] });
  }
});

test("what cannot be read says why, and what to do", () => {
  const path = scope.path("log.bz2");
  writeFileSync(path, "BZh91AY&SY");
  expect(() => collect(path)).toThrow(/compressed with bzip2: bzip2 -dc /);
  expect(() => collect(scope.path("none.log"))).toThrow(/none.log cannot be read: no such/);
  expect(() => collect("/")).toThrow(/"\/" is a folder/);
  const other = scope.path("other.json");
  writeFileSync(other, "{\n}\n");
  expect(() => collect(other)).toThrow(/holds no line of a kqtime log: name a log/);
});
