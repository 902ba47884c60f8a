// A queue of adjoining ranges of stream offsets, each with a few numbers of its own.
//
// Both lists that the join merges (calls and sightings) are such queues: every range begins where
// its predecessor ended, so only ends are stored. A ring buffer in a Float64Array that doubles when
// full: no allocation in the steady state, whatever passes through.
//
// As a rule a queue is short, and there are thousands: so a few of them begin in one array, whose head
// the processor's cache then has at hand. One that grows gets an array of its own.

const INITIAL_RANGES = 8;
/** As few, that what one long-lived queue keeps in memory is little. */
const QUEUES_SHARING = 8;

/** Numbers that queues of one stride begin in; `used`: so many are given out. */
interface Shared {
  values: Float64Array;
  used: number;
}

const shared: Shared[] = [];

/** FIFO of ranges with `stride` numbers each; the first number of a range is its end offset. */
export class RangeQueue {
  readonly stride: number;
  /** The numbers of the range at queue position p are at `at(p)`, `at(p) + 1`, … */
  values!: Float64Array;
  /** Where its part of `values` begins. */
  #start = 0;
  #mask = 0;
  #head = 0;
  #length = 0;

  constructor(stride: number) {
    this.stride = stride;
    this.#begin();
  }

  get length(): number {
    return this.#length;
  }

  /** Index in `values` of the first range; valid while `length` > 0. */
  first(): number {
    return this.#start + this.#head * this.stride;
  }

  /** Index in `values` of range p, 0 being the first. */
  at(p: number): number {
    return this.#start + ((this.#head + p) & this.#mask) * this.stride;
  }

  /** Makes room for one more range at the end and returns its index in `values`. */
  push(): number {
    if (this.#length > this.#mask) this.#grow();
    const index = this.#start + ((this.#head + this.#length) & this.#mask) * this.stride;
    this.#length++;
    return index;
  }

  shift(): void {
    this.#length--;
    // Empty, it begins at its front again: of many queues each then keeps one line of the processor's
    // cache, not all that it has memory for.
    this.#head = this.#length === 0 ? 0 : (this.#head + 1) & this.#mask;
  }

  clear(): void {
    this.#head = 0;
    this.#length = 0;
  }

  /** Empties it, and gives the memory back that it has grown to. */
  release(): void {
    this.clear();
    if (this.#mask >= INITIAL_RANGES) this.#begin();
  }

  #begin(): void {
    const numbers = INITIAL_RANGES * this.stride;
    let room = shared[this.stride];
    if (room === undefined || room.used === room.values.length) {
      room = { values: new Float64Array(QUEUES_SHARING * numbers), used: 0 };
      shared[this.stride] = room;
    }
    this.values = room.values;
    this.#start = room.used;
    this.#mask = INITIAL_RANGES - 1;
    room.used += numbers;
  }

  #grow(): void {
    const { stride } = this;
    const old = this.values;
    const grown = new Float64Array(this.#length * 2 * stride);
    for (let p = 0; p < this.#length; p++) {
      const from = this.at(p);
      for (let n = 0; n < stride; n++) grown[p * stride + n] = old[from + n]!;
    }
    this.values = grown;
    this.#start = 0;
    this.#head = 0;
    this.#mask = this.#length * 2 - 1;
  }
}
