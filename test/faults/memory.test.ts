// Little memory for what a program shares with kqtime: a container's /dev/shm of 64 MiB that is full
// (rings are not in it), and limits under which a ring cannot be had, which is said.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, flaws, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";

const TOTAL = 2_000_000;

function words(address: string, port: string): string[] {
  return ["pair", "--address", address, "--port", port, "--total", `${TOTAL}`, "--size", "2000", "--both"];
}

e2e("a container's /dev/shm of 64 MiB, full", () => withLoopback(async (node, scope) => {
  const program = await fixture("flow");
  const fill = "mount -t tmpfs -o size=64m shm /dev/shm && head -c 70M /dev/zero > /dev/shm/ballast; " +
    "if head -c 4096 /dev/zero > /dev/shm/more; then exit 9; fi; exec \"$@\"";
  const measurement = new Measurement(scope, [program, ...words(node.v4, "7700")], {
    prefix: [...node.prefix, "unshare", "-m", "--propagation", "private", "sh", "-c", fill, "sh"],
  });
  await measurement.running.success();
  if (BARE) return;
  expect(flaws(measurement, { out: 2 * TOTAL, in: 2 * TOTAL })).toEqual([]);
}), 60_000, ["unshare"]);

// Hard limits of the program alone: of a file's size, and of its address space.
for (const [limit, of] of [["--fsize=65536:65536", "a file"], ["--as=30000000:30000000", "memory"]] as const) {
  e2e(`a limit of ${of} that a ring does not fit into`, () => withLoopback(async (node, scope) => {
    const program = await fixture("flow");
    const command = ["prlimit", limit, program, ...words(node.v4, "7701")];
    const measurement = new Measurement(scope, command, {
      prefix: node.prefix, options: ["--ring", "1048576"],
    });
    const exit = await measurement.running.success();
    expect(exit.stdout).toContain(`received=${TOTAL}`);
    if (BARE) return;
    const { warnings, booksBalance } = measurement.summary();
    expect(warnings.join("\n")).toMatch(/got no memory, or no descriptor, for a ring of 1048576 slots and w(as|ere) not measured/);
    expect(booksBalance).toBe(true);
  }), 60_000, ["prlimit"]);
}
