// A program that executes another one is gone for its collector, though the process lives on.

import { expect } from "bun:test";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../lib/kqtime.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { until } from "../lib/process.ts";

const PROGRAM = `
#include <kqtime.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments) {
  if (kqtime_new(arguments[1], 0, 1, 1) == 0) return 1;
  execl("/bin/cat", "cat", (char *)0);
  return 2;
}
`;

function holders(path: string): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false;
    }
  });
}

needsNamespaces("a collector ends when its program has become another one", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-exec-"));
  const log = join(folder, "log.gz");
  try {
    writeFileSync(join(folder, "program.c"), PROGRAM);
    const build = join(ROOT, "build");
    const built = Bun.spawnSync([
      "cc", "-I", join(ROOT, "c"), "-o", join(folder, "program"), join(folder, "program.c"),
      "-L", build, "-lkqtime",
    ]);
    expect(built.stderr.toString()).toBe("");
    const program = Bun.spawn([join(folder, "program"), log], {
      env: {
        ...process.env,
        LD_LIBRARY_PATH: build,
        LD_PRELOAD: join(build, "libkqtime-preload.so"),
        KQTIME_COLLECTOR: join(ROOT, "bin", "kqtime"),
      },
      stdin: "pipe", stdout: "pipe", stderr: "pipe",
    });
    program.stdin.write("executed\n");
    program.stdin.flush();
    const { value } = await program.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("executed\n");
    await until("end of the collector", () => holders(log).length === 0, 5000);
    expect(program.exitCode).toBeNull();
    expect(Bun.spawnSync(["gzip", "-t", log]).exitCode).toBe(0);
    program.stdin.end();
    expect(await program.exited).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, { timeoutMs: 30_000, programs: ["cc", "gzip"] });
