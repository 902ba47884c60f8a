// The calls of a log that no books have settled yet. A log may hold several runs, one after another,
// some of them killed before they wrote books, or at the same time. Each begins with KQTIME-META, which
// opens an epoch: the lines up to the next one count there, whosever they are. The books of a run that
// began at S settle all epochs from its own on: calls of other runs that stand there are in the books
// that these write later. What is left at the end is counted from its lines.
//
// Logs of earlier versions have no KQTIME-META: their epoch ends with the books that settle it.

import { CallAccounts, type Room, SOCKETS_MOST } from "./call-books.ts";
import { GROUPS_MOST } from "./groups.ts";
import type { LogLine } from "./log-line.ts";

/** Epochs that wait for books; beyond them the oldest are counted from their lines. */
const OPEN_MOST = 64;

export class Epoch {
  /** Which one it is of those that have lines: 0, 1, 2 …; -1: it has none yet. */
  number = -1;
  /** Another run ended while this one was open, and may have had calls of it in its epochs. */
  isShared = false;

  constructor(
    /** Its run's, as the books have it; NaN: no line tells it. */
    readonly startNs: number,
    /** Of the logs that are read. */
    public log: number,
    public account: CallAccounts,
  ) {}

  get hasCalls(): boolean {
    return this.account.firstNs <= this.account.lastNs;
  }
}

export class Epochs {
  readonly #room: Room = { books: 2 * GROUPS_MOST, sockets: SOCKETS_MOST };
  readonly #onCounted: (epoch: Epoch) => void;
  /** Books came, in vain, of a run whose calls, some or all, had been counted from their lines. */
  isDoubtful = false;
  /** In the order of their beginnings. */
  #open: Epoch[] = [];
  /** Where lines count now. */
  #present: Epoch | null = null;
  /** The lines of libkqtime, and parsed data, which are in nobody's books. */
  #foreign: Epoch | null = null;
  /** When the last of the present log's calls was made that were counted from their lines. */
  #countedNs = Number.NEGATIVE_INFINITY;
  #log = 0;
  #numbers = 0;

  /** @param onCounted is given epochs that are over without books, to count their calls */
  constructor(onCounted: (epoch: Epoch) => void) {
    this.#onCounted = onCounted;
  }

  /** The epoch that a line belongs to. */
  of(line: LogLine): Epoch {
    const epoch = line.sock < 0
      ? (this.#foreign ??= this.#make(Number.NaN))
      : (this.#present ??= this.#add(Number.NaN));
    if (epoch.number < 0) epoch.number = this.#numbers++;
    return epoch;
  }

  /** KQTIME-META: the run that began at `startNs` begins, or goes on in another file. */
  begin(startNs: number): void {
    const known = this.#open.find((epoch) => epoch.startNs === startNs);
    if (known === undefined) {
      this.#present = this.#add(startNs);
    } else if (known.log !== this.#log) {
      known.log = this.#log;
      this.#open = [...this.#open.filter((epoch) => epoch !== known), known];
      this.#present = known;
    }
  }

  /** What comes is of another log. Of the runs so far only a KQTIME-META can tell that one goes on. */
  nextLog(): void {
    this.#log++;
    this.#present = null;
    if (this.#foreign !== null) this.#onCounted(this.#foreign);
    this.#foreign = null;
    this.#countedNs = Number.NEGATIVE_INFINITY;
  }

  /**
   * The books of a run come: gives the calls that they settle, each account to be released. Null: they
   * cannot be told from calls that stay, or were counted already, so that these books must not count.
   */
  settle(startNs: number): CallAccounts[] | null {
    const own = this.#open.findLast((epoch) => epoch.startNs === startNs);
    const settled = own === undefined ? this.#unnamed(startNs) : this.#since(own);
    if (settled === null) return null;
    const accounts = settled.map(({ account }) => account);
    for (const epoch of this.#open) {
      if (epoch.log === (own?.log ?? this.#log) && epoch.hasCalls) epoch.isShared = true;
    }
    for (const epoch of settled) {
      // Of a run that goes on.
      if (epoch !== own && !Number.isNaN(epoch.startNs)) epoch.account = new CallAccounts(this.#room);
      else this.#close(epoch);
    }
    return accounts;
  }

  /** The run is over, and its books do not count: gives its epoch, or the present one if it is no run's. */
  take(startNs: number): Epoch | null {
    const own = this.#open.findLast((epoch) => epoch.startNs === startNs) ?? this.#present;
    if (own === null || (own.startNs !== startNs && !Number.isNaN(own.startNs))) return null;
    this.#close(own);
    this.#noteCounted(own);
    return own;
  }

  /** Counts all that are left. */
  finish(): void {
    this.nextLog();
    for (const epoch of this.#open) this.#count(epoch);
  }

  #since(own: Epoch): Epoch[] {
    return this.#open.slice(this.#open.indexOf(own)).filter((epoch) => epoch.log === own.log);
  }

  /** Of books without KQTIME-META: the epochs whose calls may all be theirs. */
  #unnamed(startNs: number): Epoch[] | null {
    if (startNs < this.#countedNs) {
      this.isDoubtful = true;
      return null;
    }
    const here = this.#open.filter(({ log }) => log === this.#log);
    const settled = here.filter(({ account }) => !(account.leastEndNs < startNs));
    return this.#present !== null && !settled.includes(this.#present) ? null : settled;
  }

  #add(startNs: number): Epoch {
    while (this.#open.length >= OPEN_MOST || (this.#room.books < GROUPS_MOST && this.#open.length > 0)) {
      this.#count(this.#open[0]!);
    }
    const epoch = this.#make(startNs);
    this.#open.push(epoch);
    return epoch;
  }

  #make(startNs: number): Epoch {
    return new Epoch(startNs, this.#log, new CallAccounts(this.#room));
  }

  #count(epoch: Epoch): void {
    this.#close(epoch);
    this.#noteCounted(epoch);
    this.#onCounted(epoch);
  }

  #noteCounted({ log, account }: Epoch): void {
    if (log === this.#log) this.#countedNs = Math.max(this.#countedNs, account.lastNs);
  }

  #close(epoch: Epoch): void {
    this.#open = this.#open.filter((other) => other !== epoch);
    const last = this.#open.at(-1);
    if (this.#present === epoch) this.#present = last?.log === this.#log ? last : null;
  }
}
