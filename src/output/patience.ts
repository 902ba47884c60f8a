// How long the readers of pipes that kqtime writes to are waited for at the end. All outputs of a
// measurement share it, so that readers who have stopped do not hold the end up one after the other.

const PATIENCE_MS = 5000;

export class Patience {
  readonly #ms: number;
  #untilMs: number | null = null;

  constructor(ms = PATIENCE_MS) {
    this.#ms = ms;
  }

  /** It begins with the first look at it. */
  get isOver(): boolean {
    this.#untilMs ??= performance.now() + this.#ms;
    return performance.now() >= this.#untilMs;
  }
}
