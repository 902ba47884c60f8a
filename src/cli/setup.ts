// `kqtime setup`: builds the C parts now, instead of at their first use.

import { ExitCode } from "../errors.ts";
import { buildNative } from "../session/native-build.ts";
import { nativeParts, ROOT } from "../session/paths.ts";
import { tell } from "./stderr.ts";

/** Returns the exit code. @throws KQTimeError `E_NATIVE` */
export function setup(): number {
  buildNative(ROOT);
  const { preload } = nativeParts();
  tell(`kqtime: built, ${preload} is the preload library; \`kqtime doctor\` tells what else is missing\n`);
  return ExitCode.Ok;
}
