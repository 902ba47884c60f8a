// The KQTIME-LOSS line, the last one of a log: what was lost on the way, so that whoever reads the
// log alone knows what its figures are worth.
//
//     KQTIME-LOSS;start=S,end=S,session=N,ringRecords=N,…,logLines=N,…;NULL;
//
// in one line. It has every counter of the summary's `losses`, by the same names, also those that
// are 0: `logLines` of this log, the others of the session up to then, which may have several logs.

import { timePairs } from "./books.ts";
import type { Losses } from "./summary.ts";

/** All but the log's own. */
export type LossCounters = Omit<Losses, "logLines">;

/** One line with its newline. */
export function writeLosses(
  startNs: number,
  endNs: number,
  /** Which one it is, by a number above 0; 0: it is not known. */
  session: number,
  losses: Losses,
  baseSec: number,
): Uint8Array {
  const pairs = [timePairs(startNs, endNs, baseSec)];
  if (session > 0) pairs.push(`session=${session}`);
  for (const [key, count] of Object.entries(losses)) pairs.push(`${key}=${Math.round(count)}`);
  return new TextEncoder().encode(`KQTIME-LOSS;${pairs.join(",")};NULL;\n`);
}
