// What a command inherits is what it would have inherited without kqtime: descriptors beyond 2 and
// ignored signals, both of which Bun changes on the way.

import { expect } from "bun:test";
import { join } from "node:path";
import { e2e } from "../lib/e2e.ts";
import { ROOT } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";

/** What a shell script prints that runs `"$@"`, without and with kqtime before it. */
async function both(script: string): Promise<[plain: string, measured: string]> {
  const outputs: string[] = [];
  await withLoopback(async (node, scope) => {
    for (const before of [[], [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--"]]) {
      const ran = await scope.run(["bash", "-c", script, "bash", ...before], { prefix: node.prefix });
      outputs.push(ran.stdout);
    }
  });
  return outputs as [string, string];
}

e2e("descriptors beyond 2 reach the command", async () => {
  // 3 and 4 are those that the launcher uses itself; the order of the others is not theirs.
  const [plain, measured] = await both(`
    exec 3<<<three 4<<<four 70<<<seventy 9<<<nine
    "$@" sh -c 'cat <&3; cat <&4; cat <&9; cat /proc/self/fd/70' 2>&1
    "$@" cat <(echo substituted) 2>&1
    "$@" sh -c 'ls /proc/self/fd | wc -l'`);
  expect(plain).toStartWith("three\nfour\nnine\nseventy\nsubstituted\n");
  expect(measured).toBe(plain);
}, 60_000, ["bash"]);

e2e("descriptors reach the command where few files may be open", async () => {
  const [plain, measured] = await both(`
    exec 3<<<three 4<<<four 5<<<five 6<<<six 31<<<last
    ulimit -n 32
    "$@" sh -c 'cat <&3; cat <&4; cat <&5; cat <&6; cat /proc/self/fd/31' 2>&1`);
  expect(plain).toBe("three\nfour\nfive\nsix\nlast\n");
  expect(measured).toBe(plain);
}, 60_000, ["bash"]);

e2e("a descriptor that cannot be handed on is told of", () => withLoopback(async (node, scope) => {
  const script = 'exec 70<<<x; ulimit -n 60; exec "$@"';
  const words = ["bash", "-c", script, "bash", join(ROOT, "bin", "kqtime"), "run", "--quiet", "--", "true"];
  const exit = await scope.start(words, { prefix: node.prefix }).exit();
  expect(exit).toMatchObject({ code: 0, stdout: "" });
  expect(exit.stderr).toMatch(/^kqtime: descriptors? (\d+, )*70(, \d+)* (is|are) not handed on .*\n$/);
}), 60_000, ["bash"]);

e2e("limits of open files below those of the process that started kqtime", () =>
  withLoopback(async (node, scope) => {
    // Without bin/kqtime, nobody tells the soft limit but the parent: a shell, which lives on.
    const words = [
      "prlimit", "--nofile=900:2000", "sh", "-c", '"$@"; exit $?', "sh",
      "setpriv", "--bounding-set", "-sys_resource", "prlimit", "--nofile=700:800",
      process.execPath, join(ROOT, "kqtime.ts"), "run", "--quiet", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn",
    ];
    const env = { ...process.env };
    delete env.KQTIME_NOFILE;
    const ran = await scope.run(words, { prefix: node.prefix, env });
    expect(ran.stdout).toBe("800\n800\n");
    const said = await scope.run(words, { prefix: node.prefix, env: { ...env, KQTIME_NOFILE: "300:5000" } });
    expect(said.stdout).toBe("300\n800\n");
  }), 60_000, ["prlimit", "setpriv"]);

e2e("ignored signals stay ignored, others do not become so", async () => {
  const [plain, measured] = await both(`
    show() { "$@" grep SigIgn: /proc/self/status; }
    show "$@"
    trap '' HUP PIPE TERM; show "$@"; trap - HUP PIPE TERM
    (trap '' HUP; "$@" sh -c 'kill -HUP $$; echo survived')`);
  expect(plain).toMatch(/^SigIgn:\t0+\nSigIgn:\t0+5001\nsurvived\n$/);
  expect(measured).toBe(plain);
}, 60_000, ["bash"]);
