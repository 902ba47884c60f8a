// Where the built C parts lie, from wherever kqtime was started.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { KQTimeError } from "../errors.ts";
import { buildNative } from "./native-build.ts";

/** The package's own folder. */
export const ROOT = resolve(import.meta.dir, "../..");

export interface NativeParts {
  readonly preload: string;
  readonly launcher: string;
}

/**
 * Where they are. Those of this package are built if they are not there, unless `build` is false.
 * @throws KQTimeError `E_NATIVE` if they cannot be built, or lie where LD_PRELOAD cannot name them
 */
export function nativeParts({ build = true } = {}): NativeParts {
  const preload = process.env.KQTIME_PRELOAD ?? join(ROOT, "build", "libkqtime-preload.so");
  const launcher = process.env.KQTIME_LAUNCHER ?? join(ROOT, "build", "kqtime-launch");
  for (const path of [preload, launcher]) {
    if (existsSync(path)) continue;
    if (build && path.startsWith(join(ROOT, "build"))) buildNative(ROOT);
    if (existsSync(path)) continue;
    throw new KQTimeError(
      "E_NATIVE",
      "open",
      `${path} is not built: run \`${join(ROOT, "bin", "kqtime")} setup\` ` +
        `(in a checkout: \`npm run setup\` in ${ROOT})`,
    );
  }
  // ld.so(8): the list is separated by spaces or colons, and there is no escape.
  if (/[\s:]/.test(preload)) {
    throw new KQTimeError(
      "E_NATIVE",
      "LD_PRELOAD",
      `LD_PRELOAD cannot name "${preload}": move kqtime to a path without spaces and colons`,
    );
  }
  return { preload, launcher };
}
