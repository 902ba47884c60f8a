// Samples, and how they are read from the lines that the collector writes into a pipe: the lines of
// the log (see the README), so that both tell the same.

import { REASONS } from "../output/reasons.ts";

/** What all samples tell. */
interface SampleBase {
  /** `out`: bytes that the program sent; `in`: bytes that it received. */
  readonly direction: "out" | "in";
  /** As registered; `NULL` without a name. */
  readonly name: string;
  /**
   * Unix time, ms with fractions (a Number resolves 0.25 µs there): outbound when the call was
   * entered, inbound when the last byte arrived at the device.
   */
  readonly startUnixMs: number;
  /** Bytes of the call that this sample is about. */
  readonly bytes: number;
  /** Where they begin in this direction of the connection: bytes since its birth. */
  readonly offset: number;
  /** Descriptor of the call, in process `pid`. */
  readonly fd: number;
  readonly pid: number;
  /** Number of the socket, unique in the session, also when descriptors are used again. */
  readonly sock: number;
  readonly localPort: number;
  readonly remotePort: number;
}

/** A call whose bytes have a time. */
export interface CallSample extends SampleBase {
  readonly kind: "call";
  /**
   * Nanoseconds that the call's last byte waited in the kernel: outbound from the call to the
   * device, inbound from the device to the call's return.
   */
  readonly waitNs: number;
  /** The same of its first byte, ns. */
  readonly firstByteWaitNs: number;
  /** Inbound: how much of `waitNs` was the wait for an earlier byte that was missing, ns; else 0. */
  readonly reassemblyNs: number;
}

/** Bytes of a call that have no time. */
export interface MissSample extends SampleBase {
  readonly kind: "miss";
  /** Why: a reason of the README's table, for example `capture drop`. */
  readonly reason: string;
}

export type Sample = CallSample | MissSample;

const KINDS = ["KQTIME-OUT", "KQTIME-IN", "KQTIME-MISS"] as const;

/** Nanoseconds from one "S.NNNNNNNNN" to another. */
function elapsedNs(from: string, to: string): number {
  const dotFrom = from.indexOf(".");
  const dotTo = to.indexOf(".");
  const seconds = Number(to.slice(0, dotTo)) - Number(from.slice(0, dotFrom));
  return seconds * 1e9 + (Number(to.slice(dotTo + 1)) - Number(from.slice(dotFrom + 1)));
}

/** Whether the line that begins there holds a sample. */
export function isSample(text: string, from: number): boolean {
  return KINDS.some((kind) => text.startsWith(kind, from) && text[from + kind.length] === ";");
}

/** The sample that a line holds; null of a line of another kind, or one that is damaged. */
export function parseSample(line: string): Sample | null {
  if (!isSample(line, 0)) return null;
  const kind = line.slice(0, line.indexOf(";"));
  const end = line.indexOf(";", kind.length + 1);
  if (end < 0 || !line.endsWith(";")) return null;
  const texts: Record<string, string> = {};
  for (let at = kind.length + 1; at < end; ) {
    const comma = line.indexOf(",", at);
    const to = comma < 0 || comma > end ? end : comma;
    const equals = line.indexOf("=", at);
    if (equals < 0 || equals > to) return null;
    texts[line.slice(at, equals)] = line.slice(equals + 1, to);
    at = to + 1;
  }
  const { start = "", end: last = "", first = "", inorder = "" } = texts;
  const inbound = kind === "KQTIME-MISS" ? texts["dir"] === "1" : kind === "KQTIME-IN";
  const base = {
    direction: inbound ? "in" : "out",
    name: line.slice(end + 1, -1),
    startUnixMs: Number(start) * 1000,
    bytes: Number(texts["bytes"]),
    offset: Number(texts["off"]),
    fd: Number(texts["fd"]),
    pid: Number(texts["pid"]),
    sock: Number(texts["sock"]),
    localPort: Number(texts["lport"]),
    remotePort: Number(texts["rport"]),
  } as const;
  if (!Number.isFinite(base.startUnixMs) || !Number.isFinite(base.bytes)) return null;
  if (kind === "KQTIME-MISS") {
    return { kind: "miss", ...base, reason: REASONS[Number(texts["reason"])] ?? "unknown" };
  }
  return {
    kind: "call",
    ...base,
    waitNs: elapsedNs(start, last),
    firstByteWaitNs: inbound ? elapsedNs(first, last) : elapsedNs(start, first),
    reassemblyNs: inbound ? elapsedNs(start, inorder) : 0,
  };
}
