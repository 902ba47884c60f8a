// What the caller gives, checked before anything is done with it: types tell it to TypeScript, and
// to nobody else. A misspelt option would be one that has no effect.

import { KQTimeError } from "../errors.ts";
import type { OpenOptions, SampleOptions } from "./options.ts";

const CAPACITY_DEFAULT = 8192;
const CAPACITY_MOST = 1 << 20;

/** For messages: one line of any value, also of those that have no text. */
export function shown(value: unknown): string {
  if (typeof value === "string") {
    const text = value.length > 60 ? `${value.slice(0, 60)}…` : value;
    return JSON.stringify(text);
  }
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  if (typeof value === "function") return "a function";
  return typeof value === "bigint" ? `${value}n` : String(value);
}

export function argumentError(op: string, why: string): KQTimeError {
  return new KQTimeError("E_ARGUMENT", op, `${op}: ${why}`);
}

function checkOptions(op: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw argumentError(op, `${shown(options)} where an object of options is expected`);
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw argumentError(op, `there is no option ${shown(name)}: there are ${known.join(", ")}`);
  }
}

const TEXTS = ["log", "interface", "filter"] as const;
const SWITCHES = ["stats", "inbound", "outbound"] as const;

/** @throws KQTimeError `E_ARGUMENT` */
export function checkOpenOptions(options: OpenOptions): void {
  checkOptions("open", options, ["log", "stats", "inbound", "outbound", "interface", "filter"]);
  for (const name of TEXTS) {
    const value: unknown = options[name];
    if (value === undefined) continue;
    if (typeof value !== "string") {
      throw argumentError("open", `\`${name}\` is ${shown(value)}: it takes a string`);
    }
    if (value === "") {
      const without = name === "log" ? "for no log" : "for the default";
      throw argumentError("open", `\`${name}\` is empty: leave it out ${without}`);
    }
    if (value.includes("\0")) throw argumentError("open", `\`${name}\` holds a zero byte`);
  }
  for (const name of SWITCHES) {
    const value: unknown = options[name];
    if (value === undefined || typeof value === "boolean") continue;
    throw argumentError("open", `\`${name}\` is ${shown(value)}: it takes true or false`);
  }
}

/** @throws KQTimeError `E_ARGUMENT`, `E_CAPACITY` */
export function checkCapacity(options: SampleOptions): number {
  checkOptions("samples", options, ["capacity"]);
  const { capacity = CAPACITY_DEFAULT } = options;
  if (Number.isInteger(capacity) && capacity >= 1 && capacity <= CAPACITY_MOST) return capacity;
  const text = `a capacity of ${shown(capacity)} samples: it takes 1 to ${CAPACITY_MOST}`;
  throw new KQTimeError("E_CAPACITY", "samples", text);
}

/** @throws KQTimeError `E_ARGUMENT` */
export function checkName(op: string, name: unknown): string {
  if (typeof name === "string") return name;
  throw argumentError(op, `the name is ${shown(name)}: it takes a string`);
}
