// A checksum of the packets of a batch, as a savefile holds them: of one that was recorded and of the
// same one replayed it is the same, or the savefile was altered.

import type { Capture } from "../ffi/libpcap.ts";

/** Of each packet, in front of its bytes: seconds, nanoseconds, bytes kept, bytes on the wire. */
const HEAD_BYTES = 16;
const START_BYTES = 1 << 16;

export class PacketDigest {
  #bytes = new Uint8Array(START_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #used = 0;
  /** Where each packet ends. */
  readonly #ends: number[] = [];

  /** Forgets the packets of the batch before. */
  clear(): void {
    this.#used = 0;
    this.#ends.length = 0;
  }

  /** Adds the capture's current packet, of which `most` bytes are kept at the most. */
  add(capture: Capture, most: number): void {
    const kept = Math.min(most, capture.capturedBytes);
    const at = this.#used;
    const end = at + HEAD_BYTES + kept;
    if (end > this.#bytes.length) this.#grow(end);
    const view = this.#view;
    view.setUint32(at, capture.sec, true);
    view.setUint32(at + 4, capture.nsec, true);
    view.setUint32(at + 8, kept, true);
    view.setUint32(at + 12, capture.wireBytes, true);
    const [from, to] = [capture.bytes, this.#bytes];
    for (let i = 0, j = at + HEAD_BYTES; i < kept; i++, j++) to[j] = from[i]!;
    this.#used = end;
    this.#ends.push(end);
  }

  /** Of the first `count` packets; 0 of none. */
  of(count: number): number {
    if (count === 0) return 0;
    return Bun.hash.crc32(this.#bytes.subarray(0, this.#ends[count - 1]!));
  }

  #grow(least: number): void {
    const longer = new Uint8Array(Math.max(least, this.#bytes.length * 2));
    longer.set(this.#bytes);
    this.#bytes = longer;
    this.#view = new DataView(longer.buffer);
  }
}
