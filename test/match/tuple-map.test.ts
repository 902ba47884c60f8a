// The map of four-tuples against a Map.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { TupleMap } from "../../src/match/tuple-map.ts";

interface Key {
  local: number[];
  lport: number;
  remote: number[];
  rport: number;
}

/** Keys that differ from one another in one or two of their ten parts, whichever they are. */
const change = fc.tuple(fc.nat(9), fc.constantFrom(1, 2, 80, 443, 65535));
const key = fc.tuple(change, change).map((changes): Key => {
  const parts = new Array<number>(10).fill(0);
  for (const [part, value] of changes) parts[part] = value;
  const [lport, rport] = parts as [number, number];
  return { local: parts.slice(2, 6), remote: parts.slice(6), lport, rport };
});

/** Keys stand anywhere in a larger array, as in a batch of packets. */
function at(words: readonly number[], offset: number): Uint32Array {
  const array = new Uint32Array(offset + 4);
  array.set(words, offset);
  return array;
}

function get<T>(map: TupleMap<T>, { local, lport, remote, rport }: Key): T | null {
  return map.get(at(local, 3), 3, lport, at(remote, 8), 8, rport);
}

function set<T>(map: TupleMap<T>, { local, lport, remote, rport }: Key, value: T): void {
  map.set(at(local, 0), 0, lport, at(remote, 4), 4, rport, value);
}

function remove<T>(map: TupleMap<T>, { local, lport, remote, rport }: Key): void {
  map.delete(at(local, 1), 1, lport, at(remote, 2), 2, rport);
}

function check(capacity: number, keys: readonly Key[], steps: readonly [number, boolean][]): void {
  const map = new TupleMap<number>(capacity);
  const model = new Map<string, number>();
  steps.forEach(([which, adds], value) => {
    const one = keys[which % keys.length]!;
    const name = JSON.stringify(one);
    if (adds) {
      set(map, one, value);
      model.set(name, value);
    } else {
      remove(map, one);
      model.delete(name);
    }
    expect(map.size).toBe(model.size);
  });
  for (const one of keys) expect(get(map, one)).toBe(model.get(JSON.stringify(one)) ?? null);
}

test("it behaves like a Map, full to the brim of its small tables too", () => {
  // Two thirds additions: the table is as full as it gets, so that deletions shift long runs back.
  const step = fc.tuple(fc.nat(1000), fc.integer({ min: 0, max: 2 }).map((n) => n > 0));
  fc.assert(
    fc.property(
      fc.uniqueArray(key, { minLength: 1, maxLength: 40, selector: (k) => JSON.stringify(k) }),
      fc.array(step, { maxLength: 150 }),
      fc.constantFrom(4, 8, 16, 64),
      (keys, steps, capacity) => check(capacity, keys, steps),
    ),
    { seed: 11, numRuns: 400 },
  );
});

test("many connections of one server, made and let go of in turn", () => {
  const keys = Array.from({ length: 5000 }, (_, i) => ({
    local: [0, 0, 0xffff, 0x7f000001],
    lport: 443,
    remote: [0, 0, 0xffff, 0x0a000000 + (i >> 8)],
    rport: 32768 + (i & 255),
  }));
  const steps: [number, boolean][] = [];
  for (let i = 0; i < 5000; i++) {
    steps.push([i, true]);
    if (i % 3 !== 0) steps.push([i >> 1, false]);
  }
  check(1024, keys, steps);
});

test.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])("keys that differ in part %p alone", (part) => {
  const keys = Array.from({ length: 500 }, (_, i) => {
    const parts = new Array<number>(10).fill(7);
    parts[part] = i;
    const [lport, rport] = parts as [number, number];
    return { local: parts.slice(2, 6), remote: parts.slice(6), lport, rport };
  });
  check(1024, keys, keys.map((_, i) => [i, true]));
  // Every other one is missing: found is what is there, and nothing else.
  check(1024, keys, keys.map((_, i) => [i, i % 2 === 0]));
});
