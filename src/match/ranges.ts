// A queue of adjoining ranges of stream offsets, each with a few numbers of its own.
//
// Both lists that the join merges (calls and sightings) are such queues: every range begins where
// its predecessor ended, so only ends are stored. A ring buffer in one Float64Array that doubles
// when full: no allocation in the steady state, whatever passes through.

const INITIAL_RANGES = 8;

/** FIFO of ranges with `stride` numbers each; the first number of a range is its end offset. */
export class RangeQueue {
  readonly stride: number;
  /** The numbers of the range at queue position p are at `at(p)`, `at(p) + 1`, … */
  values: Float64Array;
  #mask = INITIAL_RANGES - 1;
  #head = 0;
  #length = 0;

  constructor(stride: number) {
    this.stride = stride;
    this.values = new Float64Array(INITIAL_RANGES * stride);
  }

  get length(): number {
    return this.#length;
  }

  /** Index in `values` of the first range; valid while `length` > 0. */
  first(): number {
    return this.#head * this.stride;
  }

  /** Index in `values` of range p, 0 being the first. */
  at(p: number): number {
    return ((this.#head + p) & this.#mask) * this.stride;
  }

  /** Makes room for one more range at the end and returns its index in `values`. */
  push(): number {
    if (this.#length > this.#mask) this.#grow();
    const index = ((this.#head + this.#length) & this.#mask) * this.stride;
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
    this.#mask = INITIAL_RANGES - 1;
    this.values = new Float64Array(INITIAL_RANGES * this.stride);
  }

  #grow(): void {
    const old = this.values;
    const capacity = this.#mask + 1;
    const head = this.#head * this.stride;
    this.values = new Float64Array(old.length * 2);
    this.values.set(old.subarray(head));
    this.values.set(old.subarray(0, head), old.length - head);
    this.#head = 0;
    this.#mask = capacity * 2 - 1;
  }
}
