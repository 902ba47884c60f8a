// What the tests of handles and of names share: the records by which a process registers and names
// its sockets, and a handle whose lines are kept.

import type { Connection } from "../../src/match/connection.ts";
import type { CallSink } from "../../src/match/merge.ts";
import { Kind, SlotWord } from "../../src/ring/layout.ts";
import { Bench } from "./bench.ts";
import { slotWords } from "./words.ts";

interface Line {
  what: "call" | "miss";
  direction: number;
  fd: number;
  pid: number;
  off: number;
  bytes: number;
  name: string;
}

export class Lines implements CallSink {
  readonly lines: Line[] = [];
  readonly call: CallSink["call"] = (direction, _s, _e, _f, _i, bytes, off, pid, fd, ...rest) =>
    this.#add("call", direction, bytes, off, pid, fd, rest[3]);
  readonly miss: CallSink["miss"] = (direction, _s, _e, bytes, off, pid, fd, ...rest) =>
    this.#add("miss", direction, bytes, off, pid, fd, rest[4]);

  #add(
    what: Line["what"],
    direction: number,
    bytes: number,
    off: number,
    pid: number,
    fd: number,
    name: Uint8Array,
  ): void {
    const text = new TextDecoder().decode(name);
    this.lines.push({ what, direction, fd, pid, off, bytes, name: text });
  }
}

/** The records that name and register a socket, as a process writes them. */
export function registration(
  about: Uint32Array,
  handle: number,
  name: string,
  serial: number,
): Uint32Array[] {
  const bytes = new TextEncoder().encode(name);
  const common = {
    entry: about[SlotWord.entry]!,
    generation: about[SlotWord.gen]!,
    timeNs: 1,
    pid: about[SlotWord.pid]!,
    fd: about[SlotWord.fd]!,
    group: serial,
    bytes: bytes.length,
  };
  const records: Uint32Array[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = slotWords({ ...common, kind: Kind.Name, off: at });
    const tag = new Uint8Array(16);
    tag.set(bytes.subarray(at, at + 16));
    part.set(new Uint32Array(tag.buffer), SlotWord.tag);
    records.push(part);
  }
  records.push(slotWords({ ...common, kind: Kind.Register, off: handle }));
  return records;
}

export function deregistration(about: Uint32Array, handle: number): Uint32Array {
  return slotWords({
    kind: Kind.Deregister,
    entry: about[SlotWord.entry]!,
    generation: about[SlotWord.gen]!,
    timeNs: 1,
    pid: about[SlotWord.pid]!,
    off: handle,
  });
}

/** An engine that measures for handle 1 alone, and the lines that this one gets. */
export function nothingElse(): { bench: Bench; sink: Lines } {
  const sink = new Lines();
  const bench = new Bench({ everything: null });
  bench.engine.handles.open(1, sink);
  return { bench, sink };
}

/** The socket that lives in an entry. */
export function living(bench: Bench, entry: number): Connection {
  return [...bench.engine.live].find((connection) => connection.entry === entry)!;
}

/** Registers the socket of an entry with handle 1 by a name; by null it takes it out. */
export function say(bench: Bench, entry: number, name: string | null, timeNs: number): void {
  const about = slotWords({ kind: Kind.Out, entry, generation: 1, timeNs, pid: 100, fd: entry + 3 });
  const records = name === null ? [deregistration(about, 1)] : registration(about, 1, name, timeNs);
  for (const record of records) {
    const time = slotWords({ kind: Kind.Out, entry, generation: 1, timeNs });
    record.set(time.subarray(SlotWord.timeNs, SlotWord.timeNs + 2), SlotWord.timeNs);
    bench.engine.record(bench.table, record);
  }
}
