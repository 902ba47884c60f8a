// The texts of a recording and its steps of the clock, as they must be to be played: a recording may
// come from anybody, and a figure of the wrong type would go far before it is noticed.

import type { ClockStep } from "../match/clock-steps.ts";
import { LABEL_MODES } from "../match/label-modes.ts";
import { FILTER_KINDS } from "../output/advice.ts";
import type { HandleSetup, JoinEnd, JoinSetup } from "./join.ts";

type Check = (value: unknown) => boolean;

/** Frame.Free. */
export interface RecordedFree {
  readonly handle: number;
  readonly endNs: number;
}

/** Frame.Rule. */
export interface RecordedRule {
  readonly handle: number;
  readonly remove: boolean;
  readonly text: string;
  readonly askedNs: number;
}

const isBoolean: Check = (value) => typeof value === "boolean";
const isText: Check = (value) => typeof value === "string";
const isWhole: Check = (value) => Number.isSafeInteger(value);
const isCount: Check = (value) => isWhole(value) && (value as number) >= 0;
const isHandle: Check = (value) => isCount(value) && (value as number) < 2 ** 32;
/** Some 100 years: what is added to it stays whole. */
const isSeconds: Check = (value) => isCount(value) && (value as number) < 2 ** 33;
/** Of a time relative to the session's base, some 36 years: a session may be long. */
export const TIME_LIMIT_NS = 2 ** 60;
const isTime: Check = (value) => typeof value === "number" && Math.abs(value) < TIME_LIMIT_NS;

const oneOf = (...values: readonly unknown[]): Check => (value) => values.includes(value);
const orNull = (check: Check): Check => (value) => value === null || check(value);
const optional = (check: Check): Check => (value) => value === undefined || check(value);
const listOf = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
const shape = (fields: Readonly<Record<string, Check>>): Check => (value) =>
  typeof value === "object" && value !== null && Object.entries(fields).every(
    ([name, check]) => check((value as Record<string, unknown>)[name]),
  );

const isSelection = shape({
  minNs: isCount,
  sample: (value) => isCount(value) && (value as number) >= 1,
  seed: isWhole,
});

const isSetup = shape({
  baseSec: isSeconds,
  startNs: isTime,
  direction: oneOf("in", "out", "both"),
  label: oneOf(...LABEL_MODES),
  command: listOf(isText),
  version: isText,
  everything: isBoolean,
  queues: isBoolean,
  isPartial: isBoolean,
  filter: optional(oneOf(...FILTER_KINDS)),
  isOneDevice: optional(isBoolean),
  socketsListed: optional(isCount),
  lines: optional(orNull(isSelection)),
  intervalNs: optional(isCount),
  session: optional(isCount),
});

const isEnd = shape({
  endNs: isTime,
  exitCode: orNull(isWhole),
  signal: orNull(isText),
  pids: listOf(isCount),
  losses: (value) => shape({ ringRecords: isCount, capturePackets: isCount })(value) &&
    Object.values(value as object).every(isCount),
  badRecords: isCount,
  noClock: optional(isCount),
  isDetached: isBoolean,
  isCut: optional(isBoolean),
  warnings: listOf(isText),
});

const isOpen = shape({ handle: isHandle, in: isBoolean, out: isBoolean, queues: isBoolean, startNs: isTime });
const isFree = shape({ handle: isHandle, endNs: isTime });
const isStep: Check = (value) => {
  const { fromNs, toNs, byNs } = value as ClockStep;
  return isTime(fromNs) && isTime(toNs) && isTime(byNs) && fromNs <= toNs;
};
const isRule = shape({ handle: isHandle, remove: isBoolean, text: isText, askedNs: isTime });

function checked<T>(is: Check, value: unknown): T | null {
  return is(value) ? (value as T) : null;
}

/** Each gives its argument, or null if it makes no sense. */
export const setupOf = (value: unknown): JoinSetup | null => checked(isSetup, value);
export const endOf = (value: unknown): JoinEnd | null => checked(isEnd, value);
export const openOf = (value: unknown): HandleSetup | null => checked(isOpen, value);
export const freeOf = (value: unknown): RecordedFree | null => checked(isFree, value);
export const ruleOf = (value: unknown): RecordedRule | null => checked(isRule, value);

/** The numbers of a Frame.Clock. */
export const stepOf = ([fromNs, toNs, byNs]: Float64Array): ClockStep | null =>
  checked(isStep, { fromNs, toNs, byNs });
