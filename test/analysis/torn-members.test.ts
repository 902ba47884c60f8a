// A compressed log that was torn in its middle: its writer was killed inside a write, another one wrote
// on. What stands before the tear and every whole member are read, to the byte; and lies cost no more.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { constants, gzipSync, inflateRawSync } from "node:zlib";
import { Input } from "../../src/analysis/input.ts";
import { MEMBER_HEADER_BYTES, MEMBER_SIGNATURE, MemberEncoder } from "../../src/ffi/zlib.ts";
import { LineBuffer } from "../../src/output/line.ts";
import { Scope } from "../lib/process.ts";
import { collect } from "../lib/read-log.ts";
import { random, SyntheticLog } from "../lib/synthetic-log.ts";

const TEXT_BYTES = 1 << 20;
const LENGTH_AT = MEMBER_SIGNATURE.length;

let scope: Scope;
let encoder: MemberEncoder;
beforeAll(() => {
  scope = new Scope();
  encoder = new MemberEncoder(TEXT_BYTES, 1);
});
afterAll(() => {
  encoder.close();
  scope.end();
});

interface Member {
  readonly text: Uint8Array;
  readonly bytes: Uint8Array;
}

function member(seed: number, textBytes: number): Member {
  const lines = new LineBuffer(textBytes, 1700000000);
  new SyntheticLog(seed).fill(lines);
  const text = new Uint8Array(lines.bytes.slice(0, lines.length));
  return { text, bytes: encoder.output.slice(0, encoder.encode(text, text.length)) };
}

/** The text of a member's first bytes; of the last one or two of its characters libraries differ. */
function textOf(head: Uint8Array): Uint8Array {
  if (head.length <= MEMBER_HEADER_BYTES) return new Uint8Array(0);
  return inflateRawSync(head.subarray(MEMBER_HEADER_BYTES), { finishFlush: constants.Z_SYNC_FLUSH });
}

function announce({ bytes }: Member, length: number): Uint8Array {
  const lying = bytes.slice();
  new DataView(lying.buffer).setUint32(LENGTH_AT, length, true);
  return lying;
}

function newlines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}

/** Reads a file made of `parts`: the text and what is said of it. */
function read(...parts: Uint8Array[]): { path: string; text: Buffer; problems: string[] } {
  const path = scope.path("torn.log.gz");
  writeFileSync(path, Buffer.concat(parts));
  const input = new Input(path);
  const pieces: Uint8Array[] = [];
  const buffer = new Uint8Array(new ArrayBuffer(100_003));
  for (let count = 1; count > 0; ) {
    count = input.read(buffer, 0, buffer.length);
    pieces.push(buffer.slice(0, count));
  }
  input.close();
  return { path, text: Buffer.concat(pieces), problems: input.problems };
}

function expectTear(before: readonly Member[], one: Member, cut: number, behind: readonly Member[]): void {
  const torn = one.bytes.subarray(0, cut);
  const { path, text, problems } = read(
    ...before.map(({ bytes }) => bytes), torn, ...behind.map(({ bytes }) => bytes),
  );
  const [first, last] = [before, behind].map((some) => Buffer.concat(some.map((whole) => whole.text)));
  const head = one.text.subarray(0, text.length - first!.length - last!.length);
  const whole = Buffer.concat([first!, head, last!]);
  expect(head.length - textOf(torn).length).toBeWithin(0, 3);
  expect([cut, text.length, text.equals(whole)]).toEqual([cut, whole.length, true]);
  const at = before.reduce((sum, { bytes }) => sum + bytes.length, cut).toLocaleString("en");
  expect(problems.length).toBe(1);
  expect(problems[0]).toContain(`is damaged near byte ${at} (a part was torn there): reading goes on`);
  const { result } = collect(path);
  const isCutLine = head.length > 0 && head[head.length - 1] !== 10;
  expect(result).toMatchObject({ lines: newlines(whole), damaged: isCutLine ? 1 : 0 });
}

test("torn behind each byte of a small member, at the start and in the middle of a log", () => {
  // The next one is longer than the torn one: no member begins where that was to end.
  const [a, torn, b, c] = [member(1, 700), member(2, 900), member(3, 1500), member(4, 700)];
  for (let at = 1; at < torn.bytes.length; at++) {
    expectTear([], torn, at, [b, c]);
    expectTear([a], torn, at, [b, c]);
  }
});

test("torn anywhere in members of any size", () => {
  const next = random(5);
  const whole = [300, 5_000, 60_000, 400_000, TEXT_BYTES].map((bytes, i) => member(10 + i, bytes));
  for (let round = 0; round < 20; round++) {
    const torn = whole[next() % whole.length]!;
    const before = whole.slice(next() % whole.length);
    const behind = [...whole.slice(next() % whole.length), ...whole];
    expectTear(before, torn, 1 + (next() % (torn.bytes.length - 1)), behind);
  }
});

