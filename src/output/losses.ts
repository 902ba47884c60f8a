// What was lost on the way, in words: for the table, the summary's warnings, and the answer to a
// program that ends its measurement.

import type { Losses } from "./summary.ts";
import { formatExact } from "./units.ts";

/** What one of them is, what several are, and how they were lost. */
const LOSS_TEXT: Record<keyof Losses, readonly [one: string, many: string, how: string]> = {
  ringRecords: ["record", "records", "dropped, the ring was full"],
  memoryRecords: ["record", "records", "dropped, no memory for the ring"],
  capturePackets: ["packet", "packets", "dropped by the capture"],
  interfacePackets: ["packet", "packets", "dropped by the interface"],
  captureGaps: ["gap", "gaps", "of the capture, which had stopped"],
  badRecords: ["record", "records", "that made no sense"],
  badPackets: ["packet", "packets", "that could not be decoded"],
  fragments: ["IP fragment", "IP fragments", "that could not be joined"],
  logLines: ["line", "lines", "of the log not written"],
  tableSockets: ["socket", "sockets", "not measured, the table was full"],
  descriptorSockets: ["socket", "sockets", "not measured, descriptor too high"],
  addressSockets: ["socket", "sockets", "without known addresses"],
  staleCalls: ["call", "calls", "on sockets that were taken for ended"],
  inheritedRings: ["forked process", "forked processes", "in the ring of its parent, which was full: raise --ring"],
  unheardProcesses: [
    "process",
    "processes",
    "not measured, kqtime could not be reached: was it stopped, or is net.core.somaxconn too small?",
  ],
};

export const LOSS_KEYS = Object.keys(LOSS_TEXT) as readonly (keyof Losses)[];

/** On the measured program's side: they show in no books. */
const UNMEASURED: readonly (keyof Losses)[] = [
  "ringRecords",
  "memoryRecords",
  "badRecords",
  "tableSockets",
  "descriptorSockets",
  "addressSockets",
  "staleCalls",
  "unheardProcesses",
];

/**
 * Those above zero. A forked process that goes on in its parent's ring (a sandbox or a chroot kept its
 * own from being handed over) loses nothing by it, unless the two fill that ring.
 */
export function lossesOf(losses: Losses): (keyof Losses)[] {
  return LOSS_KEYS.filter(
    (key) => losses[key] > 0 && (key !== "inheritedRings" || losses.ringRecords > 0),
  );
}

/** What `count` of them are, without the number. */
export function lossText(key: keyof Losses, count: number): string {
  const [one, many, how] = LOSS_TEXT[key];
  return `${count === 1 ? one : many} ${how}`;
}

/** A sentence for each counter above zero, of those that are wanted. */
export function lossSentences(
  losses: Losses,
  isWanted: (key: keyof Losses) => boolean = () => true,
): string[] {
  return lossesOf(losses)
    .filter(isWanted)
    .map((key) => `${formatExact(losses[key])} ${lossText(key, losses[key])}`);
}

/** As `lossSentences`, of what kept sockets and calls of measured programs from being measured. */
export function unmeasuredSentences(losses: Losses): string[] {
  return lossSentences(losses, (key) => UNMEASURED.includes(key));
}
