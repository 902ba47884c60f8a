// Samples while they are taken. The collector writes lines into a pipe and never waits for this
// side; here they are parsed a chunk at a time, as far as somebody has room for them.

import { closeSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { isSample, parseSample, type Sample } from "./sample.ts";

/** What stands behind an iterator: a handle of its own at the collector. */
export interface SampleSource {
  /** Read end of the pipe; the reader closes it. */
  readonly fd: number;
  /** Ends the handle: the collector writes what it still has and closes its end. */
  readonly free: () => Promise<void>;
  /** Lines that the collector could not write, because the pipe was full. */
  readonly linesLost: () => Promise<number>;
}

type Next = IteratorResult<Sample, undefined>;
interface Waiter {
  readonly resolve: (next: Next) => void;
  readonly reject: (error: unknown) => void;
}

const DONE: Next = { done: true, value: undefined };

/**
 * An async iterator of samples, oldest first, from the moment when `opened` is fulfilled. It keeps
 * at most `capacity` of them for a reader that is behind; what comes then is dropped and counted.
 * Ends with `return()` (as `break` out of a `for await` does), or when the handle is closed.
 */
export class Samples implements AsyncIterableIterator<Sample, undefined> {
  /** The collector sends samples from here on; rejected where `next()` is too. */
  readonly opened: Promise<void>;
  #queue: Sample[] = [];
  #head = 0;
  #dropped = 0;
  #waiters: Waiter[] = [];
  #source: SampleSource | null = null;
  #ended = false;
  #failure: { readonly error: unknown } | null = null;
  readonly #onEnd: () => void;
  #closing: Promise<void> | null = null;
  #linesLost = 0;

  /** @internal */
  constructor(
    /** Samples kept at the most. */
    readonly capacity: number,
    source: Promise<SampleSource>,
    onEnd: () => void,
  ) {
    this.#onEnd = onEnd;
    this.opened = source.then((opened) => {
      this.#source = opened;
      void this.#read(opened);
    });
    this.opened.catch((error: unknown) => this.#end({ error }));
  }

  /** Samples dropped so far because `capacity` of them were waiting here. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * Samples that did not come through so far: `dropped`, and those that the collector could not
   * hand over because this program's event loop was busy for too long.
   * @throws KQTimeError `E_COLLECTOR_GONE`, `E_TIMEOUT`
   */
  async lost(): Promise<number> {
    await this.opened;
    if (!this.#ended && this.#closing === null) this.#linesLost = await this.#source!.linesLost();
    return this.#dropped + this.#linesLost;
  }

  /**
   * @throws KQTimeError as `KQTime.open` does, if the collector did not accept another reader;
   *   `E_COLLECTOR_GONE` if it has ended meanwhile
   */
  next(): Promise<Next> {
    if (this.#head < this.#queue.length) {
      const value = this.#queue[this.#head++]!;
      if (this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      return Promise.resolve({ done: false, value });
    }
    if (this.#failure !== null) {
      const { error } = this.#failure;
      this.#failure = null;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve(DONE);
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Ends the iteration; samples that wait are forgotten. */
  async return(): Promise<Next> {
    this.#queue = [];
    this.#head = 0;
    await this.close();
    this.#queue = [];
    return DONE;
  }

  /** Takes no more samples; those that are here or on their way can still be read. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #close(): Promise<void> {
    await this.opened.catch(() => {});
    if (this.#source === null || this.#ended) return;
    try {
      this.#linesLost = await this.#source.linesLost().catch((error: unknown) => {
        // One that hangs is not asked twice: whoever closes waits for this.
        if (error instanceof KQTimeError && error.code === "E_TIMEOUT") throw error;
        return this.#linesLost;
      });
      await this.#source.free();
    } catch (error) {
      // For `next()`; whoever ends the iteration has nothing to do about it.
      this.#end({ error });
    }
  }

  async #read(source: SampleSource): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for await (const chunk of Bun.file(source.fd).stream()) {
        if (this.#ended) break;
        rest = this.#take(rest + decoder.decode(chunk, { stream: true }));
      }
      this.#end(this.#closing === null ? { error: gone() } : null);
    } catch (error) {
      this.#end({ error });
    } finally {
      closeSync(source.fd);
    }
  }

  get #full(): boolean {
    return this.#queue.length - this.#head >= this.capacity;
  }

  /** Takes all whole lines, and gives back the rest. */
  #take(text: string): string {
    let from = 0;
    for (let to = text.indexOf("\n"); to >= 0; to = text.indexOf("\n", from)) {
      if (this.#full) {
        // Nobody has room for it: not worth parsing.
        if (isSample(text, from)) this.#dropped++;
      } else {
        const sample = parseSample(text.slice(from, to));
        if (sample !== null) this.#give(sample);
      }
      from = to + 1;
    }
    return text.slice(from);
  }

  #give(sample: Sample): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#queue.push(sample);
    else waiter.resolve({ done: false, value: sample });
  }

  #end(failure: { readonly error: unknown } | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd();
    const [first, ...others] = this.#waiters;
    this.#waiters = [];
    if (failure === null || first === undefined) this.#failure = failure;
    if (failure === null) first?.resolve(DONE);
    else first?.reject(failure.error);
    for (const waiter of others) waiter.resolve(DONE);
  }
}

function gone(): KQTimeError {
  return new KQTimeError(
    "E_COLLECTOR_GONE",
    "samples",
    "samples: the collector has ended; close this handle and open a new one",
  );
}
