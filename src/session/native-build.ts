// Builds the C parts where they are not there yet. A package from the registry holds sources only:
// its install scripts would not be run without the user's leave, so that they are built by
// `kqtime setup`, or when they are first needed.

import { spawnSync } from "node:child_process";
import { lchownSync, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { KQTimeError } from "../errors.ts";

const BUILD_MS = 120_000;

/**
 * Builds what is missing or older than its sources, into build/ of the package.
 * @throws KQTimeError `E_NATIVE`, with what the compiler's user must do
 */
export function buildNative(root: string): void {
  const script = join(root, "tools", "build-native.sh");
  const build = spawnSync("/bin/sh", [script], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: BUILD_MS,
    encoding: "utf8",
  });
  if (build.status !== 0) {
    const said = `${build.stderr ?? ""}`.trim().split("\n").at(-1) ?? "";
    const why = build.error?.message ?? (said === "" ? `${script} ended with ${build.status}` : said);
    throw new KQTimeError(
      "E_NATIVE",
      "build",
      `kqtime's C parts are not built, and cannot be: ${why.replace(/^build-native: /, "")}; ` +
        `then \`${join(root, "bin", "kqtime")} setup\`, as a user who may write there`,
    );
  }
  giveBack(root);
}

/** What root has built in a user's folder belongs to that user. */
function giveBack(root: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(root);
  const folder = join(root, "build");
  if (uid === 0 || !existsSync(folder)) return;
  for (const path of [folder, ...readdirSync(folder).map((name) => join(folder, name))]) {
    lchownSync(path, uid, gid);
  }
}
