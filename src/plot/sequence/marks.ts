// Points and packets of one socket, as growing columns of numbers: a socket may have millions.

const FIRST = 1024;

/** Times with ranges of the stream: [from, to) at a time, or a curve where only `to` counts. */
export class Marks {
  count = 0;
  atSec = new Float64Array(FIRST);
  from = new Float64Array(FIRST);
  to = new Float64Array(FIRST);

  add(atSec: number, from: number, to: number): void {
    if (this.count === this.atSec.length) {
      this.atSec = doubled(this.atSec);
      this.from = doubled(this.from);
      this.to = doubled(this.to);
    }
    this.atSec[this.count] = atSec;
    this.from[this.count] = from;
    this.to[this.count++] = to;
  }

  get lowest(): number {
    return this.from.subarray(0, this.count).reduce((a, b) => Math.min(a, b), Infinity);
  }

  get highest(): number {
    return this.to.subarray(0, this.count).reduce((a, b) => Math.max(a, b), 0);
  }

  /** In the order of time. */
  sorted(): Marks {
    const order = Array.from({ length: this.count }, (_, i) => i);
    order.sort((a, b) => this.atSec[a]! - this.atSec[b]! || this.to[a]! - this.to[b]!);
    const sorted = new Marks();
    for (const i of order) sorted.add(this.atSec[i]!, this.from[i]!, this.to[i]!);
    return sorted;
  }

  /**
   * The highest byte before a time, NaN where there are none at all. Before the first one it is what
   * that begins at: bytes before it passed before anything was seen (a measurement that was taken
   * over). They must be in the order of time.
   */
  levelAt(sec: number): number {
    if (this.count === 0) return Number.NaN;
    let level = this.from[0]!;
    for (let i = 0; i < this.count; i++) {
      if (this.atSec[i]! < sec) level = Math.max(level, this.to[i]!);
    }
    return level;
  }

  /** Those within a time. */
  between(fromSec: number, toSec: number): Marks {
    const marks = new Marks();
    for (let i = 0; i < this.count; i++) {
      const at = this.atSec[i]!;
      if (at >= fromSec && at < toSec) marks.add(at, this.from[i]!, this.to[i]!);
    }
    return marks;
  }

  /**
   * What is drawn of them: where several fall into one column of `widthSec`, the range that they
   * cover together, at the first one's time. Returns whether that put any together.
   */
  reduced(widthSec: number): { marks: Marks; isReduced: boolean } {
    const marks = new Marks();
    let column = Number.NaN;
    for (let i = 0; i < this.count; i++) {
      const last = marks.count - 1;
      const own = Math.floor(this.atSec[i]! / widthSec);
      // Ranges that do not touch stay apart: a gap between packets is not covered.
      if (own === column && this.from[i]! <= marks.to[last]! && this.to[i]! >= marks.from[last]!) {
        marks.from[last] = Math.min(marks.from[last]!, this.from[i]!);
        marks.to[last] = Math.max(marks.to[last]!, this.to[i]!);
        continue;
      }
      column = own;
      marks.add(this.atSec[i]!, this.from[i]!, this.to[i]!);
    }
    return { marks, isReduced: marks.count < this.count };
  }
}

function doubled(old: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const longer = new Float64Array(old.length * 2);
  longer.set(old);
  return longer;
}
