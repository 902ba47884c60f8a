// A small reader of the nanosecond savefiles that tcpdump writes (pcap-savefile(5)) and of the
// TCP streams in them: when was each byte of each direction first seen? It is the independent
// truth of the end-to-end tests and shares nothing with src/capture.

import { readFileSync } from "node:fs";

const SYN = 2;
const FIN = 1;

/** What one direction of one connection showed on one device. Offsets count from its SYN + 1. */
export class SeenStream {
  /** Ranges of bytes with the time of their first sighting; sorted, never overlapping. */
  starts: number[] = [];
  ends: number[] = [];
  timesNs: number[] = [];
  /** Bytes that were seen again. */
  repeated = 0;
  /** Ranges that were seen only after bytes beyond them. */
  filledHoles = 0;
  fin = false;
  #highest = 0;
  #inorder: number[] | undefined;

  constructor(
    readonly source: string,
    readonly destination: string,
    readonly sourcePort: number,
    readonly destinationPort: number,
    readonly initial: number,
    readonly bornNs: number,
  ) {}

  /** Bytes that were seen, each counted once. */
  get bytes(): number {
    return this.ends.reduce((sum, end, i) => sum + end - this.starts[i], 0);
  }

  offsetOf(sequence: number): number {
    const low = (sequence - this.initial - 1) >>> 0;
    const turns = Math.round((this.#highest - low) / 2 ** 32);
    return low + Math.max(0, turns) * 2 ** 32;
  }

  see(start: number, end: number, timeNs: number): void {
    const { starts, ends, timesNs } = this;
    this.#inorder = undefined;
    if (end > this.#highest) this.#highest = end;
    const count = ends.length;
    if (count === 0 || start >= ends[count - 1]) {
      starts.push(start);
      ends.push(end);
      timesNs.push(timeNs);
      return;
    }
    let at = this.#at(start);
    let from = start;
    while (from < end) {
      if (at < starts.length && starts[at] <= from) {
        const to = Math.min(end, ends[at]);
        this.repeated += to - from;
        from = to;
      } else {
        const to = at < starts.length ? Math.min(end, starts[at]) : end;
        if (at < starts.length) this.filledHoles++;
        starts.splice(at, 0, from);
        ends.splice(at, 0, to);
        timesNs.splice(at, 0, timeNs);
        from = to;
      }
      at++;
    }
  }

  /** The first range that ends after the offset. */
  #at(offset: number): number {
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[middle] > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** When the byte was first seen; NaN when it never was. */
  timeOf(offset: number): number {
    const at = this.#at(offset);
    return at < this.starts.length && this.starts[at] <= offset ? this.timesNs[at] : NaN;
  }

  /** When the byte and all before it had been seen; NaN when they never were. */
  inorderOf(offset: number): number {
    if (!this.#inorder) {
      let latest = -Infinity;
      let expected = 0;
      this.#inorder = this.starts.map((start, i) => {
        latest = start === expected ? Math.max(latest, this.timesNs[i]) : NaN;
        expected = this.ends[i];
        return latest;
      });
    }
    const at = this.#at(offset);
    return at < this.starts.length && this.starts[at] <= offset ? this.#inorder[at] : NaN;
  }

  /** The first byte, within the range, of each packet that showed a byte of it for the first time. */
  offsetsWithin(start: number, end: number): number[] {
    const found: number[] = [];
    for (let at = this.#at(start); at < this.starts.length && this.starts[at] < end; at++) {
      found.push(Math.max(start, this.starts[at]));
    }
    return found;
  }
}

/** A savefile's streams, each incarnation of a four-tuple for itself, in the order of birth. */
export class Seen {
  readonly streams: SeenStream[] = [];
  /** Data packets that belong to no SYN that was seen. */
  strays = 0;
  #open = new Map<string, SeenStream[]>();

  /** The streams from one port to another, in the order of birth. */
  between(sourcePort: number, destinationPort: number): SeenStream[] {
    return this.streams.filter(
      (s) => s.sourcePort === sourcePort && s.destinationPort === destinationPort,
    );
  }

  packet(
    source: string, destination: string, sourcePort: number, destinationPort: number,
    sequence: number, flags: number, length: number, timeNs: number,
  ): void {
    const key = `${source}/${sourcePort}/${destination}/${destinationPort}`;
    let all = this.#open.get(key);
    if (!all) this.#open.set(key, (all = []));
    if (flags & SYN) {
      if (!all.some((stream) => stream.initial === sequence)) {
        const stream = new SeenStream(
          source, destination, sourcePort, destinationPort, sequence, timeNs,
        );
        all.push(stream);
        this.streams.push(stream);
      }
      sequence = (sequence + 1) >>> 0;
    }
    if (!length && !(flags & FIN)) return;
    const stream = all.at(-1);
    if (!stream) {
      if (length) this.strays++;
      return;
    }
    const start = stream.offsetOf(sequence);
    if (length) stream.see(start, start + length, timeNs);
    if (flags & FIN) stream.fin = true;
  }
}

function addressText(view: DataView, at: number, bytes: number): string {
  let text = "";
  for (let i = 0; i < bytes; i++) text += view.getUint8(at + i).toString(16).padStart(2, "0");
  return text;
}

/** Reads a savefile of link type Ethernet. Times are nanoseconds after `baseSec`. */
export function readSavefile(path: string, baseSec: number): Seen {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  if (view.getUint32(0, true) !== 0xa1b23c4d) throw new Error(`${path}: not nanoseconds`);
  if (view.getUint32(20, true) !== 1) throw new Error(`${path}: not Ethernet`);
  const seen = new Seen();
  for (let at = 24; at + 16 <= file.length; ) {
    const timeNs = (view.getUint32(at, true) - baseSec) * 1e9 + view.getUint32(at + 4, true);
    const captured = view.getUint32(at + 8, true);
    const wire = view.getUint32(at + 12, true);
    at += 16;
    if (at + captured > file.length) break;
    readFrame(view, at, wire, timeNs, seen);
    at += captured;
  }
  return seen;
}

function readFrame(view: DataView, at: number, wire: number, timeNs: number, seen: Seen): void {
  const type = view.getUint16(at + 12);
  const network = at + 14;
  let transport: number;
  let end: number;
  let source: string;
  let destination: string;
  if (type === 0x0800) {
    if (view.getUint8(network + 9) !== 6) return;
    transport = network + (view.getUint8(network) & 15) * 4;
    end = network + (view.getUint16(network + 2) || wire - 14);
    source = addressText(view, network + 12, 4);
    destination = addressText(view, network + 16, 4);
  } else if (type === 0x86dd) {
    let next = view.getUint8(network + 6);
    transport = network + 40;
    if (next === 0) {
      next = view.getUint8(transport);
      transport += (view.getUint8(transport + 1) + 1) * 8;
    }
    if (next !== 6) return;
    const length = view.getUint16(network + 4);
    end = network + (length ? 40 + length : wire - 14);
    source = addressText(view, network + 8, 16);
    destination = addressText(view, network + 24, 16);
  } else {
    return;
  }
  const header = (view.getUint8(transport + 12) >> 4) * 4;
  seen.packet(
    source, destination, view.getUint16(transport), view.getUint16(transport + 2),
    view.getUint32(transport + 4), view.getUint8(transport + 13), end - transport - header, timeNs,
  );
}
