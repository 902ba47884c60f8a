// Names that repeat on millions of lines, each kept once: bytes in, a small number out. Names come
// from the measured program: where a name stands in the table depends on a number that is another one
// in each table, so that no log can be made of names that all stand in one place.

import type { LogLine } from "./log-line.ts";

const SLOTS_FIRST = 1024;
/** Names beyond these share one number: a log must not fill the memory with them. */
export const NAMES_MOST = 1 << 16;
export const OTHER_NAMES = "(other names)";

export class NameTable {
  readonly #names: string[] = [];
  readonly #bytes: Uint8Array[] = [];
  readonly #hashes: number[] = [];
  /** Number of a name + 1, at its hash; 0: free. */
  #slots = new Int32Array(SLOTS_FIRST);
  #other = -1;
  readonly #seed = crypto.getRandomValues(new Int32Array(1))[0]!;

  /** How many different names there are. */
  get size(): number {
    return this.#names.length;
  }

  /** The name behind a number. */
  name(id: number): string {
    return this.#names[id]!;
  }

  /** The number of a line's name, 0, 1, 2 … in the order of their first lines. */
  of(line: LogLine): number {
    const { buffer, nameFrom, nameTo } = line;
    let hash = this.#seed;
    for (let at = nameFrom; at < nameTo; at++) hash = Math.imul(hash ^ buffer[at]!, 0x01000193);
    // The product's low bits are of the bytes' low bits alone: the high ones, which differ, come down.
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    hash ^= hash >>> 13;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const id = this.#slots[slot]! - 1;
      if (id < 0) return this.#add(line, hash, slot);
      if (this.#hashes[id] === hash && this.#same(id, buffer, nameFrom, nameTo)) return id;
    }
  }

  #same(id: number, buffer: Uint8Array, from: number, to: number): boolean {
    const bytes = this.#bytes[id]!;
    if (bytes.length !== to - from) return false;
    for (let i = 0; i < bytes.length; i++) if (bytes[i] !== buffer[from + i]) return false;
    return true;
  }

  #add(line: LogLine, hash: number, slot: number): number {
    if (this.#other >= 0) return this.#other;
    const id = this.#names.length;
    if (id === NAMES_MOST) {
      this.#names.push(OTHER_NAMES);
      return (this.#other = id);
    }
    this.#names.push(line.name());
    this.#bytes.push(line.buffer.slice(line.nameFrom, line.nameTo));
    this.#hashes.push(hash);
    this.#slots[slot] = id + 1;
    if (this.#names.length * 2 > this.#slots.length) this.#grow();
    return id;
  }

  #grow(): void {
    const slots = new Int32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    this.#hashes.forEach((hash, id) => {
      let slot = hash & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = id + 1;
    });
    this.#slots = slots;
  }
}
