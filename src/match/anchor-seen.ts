// Which payload bytes of one direction the capture has shown, as ranges of sequence numbers: what the
// kernel counted between two moments must have been seen on the wire in between, or the capture shows
// only a part of the connection (a filter by size, another path) and proves nothing about it.

/** More ranges are not kept; the oldest go. A capture that sees everything has one, or a few. */
const MOST_RANGES = 64;

export class SeenBytes {
  /** Starts and ends in turn, ascending and apart, in sequence numbers that do not wrap. */
  readonly #ranges: number[] = [];
  /** The end that was seen last, and its sequence number. */
  #last = 0;
  #lastSequence = -1;

  get isEmpty(): boolean {
    return this.#lastSequence < 0;
  }

  add(sequence: number, bytes: number): void {
    const start = this.#lastSequence < 0 ? 0 : this.#place(sequence);
    const end = start + bytes;
    this.#last = end;
    this.#lastSequence = (sequence + bytes) >>> 0;
    const ranges = this.#ranges;
    let first = ranges.length;
    while (first > 0 && ranges[first - 1]! >= start) first -= 2;
    let behind = first;
    let low = start;
    let high = end;
    while (behind < ranges.length && ranges[behind]! <= end) {
      if (ranges[behind]! < low) low = ranges[behind]!;
      if (ranges[behind + 1]! > high) high = ranges[behind + 1]!;
      behind += 2;
    }
    if (behind === first + 2) {
      ranges[first] = low;
      ranges[first + 1] = high;
      return;
    }
    ranges.splice(first, behind - first, low, high);
    if (ranges.length > MOST_RANGES * 2) ranges.splice(0, 2);
  }

  /** Whether each of these bytes was seen. */
  covers(sequence: number, bytes: number): boolean {
    if (this.#lastSequence < 0) return bytes === 0;
    const start = this.#place((sequence + bytes) >>> 0) - bytes;
    const ranges = this.#ranges;
    for (let i = ranges.length - 2; i >= 0; i -= 2) {
      if (ranges[i]! <= start) return ranges[i + 1]! >= start + bytes;
    }
    return false;
  }

  #place(sequence: number): number {
    return this.#last + ((sequence - this.#lastSequence) | 0);
  }
}
