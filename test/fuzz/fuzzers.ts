// All fuzzers by their names, and which part of the inputs each gets: those that are fast get most.

import { FrameFuzzer } from "./frames.ts";
import type { Fuzzer } from "./harness.ts";
import { LogFuzzer } from "./logs.ts";
import { MessageFuzzer } from "./messages.ts";
import { RecordingFuzzer } from "./recordings.ts";
import { RingFuzzer } from "./rings.ts";

interface Kind {
  /** Of 1000 inputs. */
  readonly share: number;
  readonly open: () => Fuzzer | Promise<Fuzzer>;
}

export const FUZZERS: Readonly<Record<string, Kind>> = {
  frames: { share: 965, open: () => new FrameFuzzer() },
  rings: { share: 14, open: () => new RingFuzzer() },
  logs: { share: 9, open: () => LogFuzzer.open() },
  recordings: { share: 9, open: () => new RecordingFuzzer() },
  messages: { share: 3, open: () => new MessageFuzzer() },
};

/** Inputs of each name, of so many in all. */
export function sharesOf(names: readonly string[], inputs: number): [name: string, inputs: number][] {
  const whole = names.reduce((sum, name) => sum + FUZZERS[name]!.share, 0);
  return names.map((name) => [name, Math.ceil((inputs * FUZZERS[name]!.share) / whole)]);
}
