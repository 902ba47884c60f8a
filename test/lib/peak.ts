// The most memory that a program had. (What wait4 tells of a child holds that of the process that
// started it, from before the exec.)

import { readFileSync } from "node:fs";

const SAMPLE_MS = 10;

export interface Peak {
  readonly mib: number;
  readonly code: number;
  readonly stderr: string;
}

/** Runs a program to its end. `feed` writes its standard input. */
export async function peakOf(
  words: readonly string[],
  cwd: string,
  feed?: (stdin: import("bun").FileSink) => Promise<void>,
): Promise<Peak> {
  const child = Bun.spawn([...words], {
    cwd, stdin: feed === undefined ? "ignore" : "pipe", stdout: "ignore", stderr: "pipe",
  });
  let mib = 0;
  const sample = (): void => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      mib = Math.max(mib, Number(status.match(/VmHWM:\s+(\d+)/)?.[1] ?? 0) / 1024);
    } catch {
      // It has ended.
    }
  };
  const timer = setInterval(sample, SAMPLE_MS);
  try {
    if (feed !== undefined) {
      const stdin = child.stdin as import("bun").FileSink;
      await feed(stdin);
      await stdin.end();
    }
    const stderr = await new Response(child.stderr).text();
    return { code: await child.exited, mib, stderr };
  } finally {
    clearInterval(timer);
    child.kill();
  }
}
