// Compiles the C fixtures of test/fixtures, each once a test run, into a temporary folder. A test
// runner that is killed cannot remove it: the next run removes the folders of those that are gone.

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SOURCES = join(import.meta.dir, "..", "fixtures");
const built = new Map<string, Promise<string>>();
let folder: string | undefined;

/** The path of the compiled test/fixtures/<name>.c. */
export function fixture(name: string): Promise<string> {
  let path = built.get(name);
  if (!path) {
    path = compile(name);
    built.set(name, path);
  }
  return path;
}

async function compile(source: string): Promise<string> {
  if (!folder) {
    for (const name of readdirSync(tmpdir())) {
      const owner = name.match(/^kqtime-fixtures-(\d+)-/)?.[1];
      if (owner && !existsSync(`/proc/${owner}`)) {
        rmSync(join(tmpdir(), name), { recursive: true, force: true });
      }
    }
    folder = mkdtempSync(join(tmpdir(), `kqtime-fixtures-${process.pid}-`));
  }
  const output = join(folder, source);
  const child = Bun.spawn(
    [
      process.env.CC ?? "cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror",
      "-pthread", join(SOURCES, `${source}.c`), "-o", output,
    ],
    { stdout: "pipe", stderr: "pipe" },
  );
  const errors = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${source}.c: ${errors}`);
  return output;
}
