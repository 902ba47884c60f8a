// Shows that the fuzzers find faults: plants those of test/fuzz/planted.ts one at a time into
// a copy of the sources, and tells after how many inputs each is found.
//
//     bun tools/fuzz-planted.ts [--seed N] [--inputs N] [fuzzer…]

import {
  cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PLANTED } from "../test/fuzz/planted.ts";

const ROOT = join(import.meta.dir, "..");
/** What the copy needs. */
const COPIED = ["src", "test", "tools", "docs", "package.json", "tsconfig.json", "bunfig.toml"];

let seed = "1";
let inputs = "20000";
const names: string[] = [];
const words = process.argv.slice(2);
for (let word = words.shift(); word !== undefined; word = words.shift()) {
  if (word === "--seed") seed = words.shift() ?? seed;
  else if (word === "--inputs") inputs = words.shift() ?? inputs;
  else names.push(word);
}

const copy = mkdtempSync(join(tmpdir(), "kqtime-planted-"));
let found = 0;
let asked = 0;
try {
  for (const part of COPIED) cpSync(join(ROOT, part), join(copy, part), { recursive: true });
  mkdirSync(join(copy, "test/fuzz/cases"), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  for (const { fuzzer, file, was, is } of PLANTED) {
    if (names.length > 0 && !names.includes(fuzzer)) continue;
    const path = join(copy, file);
    const text = readFileSync(path, "utf8");
    if (text.split(was).length !== 2) throw new Error(`${file} holds not once: ${was}`);
    writeFileSync(path, text.replace(was, () => is));
    const startMs = performance.now();
    const argv = [process.execPath, "tools/fuzz.ts", "--seed", seed, "--inputs", inputs, fuzzer];
    const { stdout, exitCode } = Bun.spawnSync(argv, { cwd: copy, stderr: "ignore" });
    writeFileSync(path, text);
    const number = /input (-?\d+): (.*)/.exec(stdout.toString());
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    asked++;
    if (exitCode === 1 && number !== null) found++;
    const how = number === null ? "NOT FOUND" : `found by input ${number[1]}, ${seconds} s: ${number[2]!.slice(0, 70)}`;
    console.log(`${fuzzer} ${file}: ${was.slice(0, 50).replaceAll("\n", " ")}: ${how}`);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${found} of ${asked} found`);
process.exit(found === asked ? 0 : 1);
