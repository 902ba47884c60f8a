// Holds a KQTIME log against the truth, line by line. The truth has two halves that kqtime had no
// hand in: what the fixture logged of its own calls (a clock before and after each) and what an
// independent tcpdump saw; they are joined by sequence number here, by the definition itself:
// the n-th byte that a process gave to a connection is the n-th after the SYN on the wire.

import { IN, OUT, type Call, type CallStream } from "./calllog.ts";
import type { CallLine, KQTimeLog } from "./kqlog.ts";
import type { Seen, SeenStream } from "./pcap.ts";

export interface Truth {
  calls: CallStream[];
  /** What the device of the measured side showed; without it only the calls are compared. */
  seen?: Seen;
  /** What the device at the other end of the cable showed: nothing arrives before it leaves there. */
  far?: Seen;
  /** On loopback the one stamp of a packet, taken as it comes in, is its departure as well. */
  loopback?: boolean;
}

export interface CompareOptions {
  /**
   * Records or packets were lost on purpose: lines may be absent or cover a part of a call, but
   * what is there must be true.
   */
  lossy?: boolean;
}

// Each tap reads the clock for itself, and between two of them an interrupt, or another machine's
// turn on this processor, may come: of two tcpdumps on one device 1 or 2 in 7,000 stamps of
// incoming packets are more than 20 µs apart (up to 0.7 ms where other work keeps the processors
// busy); outgoing ones are stamped once for all taps. On veth a packet leaves one device and arrives
// at the other in the same breath, and the tap of kqtime comes before the witness's. So a stamp
// between the departure that one tcpdump saw and the arrival that the other one saw is as true as
// theirs. On loopback there is no departure to see; there a stamp may be early by as much as this.
const NOISE_NS = 500_000;
// Noise is rare, or it is none: a few lines or, where something keeps coming between departures and
// arrivals, few beside the packets whose two witnesses are that far apart. (Of 2,000 packets on two
// crowded processors 90 to 570 were, and 0 to 11 lines were noisy.)
const NOISE_SHARE = 0.01;
const NOISE_LINES = 10;
const TORN_SHARE = 0.25;
/** How far two stamps of one packet may be apart that are called the same. */
const TOLERANCE_NS = 20_000;

interface Mismatch {
  kind: string;
  /** How bad: nanoseconds or bytes off. */
  size: number;
  text: string;
}

export class Comparison {
  /** Calls of the fixture that moved bytes, and lines of the log about them. */
  calls = 0;
  lines = 0;
  bytes = 0;
  worstPacketNs = 0;
  longestNs = 0;
  /** Lines whose last byte had to wait for a hole. */
  reassembled = 0;
  /** Lines whose stamps differ from the witness's by as much as two witnesses may differ. */
  readonly noisy = new Set<CallLine>();
  readonly mismatches: Mismatch[] = [];

  add(kind: string, size: number, text: string): void {
    this.mismatches.push({ kind, size: Number.isNaN(size) ? Infinity : size, text });
  }

  get exact(): boolean {
    return this.mismatches.length === 0;
  }

  /** What is wrong, counted by kind, the worst of each kind first; empty when nothing is. */
  report(limit = 4): string {
    if (this.exact) return "";
    const kinds = new Map<string, Mismatch[]>();
    for (const mismatch of this.mismatches) {
      const list = kinds.get(mismatch.kind);
      if (list) list.push(mismatch);
      else kinds.set(mismatch.kind, [mismatch]);
    }
    const parts = [...kinds].map(([kind, list]) => {
      list.sort((a, b) => b.size - a.size);
      const worst = list.slice(0, limit).map((m) => `    ${m.text}`);
      return `  ${list.length} × ${kind}\n${worst.join("\n")}`;
    });
    return `${this.lines} lines for ${this.calls} calls:\n${parts.join("\n")}`;
  }
}

