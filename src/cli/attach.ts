// `kqtime attach` on a terminal: what was lost first, the summary at the end, all on stderr.

import { ExitCode } from "../errors.ts";
import { attach, type AttachOptions } from "../session/attach.ts";
import { whileMeasuring } from "./mid-run.ts";
import { report } from "./run.ts";

/** Returns the exit code. @throws KQTimeError */
export async function attachCommand(
  options: Omit<AttachOptions, "onWarning" | "onInterval">,
  quiet: boolean,
): Promise<number> {
  const { summary, untold } = await whileMeasuring((said) => attach({ ...options, ...said }));
  report(summary, untold, quiet);
  return ExitCode.Ok;
}
