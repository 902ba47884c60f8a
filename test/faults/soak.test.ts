// The long run of tools/soak.ts, for some seconds: so that it is known to work when it is needed.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { BARE, BUN, ROOT } from "../lib/kqtime.ts";
import { withScope } from "../lib/process.ts";

e2e("ten seconds of a soak", () => withScope(async (scope) => {
  if (BARE) return;
  const soak = scope.start([BUN, "tools/soak.ts", "--seconds", "10", "--mbit", "400"], { cwd: ROOT });
  const { code, stdout, stderr } = await soak.exit();
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/sender: (\d+) bytes called in \d+ calls, \d+ matched/);
  expect(stdout).toContain("the books agree to the byte");
}), 60_000);
