// Declarations of the API for whoever installs the package, into types/: TypeScript checks sources
// in node_modules under the settings of who imports them, and declarations hardly. Run by npm and
// bun before they pack; on Node, because both can.

import { spawnSync } from "child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { dirname, join, relative } from "path";
import { fileURLToPath } from "url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const target = join(root, "types");
const made = mkdtempSync(join(root, ".types-"));
try {
  const words = ["-p", join(root, "tsconfig.types.json"), "--outDir", made];
  const tsc = spawnSync(join(root, "node_modules", ".bin", "tsc"), words, { stdio: "inherit" });
  if (tsc.status !== 0) throw new Error(`tsc failed: ${tsc.error?.message ?? tsc.status}`);
  rmSync(target, { recursive: true, force: true });
  // What the entry reaches, and nothing else.
  const seen = new Set();
  const queue = [join(made, "api", "index.d.ts")];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    // Every version of TypeScript finds a declaration by the name of its JavaScript.
    const text = readFileSync(path, "utf8").replace(/(from|import\()\s*"(\.[^"]*)\.ts"/g, '$1 "$2.js"');
    for (const [, to] of text.matchAll(/from "(\.[^"]*)\.js"/g)) {
      queue.push(join(dirname(path), `${to}.d.ts`));
    }
    const kept = join(target, relative(made, path));
    mkdirSync(dirname(kept), { recursive: true });
    writeFileSync(kept, text);
  }
} finally {
  rmSync(made, { recursive: true, force: true });
}
