// The KQTIME-BOOKS line: everything that the summary says about one label and direction, so that
// a report made from the log alone equals the summary. Beside the sums it carries the histograms,
// bucket by bucket, because quantiles can be merged in no other form.
//
//     KQTIME-BOOKS;start=S,end=S,dir=0|1,sockets=N,calls=N,called=N,matched=N,inflight=N,unread=N,
//       unexplained=N,retransmitted=N[,oldest=N],miss<R>=N…,call_min=N,call_max=N,call_sum=N,call_<B>=W…,
//       byte_…,reasm_…;NAME;
//
// in one line. R is a code of reasons.ts, B a bucket of histogram.ts and W its weight; of both only
// those above zero are written, and of a histogram without values nothing. `oldest` is how long the
// oldest byte had waited, ns, if one still did.

import { ascii, LineBuffer } from "./line.ts";
import { BUCKETS, Histogram } from "./histogram.ts";
import { DirectionStats } from "./stats.ts";

const PREFIX = "KQTIME-BOOKS;";
/** Keys of the sums, and the fields that they carry. */
const SUMS = [
  ["sockets", "sockets"],
  ["calls", "calls"],
  ["called", "bytesCalled"],
  ["matched", "bytesMatched"],
  ["inflight", "bytesInFlight"],
  ["unread", "bytesUnread"],
  ["unexplained", "bytesUnexplained"],
  ["retransmitted", "bytesRetransmitted"],
] as const;
const HISTOGRAMS = [
  ["call_", "callNs"],
  ["byte_", "byteNs"],
  ["reasm_", "reassemblyNs"],
] as const;

/** What they are read as: Unix seconds, counts, and the sum of a histogram, ns by bytes. */
const TIME = /^\d{1,10}(\.\d{1,9})?$/;
const COUNT = /^(0|[1-9]\d{0,39})$/;

/** A Number ≥ 0 in decimal digits that read back as the same Number. */
function digits(value: number): string {
  return value < 1e21 ? String(value) : BigInt(value).toString();
}

/** The pairs that every line begins with. */
export function timePairs(startNs: number, endNs: number, baseSec: number): string {
  const text = new LineBuffer(64, baseSec);
  text.put(ascii("start="));
  text.putTime(startNs);
  text.put(ascii(",end="));
  text.putTime(endNs);
  return new TextDecoder().decode(text.bytes.subarray(0, text.length));
}

/** One line with its newline. `name` is from `encodeName`. */
export function writeBooks(
  direction: 0 | 1,
  startNs: number,
  endNs: number,
  stats: DirectionStats,
  name: Uint8Array,
  baseSec: number,
): Uint8Array {
  const pairs = [timePairs(startNs, endNs, baseSec), `dir=${direction}`];
  for (const [key, field] of SUMS) pairs.push(`${key}=${digits(stats[field])}`);
  if (stats.waitingSinceNs !== Infinity) pairs.push(`oldest=${digits(endNs - stats.waitingSinceNs)}`);
  stats.unmatched.forEach((bytes, reason) => {
    if (bytes !== 0) pairs.push(`miss${reason}=${digits(bytes)}`);
  });
  for (const [key, field] of HISTOGRAMS) {
    const histogram = stats[field];
    if (histogram.count === 0) continue;
    pairs.push(`${key}min=${digits(histogram.min!)}`, `${key}max=${digits(histogram.max!)}`);
    pairs.push(`${key}sum=${digits(histogram.sum)}`);
    histogram.forEachBucket((bucket, weight) => pairs.push(`${key}${bucket}=${digits(weight)}`));
  }
  const label = new TextDecoder().decode(name);
  return new TextEncoder().encode(`${PREFIX}${pairs.join(",")};${label};\n`);
}

export interface Books {
  direction: 0 | 1;
  /** Unix seconds as written, nine decimals: more than a Number holds. */
  start: string;
  end: string;
  /** The name, or the label, as the log has it. */
  label: string;
  /** Times in it are relative to the end. */
  stats: DirectionStats;
}

/**
 * Reads a line back. Null if it is another line, or a damaged one.
 * @throws RangeError if no distribution is like that
 */
export function parseBooks(line: string): Books | null {
  if (!line.startsWith(PREFIX)) return null;
  const [, keys, label] = line.split(";");
  if (keys === undefined || label === undefined) return null;
  const found = new Map<string, string>();
  for (const pair of keys.split(",")) {
    const [key, value] = pair.split("=");
    const form = key === "start" || key === "end" ? TIME : COUNT;
    if (!key || !value || !form.test(value)) return null;
    // Beyond it counts would not be exact, and no measurement gets there.
    if (form === COUNT && Number(value) > Number.MAX_SAFE_INTEGER && !/_sum$/.test(key)) return null;
    found.set(key, value);
  }
  const [start, end, dir] = [found.get("start"), found.get("end"), found.get("dir")];
  if (start === undefined || end === undefined || (dir !== "0" && dir !== "1")) return null;
  const number = (key: string): number => Number(found.get(key) ?? 0);
  const stats = new DirectionStats();
  for (const [key, field] of SUMS) stats[field] = number(key);
  if (found.has("oldest")) stats.waitingSinceNs = -number("oldest");
  for (let reason = 0; reason < stats.unmatched.length; reason++) {
    stats.unmatched[reason] = number(`miss${reason}`);
  }
  for (const [prefix, field] of HISTOGRAMS) {
    const buckets: [number, number][] = [];
    for (const [key, value] of found) {
      const bucket = key.startsWith(prefix) ? key.slice(prefix.length) : "";
      if (/^\d+$/.test(bucket) && Number(bucket) < BUCKETS) {
        buckets.push([Number(bucket), Number(value)]);
      }
    }
    const sum = number(`${prefix}sum`);
    const restored = Histogram.restore(
      buckets,
      number(`${prefix}min`),
      number(`${prefix}max`),
      sum,
    );
    stats[field].merge(restored);
  }
  return { direction: dir === "1" ? 1 : 0, start, end, label, stats };
}
