// How sockets without a name are grouped. A peer's address appears only where it was asked for.

import { encodeName, NO_NAME } from "../output/name.ts";
import { DirectionStats } from "../output/stats.ts";
import type { LabelMode } from "./label-modes.ts";

/** Labels of a measurement that have books of their own; they take some tens of KiB each. */
export const LABELS_MOST = 1024;
/** Has the books of all others. */
export const OTHER_LABEL = "(other)";

/** One group of sockets and its books; those of ended sockets are merged in. */
export class Label {
  readonly encoded: Uint8Array;
  /** The label in whose books it is: itself, or the one of all others. */
  readonly books: Label;
  readonly out: DirectionStats;
  readonly in: DirectionStats;

  constructor(readonly name: string, books: Label | null = null) {
    this.encoded = encodeName(name);
    this.books = books ?? this;
    this.out = books?.out ?? new DirectionStats();
    this.in = books?.in ?? new DirectionStats();
  }

  /** As it is shown. */
  get text(): string {
    return this.name === "" ? NO_NAME : this.name;
  }
}

export class Labels {
  readonly #byName = new Map<string, Label>();

  #other: Label | null = null;

  constructor(readonly mode: LabelMode) {}

  /** Whether there were more names than have books of their own. */
  get overflowed(): boolean {
    return this.#other !== null;
  }

  /** All labels with books of their own, in the order of their first socket. */
  all(): Iterable<Label> {
    return this.#byName.values();
  }

  /** The label of a socket that was born by connect (`connected`) or by accept. */
  of(connected: boolean, lport: number, rport: number, remote: Uint32Array): Label {
    let name = "";
    if (this.mode !== "none") {
      name = connected ? `out:${rport}` : `in:${lport}`;
      if (this.mode === "peer") {
        name = connected
          ? `out:${formatAddress(remote)}:${rport}`
          : `in:${lport}:${formatAddress(remote)}`;
      }
    }
    return this.named(name);
  }

  /** The label of sockets that a program gave this name; in the log it is this name in any case. */
  named(name: string): Label {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    if (this.#byName.size < LABELS_MOST) return this.#add(name);
    this.#other ??= this.#add(OTHER_LABEL);
    return new Label(name, this.#other);
  }

  #add(name: string): Label {
    const label = new Label(name);
    this.#byName.set(name, label);
    return label;
  }
}

/** Text of an address in four words: dotted quads, or bracketed IPv6 (RFC 5952). */
export function formatAddress(words: Uint32Array): string {
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) {
    const a = words[3]!;
    return `${a >>> 24}.${(a >>> 16) & 255}.${(a >>> 8) & 255}.${a & 255}`;
  }
  const groups: number[] = [];
  for (const word of words) groups.push(word >>> 16, word & 0xffff);
  // The longest run of two or more zero groups, the first of equals, becomes "::".
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > bestLength) {
      best = i;
      bestLength = n;
    }
    i += n;
  }
  const hex = groups.map((group) => group.toString(16));
  if (best < 0) return `[${hex.join(":")}]`;
  return `[${hex.slice(0, best).join(":")}::${hex.slice(best + bestLength).join(":")}]`;
}
