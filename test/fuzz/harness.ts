// What the fuzzers have in common: inputs that are a function of a seed and a number, a limit on the
// time of each, the share that gets past the first check, and, of an input that breaks an invariant,
// the least that still does.
//
// An input is bytes: a few of a head, then units (operations, bytes of a frame, lines) that can be
// left out. It is kept as a file in test/fuzz/cases, which the tests run ever after.

import { Random } from "../match/random.ts";

export interface Fuzzer {
  readonly name: string;
  /** What "past the first check" means for these inputs, for the report. */
  readonly past: string;
  /** Bytes that every input begins with, and of the units that follow. */
  readonly headBytes: number;
  readonly unitBytes: number;
  /** An input, of nothing but the random numbers. */
  make(random: Random): Uint8Array;
  /**
   * Feeds an input to the code; throws where something does not hold that must hold whatever the
   * input is. Tells whether the input got past the first check.
   */
  run(input: Uint8Array): boolean;
  /** Lets go of descriptors and memory. */
  close?(): void;
}

export interface Finding {
  readonly fuzzer: string;
  readonly seed: number;
  /** Number of the input. */
  readonly number: number;
  readonly why: string;
  readonly input: Uint8Array;
}

export interface FuzzResult {
  inputs: number;
  past: number;
  slowestMs: number;
  readonly findings: Finding[];
}

export interface FuzzOptions {
  readonly seed: number;
  readonly from?: number;
  readonly count: number;
  /** Told of each input before it is run, and how many got past the first check before it. */
  readonly step?: (number: number, past: number) => void;
}

/** What one input may take: far more than any needs, also on a machine that is busy. */
export const INPUT_MOST_MS = 5000;
/** Runs of the input that is made smaller. */
const MINIMIZE_RUNS = 2000;

/** Input `number` of a seed, made anew. */
export function inputOf(fuzzer: Fuzzer, seed: number, number: number): Uint8Array {
  const mixed = Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b);
  return fuzzer.make(new Random(mixed));
}

/** Why an input breaks an invariant; null if it does not. `past` is told what `run` does. */
export function failureOf(fuzzer: Fuzzer, input: Uint8Array, past?: (is: boolean) => void): string | null {
  const startMs = performance.now();
  try {
    const is = fuzzer.run(input);
    past?.(is);
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack ?? ""}` : String(error);
  }
  const ms = performance.now() - startMs;
  return ms > INPUT_MOST_MS ? `took ${Math.round(ms)} ms` : null;
}

/** Runs inputs `from` … `from + count - 1` of a seed; ends with the first finding. */
export async function fuzz(
  fuzzer: Fuzzer,
  { seed, from = 0, count, step }: FuzzOptions,
): Promise<FuzzResult> {
  const result: FuzzResult = { inputs: 0, past: 0, slowestMs: 0, findings: [] };
  for (let number = from; number < from + count; number++) {
    step?.(number, result.past);
    // What other threads have done is told then.
    if (number % 256 === 255) await new Promise((resolve) => setImmediate(resolve));
    const input = inputOf(fuzzer, seed, number);
    const startMs = performance.now();
    const why = failureOf(fuzzer, input, (past) => void (result.past += past ? 1 : 0));
    result.slowestMs = Math.max(result.slowestMs, performance.now() - startMs);
    result.inputs++;
    if (why === null) continue;
    const least = why.startsWith("took") ? input : minimize(fuzzer, input);
    result.findings.push({ fuzzer: fuzzer.name, seed, number, why, input: least });
    break;
  }
  return result;
}

/** Leaves units out, and makes others zero, as long as the input still breaks something. */
export function minimize(fuzzer: Fuzzer, input: Uint8Array): Uint8Array {
  const { headBytes, unitBytes } = fuzzer;
  let best = input;
  let runs = 0;
  const stillFails = (candidate: Uint8Array): boolean => {
    if (runs++ >= MINIMIZE_RUNS || failureOf(fuzzer, candidate) === null) return false;
    best = candidate;
    return true;
  };
  for (let units = Math.floor((best.length - headBytes) / unitBytes); units >= 1; units >>= 1) {
    const chunk = units * unitBytes;
    for (let at = headBytes; at < best.length; ) {
      const shorter = new Uint8Array(best.length - Math.min(chunk, best.length - at));
      shorter.set(best.subarray(0, at));
      shorter.set(best.subarray(Math.min(best.length, at + chunk)), at);
      if (!stillFails(shorter)) at += chunk;
    }
  }
  for (let at = 0; at < best.length; at++) {
    if (best[at] === 0) continue;
    const simpler = best.slice();
    simpler[at] = 0;
    stillFails(simpler);
  }
  return best;
}

/** @throws if it is not so */
export function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}
