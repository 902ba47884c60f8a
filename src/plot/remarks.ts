// What of a run is not in its pictures, in sentences under the pages that it concerns: a call without
// a time is missing among the queue times, but from no queue length.

import { chosenCalls, type LineChoice } from "../analysis/line-choice.ts";
import type { ReadResult } from "../analysis/log-reader.ts";
import { lossSentences } from "../output/losses.ts";
import type { Losses } from "../output/summary.ts";
import { formatBytes, formatExact } from "../output/units.ts";
import type { Series } from "./model.ts";
import { counted } from "./page.ts";
import type { PlotSamples } from "./samples.ts";

/** What a page shows. */
export type Subject = "times" | "lengths";

export interface Remark {
  /** null: every page. */
  readonly on: Subject | null;
  readonly text: string;
}

/** These are of the calls alone: the kernel told the lengths of the queues all the same. */
const OF_CALLS: readonly (keyof Losses)[] = [
  "ringRecords",
  "memoryRecords",
  "capturePackets",
  "interfacePackets",
  "captureGaps",
  "badRecords",
  "badPackets",
  "fragments",
  "staleCalls",
];

export function remarksOn(result: ReadResult, samples: PlotSamples): Remark[] {
  const { model, missedBytes } = samples;
  const losses = samples.losses.sums;
  const remarks: Remark[] = [];
  const add = (on: Subject | null, ...texts: string[]): void => {
    for (const text of texts) remarks.push({ on, text });
  };
  add("times", ...choicesText(result.lineChoices));
  if (missedBytes > 0) {
    add("times", `${formatBytes(missedBytes)} without a time (KQTIME-MISS) are not in it.`);
  }
  add("times", ...refusedText(model.times));
  add("lengths", ...refusedText(model.lengths));
  add("times", ...lossText(losses, (key) => OF_CALLS.includes(key)));
  add(null, ...lossText(losses, (key) => !OF_CALLS.includes(key)));
  const { lines, damaged, unknown } = result;
  const all = formatExact(lines + damaged + unknown);
  const skipped = (count: number, what: string): string =>
    `${formatExact(count)} of ${all} lines ${count === 1 ? "was" : "were"} ${what} and skipped.`;
  if (damaged > 0) add(null, skipped(damaged, "damaged"));
  if (unknown > 0) add(null, skipped(unknown, "unknown"));
  return remarks;
}

/** Those of a page. */
export function remarksFor(subject: Subject, remarks: readonly Remark[]): string[] {
  return remarks.filter(({ on }) => on === null || on === subject).map(({ text }) => text);
}

function choicesText(choices: readonly LineChoice[]): string[] {
  const texts = [...new Set(choices.map(chosenCalls))];
  if (texts.length === 0) return [];
  return [`Not of all calls: the log has only ${texts.join("; or only ")}.`];
}

function refusedText({ refused }: Series): string[] {
  const are = refused === 1 ? "is" : "are";
  return refused === 0
    ? []
    : [`${counted(refused, "sample")} below zero or without a time ${are} not in it.`];
}

function lossText(losses: Losses, isWanted: (key: keyof Losses) => boolean): string[] {
  const sentences = lossSentences(losses, isWanted);
  return sentences.length === 0 ? [] : [`Lost in the whole run: ${sentences.join("; ")}.`];
}
