// Values of command-line options, checked. cac turns what looks like a number into one.

import { ExitCode, KQTimeError } from "../errors.ts";

type Options = Record<string, unknown>;

function wrong(message: string): KQTimeError {
  return new KQTimeError("E_USAGE", "arguments", message, ExitCode.Usage);
}

function one(options: Options, name: string): unknown {
  const value = options[name];
  if (Array.isArray(value)) throw wrong(`--${name} was given more than once`);
  return value;
}

/** Text, or null if the option is not there. */
export function text(options: Options, name: string): string | null {
  const value = one(options, name);
  if (value === undefined) return null;
  if (value === true || value === "") throw wrong(`--${name} needs a value`);
  return String(value);
}

/** A number within [least, most]. */
export function number(options: Options, name: string, least: number, most: number): number {
  const value = one(options, name);
  const found = typeof value === "number" ? value : Number.NaN;
  if (!(found >= least && found <= most)) {
    throw wrong(`--${name} takes a number from ${least} to ${most}, not "${String(value)}"`);
  }
  return found;
}

/** One of a few words. */
export function choice<const T extends string>(
  options: Options,
  name: string,
  choices: readonly T[],
): T {
  const value = one(options, name);
  const found = choices.find((one) => one === value);
  if (found === undefined) {
    throw wrong(`--${name} takes ${choices.join(", ")}, not "${String(value)}"`);
  }
  return found;
}
