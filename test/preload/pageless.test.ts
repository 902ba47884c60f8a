// Where the kernel maps no clock into a program, a look at it is a system call like others.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BUILD_MS, Bench, canCompile, LOSS, transfers } from "./ringdump.ts";

describe.skipIf(!canCompile)("a program without the kernel's page", () => {
  let bench: Bench;
  beforeAll(() => {
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("pageless");
  }, BUILD_MS);
  afterAll(() => bench.remove());

  for (const answer of ["kills", "denies"]) {
    test(`the clock is not read where a sandbox ${answer}`, () => {
      const run = bench.run([], ["./pageless", "start", "./pageless", "sandboxed", answer]);
      expect(run.stderr).toBe("");
      expect(run.code).toBe(0);
      // The time of the others is not known, and that is counted.
      expect(transfers(run).map((record) => [record.kind, record.bytes])).toEqual([["OUT", 6]]);
      expect(run.losses[LOSS.noClock]).toBe(2);
    });
  }
});
