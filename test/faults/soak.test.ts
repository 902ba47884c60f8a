// The long run of tools/soak.ts, for some seconds: so that it is known to work when it is needed, and not to
// pass where something was lost.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { BARE, BUN, ROOT } from "../lib/kqtime.ts";
import { readFileSync } from "node:fs";
import { childrenOf, until, withScope } from "../lib/process.ts";

e2e("ten seconds of a soak", () => withScope(async (scope) => {
  if (BARE) return;
  const soak = scope.start([BUN, "tools/soak.ts", "--seconds", "10", "--mbit", "400"], { cwd: ROOT });
  const { code, stdout, stderr } = await soak.exit();
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/sender: (\d+) bytes called in \d+ calls, \d+ matched/);
  expect(stdout).toContain("the books agree to the byte");
}), 60_000);

/** Longer than the capture's buffer and the ring last at this rate. */
const STOPPED_MS = 8000;

e2e("a soak whose sender's kqtime stood still does not pass", () => withScope(async (scope) => {
  if (BARE) return;
  const soak = scope.start([BUN, "tools/soak.ts", "--seconds", "11", "--mbit", "400"], { cwd: ROOT });
  const sender = () => childrenOf(soak.pid).find((pid) => commandOf(pid).includes(" client "));
  await until("the sender's transfer", () => sender() !== undefined && childrenOf(sender()!).length > 0);
  const pid = sender()!;
  process.kill(pid, "SIGSTOP");
  await Bun.sleep(STOPPED_MS);
  process.kill(pid, "SIGCONT");
  const { code, stdout, stderr } = await soak.exit();
  expect(code).toBe(1);
  expect(stderr).toMatch(/sender: \d+ bytes are (capture|ring) drop/);
  expect(stderr).toMatch(/sender: (capturePackets|ringRecords): \d+, not 0/);
  expect(stderr).toMatch(/sender: coverage is 0\.\d+, not 1/);
  expect(stdout).not.toContain("agree to the byte");
}), 60_000);

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}
