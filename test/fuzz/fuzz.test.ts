// A short run of each fuzzer, what earlier ones found, and that they find at all. Longer ones:
// tools/fuzz.ts, and with planted faults tools/fuzz-planted.ts.

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "../match/random.ts";
import { FrameFuzzer, frameOf } from "./frames.ts";
import { FUZZERS } from "./fuzzers.ts";
import { failureOf, type Fuzzer, fuzz, inputOf, must } from "./harness.ts";
import { PLANTED } from "./planted.ts";

const SEED = 20;
/** Some seconds each. */
const INPUTS: Readonly<Record<string, number>> = {
  frames: 150_000, rings: 4000, logs: 3000, recordings: 3000, messages: 2000,
};
/** Less, and the inputs are not what they are meant to be. */
const PAST_LEAST = 0.6;

for (const [name, { open }] of Object.entries(FUZZERS)) {
  test(`hostile ${name}: what was found before`, async () => {
    const folder = join(import.meta.dir, "cases", name);
    const fuzzer = await open();
    for (const file of existsSync(folder) ? readdirSync(folder) : []) {
      expect([file, failureOf(fuzzer, readFileSync(join(folder, file)))]).toEqual([file, null]);
    }
    fuzzer.close?.();
  });

  test(`hostile ${name}: ${INPUTS[name]} of them`, async () => {
    const fuzzer = await open();
    const { inputs, past, findings } = await fuzz(fuzzer, { seed: SEED, count: INPUTS[name]! });
    fuzzer.close?.();
    expect(findings.map(({ number, why }) => `input ${number}: ${why}`)).toEqual([]);
    expect(inputs).toBe(INPUTS[name]!);
    expect(past / inputs).toBeGreaterThan(PAST_LEAST);
  }, 60_000);
}

test("frames of all link types, cut after each byte", () => {
  const fuzzer = new FrameFuzzer();
  const random = new Random(SEED);
  for (let i = 0; i < 300; i++) {
    const { link, frame } = frameOf(random);
    const input = new Uint8Array(fuzzer.headBytes + frame.length);
    input.set(frame, fuzzer.headBytes);
    const head = new Uint32Array(input.buffer, 0, 3);
    for (let captured = 0; captured <= frame.length; captured++) {
      head.set([link, captured, frame.length]);
      expect(failureOf(fuzzer, input)).toBeNull();
    }
  }
});

test("a failing input is found, named, and made as small as it can be", async () => {
  const fuzzer: Fuzzer = {
    name: "test", past: "", headBytes: 2, unitBytes: 4,
    make: (random) => Uint8Array.from({ length: 2 + 4 * 20 }, () => random.below(256)),
    run: (input) => {
      for (let at = 2; at < input.length; at += 4) must((input[at]! & 7) !== 3, "a unit of the bad kind");
      return true;
    },
  };
  const { findings } = await fuzz(fuzzer, { seed: 1, count: 100 });
  const { number, why, input } = findings[0]!;
  expect(why).toStartWith("Error: a unit of the bad kind");
  expect(failureOf(fuzzer, inputOf(fuzzer, 1, number))).not.toBeNull();
  expect(input.length).toBe(2 + 4);
  expect([...input.subarray(0, 2), ...input.subarray(3)]).toEqual([0, 0, 0, 0, 0]);
});

test("what tools/fuzz-planted.ts plants can be planted", () => {
  for (const { fuzzer, file, was } of PLANTED) {
    expect(Object.keys(FUZZERS)).toContain(fuzzer);
    const text = readFileSync(join(import.meta.dir, "../..", file), "utf8");
    expect([file, was, text.split(was).length]).toEqual([file, was, 2]);
  }
});
