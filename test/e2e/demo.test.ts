// The demo: where it finds its namespaces, and what it does and says where it finds none.

import { expect } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN, kqtime, ROOT } from "../lib/kqtime.ts";
import { loopback } from "../lib/loopback.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { withScope } from "../lib/process.ts";

loopback("two demos at once on loopback, which say why they are there", async (node, scope) => {
  const programs = scope.path("programs");
  mkdirSync(programs);
  writeFileSync(join(programs, "unshare"), "#!/bin/sh\necho 'unshare: denied' >&2\nexit 1\n", {
    mode: 0o755,
  });
  const env = { ...process.env, PATH: `${programs}:${process.env.PATH}` };
  const demos = ["a", "b"].map((name) =>
    kqtime(scope, ["demo", "--seconds", "0.5", "--log", scope.path(name)], { prefix: node.prefix, env }));
  for (const running of demos) {
    const { stderr } = await running.success();
    expect(stderr.split("\n")[0]).toBe(
      "kqtime demo: sender and receiver on loopback, without a shaped link: " +
        "no network namespaces can be made here (unshare: denied)",
    );
  }
  expect(readdirSync(scope.path("a")).sort()).toEqual([
    "receiver.json", "receiver.log.gz", "sender.json", "sender.log.gz",
  ]);
});

needsNamespaces("in a chroot, which is no mount point, it has its namespaces", async () => {
  await withScope(async (scope) => {
    const root = scope.path("root");
    mkdirSync(root);
    const folders: string[] = [];
    for (const name of readdirSync("/")) {
      const from = lstatSync(join("/", name));
      if (from.isSymbolicLink()) symlinkSync(readlinkSync(join("/", name)), join(root, name));
      if (!from.isDirectory()) continue;
      mkdirSync(join(root, name));
      folders.push(name);
    }
    // The mounts end with their namespace.
    const script =
      'root=$1; shift; while [ "$1" != -- ]; do mount --rbind "/$1" "$root/$1"; shift; done; shift; ' +
      'exec chroot "$root" "$@"';
    const demo = scope.start([
      "unshare", "--mount", "--", "sh", "-euc", script, "sh", root, ...folders, "--",
      BUN, `--cwd=${ROOT}`, "run", "kqtime", "demo", "--seconds", "0.5", "--log", scope.path("logs"),
    ]);
    const { stderr } = await demo.success();
    expect(stderr).toStartWith("kqtime demo: a sender and a receiver in two network namespaces behind");
  });
}, { programs: ["unshare", "nsenter", "tc", "chroot", "mount"], timeoutMs: 60_000 });
