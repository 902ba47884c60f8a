// The table of names: numbers in the order of the first lines, whatever somebody made the names of.

import { expect, test } from "bun:test";
import { LogLine } from "../../src/analysis/log-line.ts";
import { NameTable } from "../../src/analysis/name-table.ts";
import { ascii } from "../../src/output/line.ts";

const PRIME = 0x01000193;
/** Its inverse modulo 2^17. */
const INVERSE = 0x449b;
const BITS = (1 << 17) - 1;

/** Names that FNV-1a, begun as usual, sends to one place of 2^17: two halves that meet in it. */
function colliding(count: number): Uint8Array[] {
  const halves = function* (): Generator<Uint8Array> {
    for (let i = 0; i < 80 * 80 * 80; i++) {
      yield Uint8Array.of(33 + (i % 80), 33 + (Math.floor(i / 80) % 80), 33 + Math.floor(i / 6400));
    }
  };
  // From the end, 0, back over the second half.
  const back = new Map<number, Uint8Array>();
  for (const half of halves()) {
    if (half.includes(59)) continue;
    let hash = 0;
    for (let at = 2; at >= 0; at--) hash = ((Math.imul(hash, INVERSE) & BITS) ^ half[at]!) & BITS;
    back.set(hash, half);
  }
  const names: Uint8Array[] = [];
  for (const half of halves()) {
    let hash = 0x811c9dc5;
    for (const byte of half) hash = Math.imul(hash ^ byte, PRIME);
    const rest = back.get(hash & BITS);
    if (rest !== undefined && !half.includes(59)) names.push(Uint8Array.of(...half, ...rest));
    if (names.length === count) break;
  }
  return names;
}

function numberOf(table: NameTable, line: LogLine, name: Uint8Array): number {
  line.buffer = name;
  line.nameFrom = 0;
  line.nameTo = name.length;
  return table.of(line);
}

test("names are numbered as they come, and found again", () => {
  const table = new NameTable();
  const line = new LogLine();
  const names = Array.from({ length: 5000 }, (_, i) => ascii(`relay-${i}`));
  expect(names.map((name) => numberOf(table, line, name))).toEqual(names.map((_, i) => i));
  expect(names.map((name) => numberOf(table, line, name))).toEqual(names.map((_, i) => i));
  expect([table.size, table.name(77)]).toEqual([5000, "relay-77"]);
});

test("names made to collide take hardly longer than others", () => {
  const names = colliding(50000);
  expect([names.length, Math.imul(PRIME, INVERSE) & BITS]).toEqual([50000, 1]);
  const table = new NameTable();
  const line = new LogLine();
  const began = performance.now();
  for (const name of names) numberOf(table, line, name);
  // Each compared with all before it took more than ten seconds.
  expect(performance.now() - began).toBeLessThan(1500);
  expect(table.size).toBe(50000);
});
