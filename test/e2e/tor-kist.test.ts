// The comparison of Tor's schedulers, as small as it gets: it has to run through, to say of each
// scheduler that Tor really used it, and to measure all that the relay sent.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Result } from "../../examples/tor-kist/run.ts";
import { e2e } from "../lib/e2e.ts";
import { ROOT } from "../lib/kqtime.ts";
import { withScope } from "../lib/process.ts";

const LEAST_BYTES = 5_000_000;

e2e("a quick comparison of Vanilla and KIST", async () => {
  await withScope(async (scope) => {
    const json = scope.path("kist.json");
    const argv = [process.execPath, join(ROOT, "examples/tor-kist/kist.ts"), "--quick", "--json", json];
    const { stdout } = await scope.run(argv, {}, 80_000);
    expect(stdout).toMatch(/^variant +scheduler +queue p50/m);
    const { results } = JSON.parse(readFileSync(json, "utf8")) as { results: Result[] };
    expect(results.map(({ scheduler }) => scheduler).sort()).toEqual(["KIST", "Vanilla"]);
    for (const result of results) {
      expect(stdout).toMatch(new RegExp(`^${result.variant} .* 100 %$`, "m"));
      const { p50, p90, p99 } = result.queueNs;
      expect(p50).toBeGreaterThan(0);
      expect([p90, p99]).toEqual([Math.max(p50, p90), Math.max(p90, p99)]);
      expect(result.outBytes).toBeGreaterThan(LEAST_BYTES);
      expect(result.coverage).toBe(1);
      expect(result.gaps).toBe("");
      // The device lets through 40 Mbit/s, and no byte counts that came before the count began.
      expect(result.throughputMbit).toBeGreaterThan(10);
      expect(result.throughputMbit).toBeLessThan(44);
      expect(result.roundTripMs.p50).toBeGreaterThan(0);
    }
  });
}, 100_000, ["tor", "tor-gencert"]);