test("torn many times, one behind the other, and cut off at the end", () => {
  const next = random(6);
  const parts: Uint8Array[] = [];
  const intact: Uint8Array[] = [];
  for (let n = 0; n < 60; n++) {
    const { bytes, text } = member(100 + n, 2000 + (next() % 60_000));
    const isTorn = n === 59 || next() % 2 === 0;
    const part = isTorn ? bytes.subarray(0, 1 + (next() % (bytes.length - 1))) : bytes;
    parts.push(part);
    if (!isTorn) intact.push(text);
  }
  const { text, problems } = read(...parts);
  for (const whole of intact) expect(text.includes(whole)).toBe(true);
  expect(problems.at(-2)).toMatch(/is damaged in more places/);
  expect(problems.at(-1)).toMatch(/is cut off in the middle/);
});

test("a torn member and whole ones that make up for what it lacks", () => {
  const torn = member(20, 100_000);
  // The rest of the torn one is as long as the next two are: a member begins where it was to end.
  const behind = [member(21, 20_000), member(22, 20_000), member(23, 20_000)];
  const rest = behind[0]!.bytes.length + behind[1]!.bytes.length;
  const { path, text, problems } = read(
    torn.bytes.subarray(0, torn.bytes.length - rest), ...behind.map(({ bytes }) => bytes),
  );
  const intact = Buffer.concat(behind.map((one) => one.text));
  expect(text.subarray(text.length - intact.length).equals(intact)).toBe(true);
  expect(problems.length).toBe(1);
  const lines = newlines(intact) + newlines(textOf(torn.bytes.subarray(0, torn.bytes.length - rest)));
  const { result } = collect(path);
  expect(result.lines).toBeGreaterThanOrEqual(lines);
  expect(result.damaged).toBeGreaterThan(0);
});

test("a whole member whose bytes hold a member's signature", () => {
  // Stored, not compressed: its text stands in it as it is.
  const lines = member(30, 20_000);
  const stored = new MemberEncoder(TEXT_BYTES, 0);
  const text = new Uint8Array(Buffer.concat([lines.text, lines.bytes, lines.text]));
  const bytes = stored.output.slice(0, stored.encode(text, text.length));
  stored.close();
  expect(Buffer.from(bytes).indexOf(lines.bytes)).toBeGreaterThan(0);
  const after = member(31, 20_000);
  for (const behind of [[], [after.bytes], [gzipSync(after.text)]]) {
    const said = read(bytes, ...behind);
    expect(said.problems).toEqual([]);
    expect(said.text.equals(Buffer.concat(behind.length > 0 ? [text, after.text] : [text]))).toBe(true);
  }
});

test("lengths that lie", () => {
  const [a, b, c] = [member(40, 30_000), member(41, 30_000), member(42, 30_000)];
  const whole = Buffer.concat([a.text, b.text, c.text]);
  const size = b.bytes.length;
  for (const length of [0, 1, 19, 20, size - 1, size + 1, size + 1000, 2 << 20, (2 << 20) + 1, 2 ** 32 - 1]) {
    const said = read(a.bytes, announce(b, length), c.bytes);
    expect([length, said.problems, said.text.equals(whole)]).toEqual([length, [], true]);
  }
  // The end of the next member, where another one begins.
  expect(read(a.bytes, announce(b, size + c.bytes.length), c.bytes, a.bytes)).toMatchObject({
    problems: [], text: Buffer.concat([whole, a.text]),
  });
});

test("a damaged member costs none behind it, whatever they look like", () => {
  const [a, b, c] = [member(50, 30_000), member(51, 200_000), member(52, 30_000)];
  for (const at of [MEMBER_HEADER_BYTES, b.bytes.length >> 1, b.bytes.length - 5]) {
    const hurt = b.bytes.slice();
    hurt[at]! ^= 0x16;
    for (const behind of [c.bytes, gzipSync(c.text)]) {
      const { text, problems } = read(a.bytes, hurt, behind, a.bytes);
      const intact = Buffer.concat([c.text, a.text]);
      expect(text.subarray(text.length - intact.length).equals(intact)).toBe(true);
      expect(problems.join("\n")).toMatch(/is damaged near byte/);
    }
  }
});

test("headers that all claim to be long members cost no more than a second look", () => {
  // Behind each header a stored block begins, and where it ends the next one: each can be decompressed
  // to the end, where a member begins as all of them say, and none is whole.
  const PERIOD = 29;
  const BLOCK = [0, 0xff, 0xff, 0, 0];
  expect((BLOCK.length + 0xffff) % PERIOD).toBe(0);
  const bytes = new Uint8Array(72_000 * PERIOD);
  for (let at = 0; at < bytes.length; at += PERIOD) {
    bytes.set([...MEMBER_SIGNATURE, 0, 0, 0, 0, ...BLOCK], at);
    new DataView(bytes.buffer).setUint32(at + LENGTH_AT, bytes.length - at, true);
  }
  const after = member(60, 3000);
  const { text, problems } = read(bytes, after.bytes);
  expect(text.length).toBeWithin(bytes.length, 2 * bytes.length + after.text.length);
  expect(text.includes(after.text)).toBe(true);
  expect(problems.length).toBe(6);
});
