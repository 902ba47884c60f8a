// In which order messages are taken that come while they are looked for: a forked child's ring refers to
// the socket table that its parent's message brings, so that one has to be first, whenever it came.

import { expect, test } from "bun:test";
import { InOrder } from "../../src/ffi/in-order.ts";

/** Connections by number, with what happens at each look at the door or at one of them. */
class Street {
  readonly #queue: number[] = [];
  readonly #messages = new Map<number, string | null>();
  readonly closed: number[] = [];
  #steps = 0;
  room = Infinity;
  /** Called before each system call with the number of those before it. */
  between: (step: number) => void = () => {};

  readonly messages = new InOrder<string>({
    accept: () => {
      this.between(this.#steps++);
      return this.#queue.shift() ?? -1;
    },
    receive: (connection) => {
      this.between(this.#steps++);
      const message = this.#messages.get(connection);
      return message === undefined ? "later" : message;
    },
    hasRoom: (descriptors) => descriptors <= this.room,
    close: (connection) => void this.closed.push(connection),
  });

  connect(connection: number): void {
    this.#queue.push(connection);
  }

  send(connection: number, message: string | null): void {
    this.#messages.set(connection, message);
  }

  /** All that is there. */
  all(): string[] {
    const found: string[] = [];
    for (let next = this.messages.next(100); next !== null; next = this.messages.next(100)) found.push(next);
    return found;
  }
}

test("a child's message that comes between two looks at its parent's", () => {
  for (let step = 0; step < 4; step++) {
    const street = new Street();
    street.connect(1);
    street.between = (now) => {
      if (now !== step) return;
      // The parent sends, forks, and its child connects and sends.
      street.send(1, "parent");
      street.connect(2);
      street.send(2, "child");
    };
    expect([step, ...street.all(), ...street.all(), ...street.all()]).toEqual([step, "parent", "child"]);
  }
});

test("the same where both had connected, and with a stranger between them that says nothing", () => {
  for (let step = 0; step < 12; step++) {
    const street = new Street();
    for (const connection of [1, 3, 2]) street.connect(connection);
    street.between = (now) => {
      if (now !== step) return;
      street.send(1, "parent");
      street.send(2, "child");
    };
    expect([step, ...street.all(), ...street.all(), ...street.all()]).toEqual([step, "parent", "child"]);
  }
});

test("a connection that ends without a message, and many that say nothing", () => {
  const street = new Street();
  street.connect(1);
  street.send(1, null);
  for (let connection = 2; connection <= 90; connection++) street.connect(connection);
  street.send(90, "one");
  expect(street.all()).toEqual(["one"]);
  // The oldest go: 64 are kept.
  expect(street.closed).toEqual(Array.from({ length: 90 - 2 - 64 }, (_, n) => 2 + n));
  expect(street.messages.close()).toEqual([]);
  expect(street.closed.length).toBe(88);
});

test("one that ends while what came before another's message is looked for", () => {
  for (let step = 0; step < 12; step++) {
    const street = new Street();
    for (const connection of [1, 3, 2, 4]) street.connect(connection);
    street.between = (now) => {
      if (now !== step) return;
      street.send(3, null);
      street.send(1, "parent");
      street.send(2, "child");
    };
    expect([step, ...street.all(), ...street.all(), ...street.all()]).toEqual([step, "parent", "child"]);
  }
});

test("where there is no room for what comes with it, a message waits, and keeps its place", () => {
  const street = new Street();
  street.connect(1);
  expect(street.all()).toEqual([]);
  street.room = 1;
  street.send(1, "parent");
  street.connect(2);
  street.send(2, "child");
  expect(street.all()).toEqual([]);
  street.room = 2;
  expect(street.all()).toEqual(["parent", "child"]);
});

test("what was received and not given is given back at the end", () => {
  const street = new Street();
  for (const connection of [1, 2, 3]) street.connect(connection);
  street.send(3, "child");
  // When the child's message has come, its parent's has.
  street.between = (now) => now === 6 && street.send(1, "parent");
  expect(street.messages.next(100)).toBe("parent");
  expect(street.messages.close()).toEqual(["child"]);
  expect(street.closed).toEqual([2]);
});