export function compare(log: KQTimeLog, truth: Truth, options: CompareOptions = {}): Comparison {
  const result = new Comparison();
  const lines = groupLines(log.calls);
  const incarnations = new Map<string, number>();
  let torn = 0;
  const streams = [...truth.calls].sort(
    (a, b) => (a.calls[0]?.beforeNs ?? 0) - (b.calls[0]?.beforeNs ?? 0),
  );
  for (const stream of streams) {
    if (!stream.calls.length) continue;
    const key = `${stream.direction}/${stream.lport}/${stream.rport}`;
    const incarnation = incarnations.get(key) ?? 0;
    incarnations.set(key, incarnation + 1);
    const group = lines.get(key)?.[incarnation] ?? [];
    const wire = truth.seen && wireOf(truth.seen, stream, incarnation);
    result.calls += stream.calls.length;
    result.lines += group.length;
    if (truth.seen && !wire) {
      result.add("connection that the witness did not see", 1, name(stream));
      continue;
    }
    const far = truth.far && wireOf(truth.far, stream, incarnation);
    if (stream.direction === IN) torn += tornPackets(wire, far);
    compareStream(stream, group, { wire, far, loopback: truth.loopback === true }, options, result);
  }
  const noiseLines = Math.max(NOISE_LINES, result.lines * NOISE_SHARE, torn * TORN_SHARE);
  if (result.noisy.size > noiseLines) {
    result.add(`line with early arrivals, too many for noise (${torn} packets torn)`,
      result.noisy.size, [...result.noisy][0].text);
  }
  for (const [key, groups] of lines) {
    const known = incarnations.get(key) ?? 0;
    if (groups.length <= known) continue;
    const extra = groups.slice(known).flat();
    result.add("line of a connection that the fixture does not know", extra.length, extra[0].text);
  }
  return result;
}

/** Lines by direction and ports, then by socket in the order of birth, then by offset. */
function groupLines(lines: readonly CallLine[]): Map<string, CallLine[][]> {
  const sockets = new Map<string, Map<number, CallLine[]>>();
  for (const line of lines) {
    const key = `${line.direction}/${line.lport}/${line.rport}`;
    let bySocket = sockets.get(key);
    if (!bySocket) sockets.set(key, (bySocket = new Map()));
    const list = bySocket.get(line.sock);
    if (list) list.push(line);
    else bySocket.set(line.sock, [line]);
  }
  const groups = new Map<string, CallLine[][]>();
  for (const [key, bySocket] of sockets) {
    const list = [...bySocket.values()];
    for (const group of list) group.sort((a, b) => a.offset - b.offset);
    list.sort((a, b) => a[0].startNs - b[0].startNs);
    groups.set(key, list);
  }
  return groups;
}

function wireOf(seen: Seen, stream: CallStream, incarnation: number): SeenStream | undefined {
  const [from, to] = stream.direction === OUT
    ? [stream.lport, stream.rport]
    : [stream.rport, stream.lport];
  return seen.between(from, to)[incarnation];
}

/** Packets between whose departure and arrival, as the two witnesses saw them, something came. */
function tornPackets(wire: SeenStream | undefined, far: SeenStream | undefined): number {
  if (!wire || !far) return 0;
  return wire.starts.filter((offset, i) => wire.timesNs[i] - far.timeOf(offset) > TOLERANCE_NS).length;
}

function name(stream: CallStream): string {
  return `${stream.direction === OUT ? "out" : "in"} ${stream.lport} to ${stream.rport}`;
}

interface Sight {
  wire: SeenStream | undefined;
  far: SeenStream | undefined;
  loopback: boolean;
}

function compareStream(
  stream: CallStream, lines: CallLine[], sight: Sight,
  options: CompareOptions, result: Comparison,
): void {
  const { calls } = stream;
  if (!options.lossy && lines.length !== calls.length) {
    result.add(
      "stream with a wrong number of lines", Math.abs(lines.length - calls.length),
      `${name(stream)}: ${calls.length} calls, ${lines.length} lines`,
    );
  }
  let at = 0;
  let covered = 0;
  for (const line of lines) {
    while (at < calls.length && calls[at].offset + calls[at].bytes <= line.offset) at++;
    const call = calls[at];
    if (!call || line.offset < call.offset
      || line.offset + line.bytes > call.offset + call.bytes) {
      result.add("line that is no call", line.bytes, line.text);
      continue;
    }
    const whole = line.offset === call.offset && line.bytes === call.bytes;
    if (!whole && !options.lossy) {
      result.add(
        "line with a wrong range", Math.abs(call.bytes - line.bytes),
        `call ${call.offset}+${call.bytes}: ${line.text}`,
      );
    }
    if (line.offset < covered) result.add("byte counted twice", covered - line.offset, line.text);
    covered = line.offset + line.bytes;
    result.bytes += line.bytes;
    compareLine(stream, line, call, whole ? sight : undefined, options, result);
    if (!whole && sight.wire) comparePart(line, call, sight, sight.wire, result);
  }
}

