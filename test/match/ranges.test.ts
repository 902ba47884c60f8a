// The queue of ranges against an array.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { RangeQueue } from "../../src/match/ranges.ts";

function contents(queue: RangeQueue): number[][] {
  const list: number[][] = [];
  for (let p = 0; p < queue.length; p++) {
    const at = queue.at(p);
    list.push([...queue.values.subarray(at, at + queue.stride)]);
  }
  return list;
}

test("a queue behaves like an array, also when it wraps and grows", () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.constant("push" as const) },
    { weight: 4, arbitrary: fc.constant("shift" as const) },
    { weight: 1, arbitrary: fc.constant("clear" as const) },
  );
  const strides = fc.integer({ min: 1, max: 5 });
  fc.assert(
    fc.property(strides, fc.array(step, { maxLength: 200 }), (stride, steps) => {
      const queue = new RangeQueue(stride);
      const model: number[][] = [];
      let next = 1;
      for (const each of steps) {
        if (each === "push") {
          const at = queue.push();
          const range = Array.from({ length: stride }, () => next++);
          range.forEach((value, i) => (queue.values[at + i] = value));
          model.push(range);
        } else if (each === "shift") {
          if (model.length === 0) continue;
          queue.shift();
          model.shift();
        } else {
          queue.clear();
          model.length = 0;
        }
        expect(queue.length).toBe(model.length);
        if (model.length > 0) expect(queue.values[queue.first()]).toBe(model[0]![0]!);
      }
      expect(contents(queue)).toEqual(model);
    }),
    { seed: 7, numRuns: 300 },
  );
});

test("in the steady state the memory stays the same", () => {
  const queue = new RangeQueue(2);
  for (let i = 0; i < 8; i++) queue.push();
  const { values } = queue;
  for (let i = 0; i < 1000; i++) {
    queue.shift();
    queue.values[queue.push()] = i;
  }
  expect(queue.values).toBe(values);
  queue.push();
  expect(queue.values).not.toBe(values);
  expect(queue.length).toBe(9);
});
