// Programs that close a sandbox around themselves, under `kqtime run`: they end as they would, the books
// balance, and what could not be measured is said, under its own name.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, Measurement, type Summary } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";

/** Runs a scenario of test/fixtures/sandbox.c, which ends by 5. */
async function measure(name: string, action: string): Promise<Summary | undefined> {
  let summary: Summary | undefined;
  await withLoopback(async ({ prefix }, scope) => {
    const measurement = new Measurement(scope, [await fixture("sandbox"), name, action], { prefix });
    const { code } = await measurement.running.exited;
    expect(code).toBe(5);
    if (!BARE) summary = measurement.summary();
  });
  if (summary) {
    expect(summary.booksBalance).toBe(true);
    expect(summary.directions.out.bytesUnexplained + summary.directions.in.bytesUnexplained).toBe(0);
  }
  return summary;
}

const flows = ({ directions }: Summary) =>
  [directions.out, directions.in].map(({ bytesCalled, bytesMatched, bytesUnmatched }) =>
    [bytesCalled, bytesMatched, bytesUnmatched]);

for (const action of ["kill", "errno"]) {
  e2e(`sockets from before a filter are measured inside it (${action})`, async () => {
    const summary = await measure("worker", action);
    if (!summary) return;
    // Of the pair, 10 bytes before it and 10 inside; of the other one, 10.
    expect(flows(summary)).toEqual([[30, 30, {}], [30, 30, {}]]);
    expect(Object.values(summary.losses).every((count) => count === 0)).toBe(true);
  });

  e2e(`connections whose addresses may not be asked for are counted (${action})`, async () => {
    const summary = await measure("server", action);
    if (!summary) return;
    expect(flows(summary)).toEqual([[0, 0, {}], [0, 0, {}]]);
    expect(summary.losses.addressSockets).toBe(6);
  });
}

e2e("calls that may not read the clock have no time, and that is said", async () => {
  const summary = await measure("strict", "kill");
  if (!summary) return;
  // 10 bytes before it; two calls each way inside.
  expect(flows(summary)).toEqual([[30, 10, { "ring drop": 20 }], [30, 10, { "ring drop": 20 }]]);
  const advice = summary.warnings.find((warning) => warning.includes("ring drop:"));
  expect(advice).toContain("clock");
  expect(advice).not.toContain("--ring");
  expect(summary.warnings.filter((text) => /^4 calls have no time: /.test(text))).toHaveLength(1);
});
