// `kqtime doctor`: whether this machine can measure, what is missing, and how to get it.

import { join } from "node:path";
import { ExitCode } from "../errors.ts";
import { ROOT } from "../session/paths.ts";
import {
  type Check,
  checkBun,
  checkCapture,
  checkLibpcap,
  checkMemory,
  checkNamespaces,
  checkNative,
  checkNetlink,
  checkSystem,
  checkZlib,
} from "./doctor-checks.ts";

export interface DoctorOptions {
  /** The device to try a capture on; `any` by default. */
  readonly interface?: string;
  /** Prints one JSON object instead of lines. */
  readonly json?: boolean;
  /** Where lines go; stdout by default. */
  readonly write?: (line: string) => void;
}

/** The command that gives kqtime the one capability that it needs, and no more. */
export function rootlessCommand(): string {
  const kqtime = join(ROOT, "bin", "kqtime");
  return (
    "sudo setpriv --reuid=$USER --regid=$(id -g) --init-groups \\\n" +
    "  --inh-caps=+net_raw --ambient-caps=+net_raw \\\n" +
    `  env HOME="$HOME" USER="$USER" ${kqtime} run -- COMMAND`
  );
}

export function runChecks(device: string): Check[] {
  const system = checkSystem();
  if (process.platform !== "linux") return [system, checkBun()];
  return [
    system,
    checkBun(),
    checkLibpcap(),
    checkZlib(),
    checkNative(),
    checkCapture(device),
    checkMemory(),
    checkNamespaces(),
    checkNetlink(),
  ];
}

function renderCheck(check: Check): string {
  const remedy = check.remedy === "" ? "" : `: ${check.remedy}`;
  return `${check.verdict.padEnd(7)}  ${check.name}: ${check.finding}${remedy}`;
}

/**
 * Runs every check and prints a line for each.
 * @returns `ExitCode.Ok` if measuring can work, else `ExitCode.Unfit`.
 */
export async function doctor(options: DoctorOptions = {}): Promise<number> {
  const write = options.write ?? ((line: string) => console.log(line));
  const checks = runChecks(options.interface ?? "any");
  const missing = checks.filter((check) => check.verdict === "missing").length;
  const fit = missing === 0;
  if (options.json === true) {
    write(JSON.stringify({ fit, checks, withoutRoot: rootlessCommand() }, null, 2));
    return fit ? ExitCode.Ok : ExitCode.Unfit;
  }
  for (const check of checks) write(renderCheck(check));
  if (process.platform !== "linux") {
    write("Measuring needs Linux: kqtime cannot capture here.");
    return ExitCode.Unfit;
  }
  write(fit ? "kqtime can measure here." : `kqtime cannot measure here: ${missing} missing.`);
  write("");
  write("Without root, give it the one capability that it needs, CAP_NET_RAW:");
  write(rootlessCommand());
  return fit ? ExitCode.Ok : ExitCode.Unfit;
}
