// Sentences about a measurement, each once. A program that is measured can cause any number of
// different ones: only so many are kept.

/** Kept; of the others only the number is. */
export const WARNINGS_MOST = 100;

export class Warnings {
  readonly #kept = new Set<string>();
  #more = 0;

  add(message: string): void {
    if (this.#kept.has(message)) return;
    if (this.#kept.size < WARNINGS_MOST) this.#kept.add(message);
    else this.#more++;
  }

  list(): string[] {
    const list = [...this.#kept];
    if (this.#more > 0) list.push(`there were ${this.#more} more warnings, which are not shown`);
    return list;
  }
}
