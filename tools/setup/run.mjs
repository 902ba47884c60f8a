// Runs the demo, the tests or the benchmarks after the set-up, with the privilege that each needs.

import { join } from "path";
import {
  canUnshare,
  Failure,
  isRoot,
  privilegeAdvice,
  root,
  run,
  runAsRoot,
  say,
  sudoUsable,
} from "./process.mjs";
import { bun } from "./npm.mjs";

const script = join(root, "tools", "setup.mjs");

/** The same step again, behind sudo, which also leaves the folder's files to their owner. */
function again(what, rest) {
  return runAsRoot(process.execPath, [script, "--run-only", "--run", what, ...rest]);
}

export function runDemo(rest, behindSudo) {
  if (process.platform !== "linux") return 0;
  if (isRoot || behindSudo || canUnshare()) return run(bun, ["run", "kqtime", "demo", ...rest]);
  if (sudoUsable()) {
    say("the demo makes network namespaces and captures packets: running it through sudo.");
    return again("demo", rest);
  }
  throw new Failure(
    "the demo makes network namespaces and captures packets, and sudo cannot be used; " +
      `${privilegeAdvice()}, run: node ${script} --run demo`,
  );
}

export function runTests(rest, behindSudo) {
  const command = ["tools/test.ts", ...rest];
  if (isRoot || behindSudo || process.platform !== "linux") return run(bun, command);
  if (sudoUsable()) {
    say("the tests make network namespaces and capture packets: running them through sudo.");
    return again("test", rest);
  }
  say("sudo cannot be used: tests that need root are skipped, each with its reason.");
  return run(bun, command);
}

export function runBench(rest) {
  if (isRoot) return run(bun, ["tools/bench/main.ts", ...rest]);
  if (sudoUsable()) {
    say("the benchmarks make network namespaces and capture packets: running them through sudo.");
    return again("bench", rest);
  }
  throw new Failure(`the benchmarks need root; ${privilegeAdvice()}, run: node ${script} --run bench`);
}