function compareLine(
  stream: CallStream, line: CallLine, call: Call, sight: Sight | undefined,
  options: CompareOptions, result: Comparison,
): void {
  const out = stream.direction === OUT;
  const ownNs = out ? line.startNs : line.endNs;
  if (ownNs < call.beforeNs || ownNs > call.afterNs) {
    const off = ownNs < call.beforeNs ? call.beforeNs - ownNs : ownNs - call.afterNs;
    result.add("call's stamp outside the call", off, `${off} ns outside: ${line.text}`);
  }
  result.longestNs = Math.max(result.longestNs, line.endNs - line.startNs);
  if (line.endNs < line.startNs || (out ? line.firstNs < line.startNs : line.firstNs > line.endNs)) {
    result.add("negative time", line.startNs - line.endNs, line.text);
  }
  const wire = sight?.wire;
  if (!wire) return;
  const last = call.offset + call.bytes - 1;
  const packetStamp = (what: string, stampNs: number, trueNs: number, offset: number) => {
    const off = Math.abs(stampNs - trueNs);
    if (off <= TOLERANCE_NS) {
      result.worstPacketNs = Math.max(result.worstPacketNs, off);
      return;
    }
    if (isNoise(line, sight, stampNs, trueNs, offset)) {
      result.noisy.add(line);
      return;
    }
    const by = Number.isNaN(off) ? "never seen by the witness" : `off by ${stampNs - trueNs} ns`;
    result.add(`${out ? "departure" : "arrival"} of the ${what} byte`, off, `${by}: ${line.text}`);
  };
  packetStamp("first", line.firstNs, wire.timeOf(call.offset), call.offset);
  packetStamp("last", out ? line.endNs : line.startNs, wire.timeOf(last), last);
  if (stream.direction === IN) {
    // Behind a packet that the capture lost it cannot be known, but it is between these two.
    if (!options.lossy) packetStamp("contiguous", line.inorderNs, wire.inorderOf(last), last);
    else if (line.inorderNs < line.startNs || line.inorderNs > line.endNs) {
      result.add("contiguous only after the return", line.inorderNs - line.endNs, line.text);
    }
    if (wire.inorderOf(last) > wire.timeOf(last)) result.reassembled++;
  }
}

/** Whether a stamp that is not the witness's lies where noise may put it. */
function isNoise(
  line: CallLine, sight: Sight, stampNs: number, trueNs: number, offset: number,
): boolean {
  const earliestNs = sight.far ? sight.far.timeOf(offset) : trueNs - NOISE_NS;
  return (line.direction === IN || sight.loopback) && stampNs < trueNs && stampNs >= earliestNs;
}

/** A line about a part of a call: its stamps must be stamps of packets that carried the call. */
function comparePart(
  line: CallLine, call: Call, sight: Sight, wire: SeenStream, result: Comparison,
): void {
  const offsets = wire.offsetsWithin(call.offset, call.offset + call.bytes);
  const stamps = line.direction === OUT ? [line.firstNs, line.endNs] : [line.firstNs, line.startNs];
  for (const stampNs of stamps) {
    const off = Math.min(...offsets.map((offset) => Math.abs(wire.timeOf(offset) - stampNs)));
    if (off <= TOLERANCE_NS) continue;
    if (offsets.some((offset) => isNoise(line, sight, stampNs, wire.timeOf(offset), offset))) {
      result.noisy.add(line);
    } else {
      const what = `${line.text}, a part of the ${call.bytes} bytes from ${call.offset}`;
      result.add("stamp of a part that no packet of the call has", off, `off by ${off} ns: ${what}`);
    }
  }
}

/**
 * The log that a perfect kqtime would write: it shows that fixture and witness agree before
 * anything is said about kqtime, and that the comparison finds nothing in it.
 */
export function perfectLog(truth: Truth): KQTimeLog {
  const calls: CallLine[] = [];
  const incarnations = new Map<string, number>();
  let sock = 0;
  for (const stream of truth.calls) {
    if (!stream.calls.length) continue;
    const key = `${stream.direction}/${stream.lport}/${stream.rport}`;
    const incarnation = incarnations.get(key) ?? 0;
    incarnations.set(key, incarnation + 1);
    const wire = truth.seen && wireOf(truth.seen, stream, incarnation);
    sock++;
    for (const call of stream.calls) {
      const last = call.offset + call.bytes - 1;
      const firstNs = wire?.timeOf(call.offset) ?? call.beforeNs;
      const lastNs = wire?.timeOf(last) ?? call.beforeNs;
      const out = stream.direction === OUT;
      calls.push({
        direction: stream.direction,
        startNs: out ? call.beforeNs : lastNs,
        endNs: out ? lastNs : call.afterNs,
        firstNs,
        inorderNs: wire?.inorderOf(last) ?? call.beforeNs,
        fd: stream.fd, bytes: call.bytes, offset: call.offset, pid: 0, sock,
        lport: stream.lport, rport: stream.rport, name: "NULL",
        text: `${name(stream)} offset ${call.offset}`,
      });
    }
  }
  return { calls, misses: [], books: [], stats: [], others: new Map() };
}
