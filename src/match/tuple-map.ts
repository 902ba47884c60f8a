// A hash map from TCP four-tuples to objects: open addressing with linear probing over typed
// arrays, so that a look-up for each packet allocates nothing and compares whole keys.

const KEY_WORDS = 9;
const MIN_CAPACITY = 1024;

/** Addresses are four u32 words each, ports two u16 (see `PacketBatch`). */
export class TupleMap<T> {
  #keys: Uint32Array;
  #values: (T | null)[];
  #mask: number;
  #size = 0;

  constructor(capacity = MIN_CAPACITY) {
    this.#mask = capacity - 1;
    this.#keys = new Uint32Array(capacity * KEY_WORDS);
    this.#values = new Array<T | null>(capacity).fill(null);
  }

  get size(): number {
    return this.#size;
  }

  get(
    local: Uint32Array,
    l: number,
    localPort: number,
    remote: Uint32Array,
    r: number,
    remotePort: number,
  ): T | null {
    return this.#values[this.#slot(local, l, localPort, remote, r, remotePort)]!;
  }

  set(
    local: Uint32Array,
    l: number,
    localPort: number,
    remote: Uint32Array,
    r: number,
    remotePort: number,
    value: T,
  ): void {
    if ((this.#size + 1) * 2 > this.#mask) this.#grow();
    const slot = this.#slot(local, l, localPort, remote, r, remotePort);
    if (this.#values[slot] === null) {
      const keys = this.#keys;
      const k = slot * KEY_WORDS;
      for (let w = 0; w < 4; w++) {
        keys[k + w] = local[l + w]!;
        keys[k + 4 + w] = remote[r + w]!;
      }
      keys[k + 8] = ((localPort << 16) | remotePort) >>> 0;
      this.#size++;
    }
    this.#values[slot] = value;
  }

  delete(
    local: Uint32Array,
    l: number,
    localPort: number,
    remote: Uint32Array,
    r: number,
    remotePort: number,
  ): void {
    const keys = this.#keys;
    const values = this.#values;
    const mask = this.#mask;
    let hole = this.#slot(local, l, localPort, remote, r, remotePort);
    if (values[hole] === null) return;
    values[hole] = null;
    this.#size--;
    // Closes the gap, so that no probe sequence is cut (Knuth, vol. 3, 6.4, algorithm R).
    for (let i = (hole + 1) & mask; values[i] !== null; i = (i + 1) & mask) {
      const k = i * KEY_WORDS;
      const home = hash(keys, k, keys, k + 4, keys[k + 8]!) & mask;
      if (((i - home) & mask) < ((i - hole) & mask)) continue;
      keys.copyWithin(hole * KEY_WORDS, k, k + KEY_WORDS);
      values[hole] = values[i]!;
      values[i] = null;
      hole = i;
    }
  }

  #slot(
    local: Uint32Array,
    l: number,
    localPort: number,
    remote: Uint32Array,
    r: number,
    remotePort: number,
  ): number {
    const keys = this.#keys;
    const values = this.#values;
    const ports = ((localPort << 16) | remotePort) >>> 0;
    let slot = hash(local, l, remote, r, ports) & this.#mask;
    while (values[slot] !== null) {
      const k = slot * KEY_WORDS;
      if (
        keys[k + 8] === ports &&
        keys[k + 3] === local[l + 3] &&
        keys[k + 7] === remote[r + 3] &&
        keys[k] === local[l] &&
        keys[k + 1] === local[l + 1] &&
        keys[k + 2] === local[l + 2] &&
        keys[k + 4] === remote[r] &&
        keys[k + 5] === remote[r + 1] &&
        keys[k + 6] === remote[r + 2]
      ) {
        break;
      }
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    const capacity = (this.#mask + 1) * 2;
    this.#mask = capacity - 1;
    this.#keys = new Uint32Array(capacity * KEY_WORDS);
    this.#values = new Array<T | null>(capacity).fill(null);
    this.#size = 0;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value === null) continue;
      const k = i * KEY_WORDS;
      const ports = keys[k + 8]!;
      this.set(keys, k, ports >>> 16, keys, k + 4, ports & 0xffff, value);
    }
  }
}

/** Mixes the nine words of a key (murmur3's finalizer over a running multiply). */
function hash(
  local: Uint32Array,
  l: number,
  remote: Uint32Array,
  r: number,
  ports: number,
): number {
  let h = Math.imul(ports, 0x9e3779b1);
  for (let w = 0; w < 4; w++) {
    h = Math.imul(h ^ local[l + w]!, 0x85ebca6b);
    h ^= h >>> 15;
    h = Math.imul(h ^ remote[r + w]!, 0xc2b2ae35);
    h ^= h >>> 13;
  }
  return h >>> 0;
}
