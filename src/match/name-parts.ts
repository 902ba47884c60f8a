// Names of sockets on their way through a ring: in parts of sixteen bytes, before the record that
// registers the socket.

import { Constant, SlotWord } from "../ring/layout.ts";

/** Names under way; a process that dies in the middle leaves one. */
const NAMES_MOST = 64;

export class NameParts {
  readonly #names = new Map<string, Uint8Array>();

  /** Takes a record of kind `Name`; false if it makes no sense. */
  add(table: number, words: Uint32Array): boolean {
    const at = words[SlotWord.off]!;
    const length = words[SlotWord.bytes]!;
    if (words[SlotWord.off + 1] !== 0 || length > Constant.nameMax || at >= length) return false;
    const key = keyOf(table, words);
    let name = this.#names.get(key);
    if (name === undefined || name.length !== length) {
      if (this.#names.size >= NAMES_MOST) this.#names.delete(this.#names.keys().next().value!);
      name = new Uint8Array(length);
      this.#names.set(key, name);
    }
    const tag = new Uint8Array(words.slice(SlotWord.tag, SlotWord.tag + 4).buffer);
    name.set(tag.subarray(0, Math.min(tag.length, length - at)), at);
    return true;
  }

  /** The name that a record of kind `Register` speaks of; "" if it has none. */
  take(table: number, words: Uint32Array): string {
    const key = keyOf(table, words);
    const name = this.#names.get(key);
    this.#names.delete(key);
    // A part that was lost leaves zeros, which no name has.
    return name === undefined ? "" : new TextDecoder().decode(name.filter((byte) => byte !== 0));
  }
}

function keyOf(table: number, words: Uint32Array): string {
  return `${table} ${words[SlotWord.pid]} ${words[SlotWord.group]}`;
}
