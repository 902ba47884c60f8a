// Which of several connections' messages is the next one: never that of a process before that of the
// one which started it. A connection may be there before its message is, and while that is looked for
// others may come, with theirs.

export interface Door<T> {
  /** A connection, -1 if there is none now. */
  readonly accept: () => number;
  /** Its message; null if there will be none, then it is closed. */
  readonly receive: (connection: number) => T | null | "later";
  /** Whether so many descriptors are free for what comes with messages: without, that is lost. */
  readonly hasRoom: (descriptors: number) => boolean;
  readonly close: (connection: number) => void;
}

interface Guest<T> {
  readonly connection: number;
  /** Null: it has not come yet. */
  message: T | null;
}

/** Connections kept that have said nothing yet: a process sends right after it has connected. */
const SILENT_MOST = 64;
/** What comes with a message, and the same opened anew. */
const MESSAGE_DESCRIPTORS = 2;

export class InOrder<T> {
  readonly #door: Door<T>;
  /** In the order in which they connected. */
  readonly #guests: Guest<T>[] = [];

  constructor(door: Door<T>) {
    this.#door = door;
  }

  /** The next message, or null if there is none now. Looks at `most` new connections at the most. */
  next(most: number): T | null {
    let next = this.#firstBefore(null, MESSAGE_DESCRIPTORS) ?? this.#arrived(most);
    if (next === null) return null;
    // Whatever was sent before it is there by now.
    for (let first: Guest<T> | null = next; first !== null; first = this.#firstBefore(first, 1)) next = first;
    this.#forget(next);
    return next.message;
  }

  /** @returns the messages that were received and not given */
  close(): T[] {
    const received: T[] = [];
    for (const { connection, message } of this.#guests) {
      if (message === null) this.#door.close(connection);
      else received.push(message);
    }
    this.#guests.length = 0;
    return received;
  }

  /** The first of those that connect now whose message is there. */
  #arrived(most: number): Guest<T> | null {
    const guests = this.#guests;
    for (let n = 0; n < most; n++) {
      const connection = this.#door.accept();
      if (connection < 0) return null;
      const guest: Guest<T> = { connection, message: null };
      guests.push(guest);
      if (this.#hasMessage(guest, MESSAGE_DESCRIPTORS)) return guest;
      if (guests.length > SILENT_MOST) this.#door.close(guests.shift()!.connection);
    }
    return null;
  }

  /** The first that connected before `end` whose message is there. */
  #firstBefore(end: Guest<T> | null, descriptors: number): Guest<T> | null {
    const guests = this.#guests;
    for (let i = 0; i < guests.length && guests[i] !== end; ) {
      const guest = guests[i]!;
      if (this.#hasMessage(guest, descriptors)) return guest;
      // Else it will send nothing and is forgotten.
      if (guests[i] === guest) i++;
    }
    return null;
  }

  #hasMessage(guest: Guest<T>, descriptors: number): boolean {
    if (guest.message !== null) return true;
    if (!this.#door.hasRoom(descriptors)) return false;
    const result = this.#door.receive(guest.connection);
    if (result === null) this.#forget(guest);
    else if (result !== "later") guest.message = result;
    return guest.message !== null;
  }

  #forget(guest: Guest<T>): void {
    this.#guests.splice(this.#guests.indexOf(guest), 1);
  }
}
