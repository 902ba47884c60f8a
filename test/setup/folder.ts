// Folders of their own for the tests of the set-up: a copy of the package, or stand-in programs.

import { afterAll } from "bun:test";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export const root = join(import.meta.dir, "..", "..");

/** A folder that ends with the test file. Readable by every user, as tests become other users. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-setup-"));
  chmodSync(folder, 0o755);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Copies parts of the package ("bin", "src/ffi", …) to another folder. */
export function copyParts(folder: string, ...parts: string[]): void {
  for (const part of parts) {
    mkdirSync(dirname(join(folder, part)), { recursive: true });
    cpSync(join(root, part), join(folder, part), { recursive: true, verbatimSymlinks: true });
  }
}

export function writeProgram(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

export interface Ended {
  /** Null if a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. */
export function runProgram(
  argv: string[],
  options: { cwd?: string; env?: Record<string, string | undefined> } = {},
): Ended {
  const child = Bun.spawnSync(argv, {
    cwd: options.cwd ?? "/",
    env: options.env ?? process.env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  return {
    code: child.exitCode,
    stdout: child.stdout.toString(),
    stderr: child.stderr.toString(),
  };
}
