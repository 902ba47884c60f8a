// Digits and names of the log.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { LineBuffer } from "../../src/output/line.ts";
import { encodeName, NAME_MAX_BYTES, printable } from "../../src/output/name.ts";

function written(baseSec: number, write: (line: LineBuffer) => void): string {
  const line = new LineBuffer(64, baseSec);
  write(line);
  return new TextDecoder().decode(line.bytes.subarray(0, line.length));
}

const integer = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -1200, max: 1200 }),
  fc.integer({ min: 0, max: 15 }).chain((digits) =>
    fc.integer({ min: -2, max: 2 }).map((near) => 10 ** digits + near),
  ),
);

test("integers are written as String writes them", () => {
  fc.assert(
    fc.property(integer, (value) => {
      expect(written(0, (line) => line.putInteger(value))).toBe(String(value));
    }),
    { numRuns: 3000 },
  );
});

test("greater ones, which are not exact, are written as great as they are", () => {
  fc.assert(
    fc.property(fc.double({ min: 2 ** 53, max: 1e30, noNaN: true }), (value) => {
      const text = written(0, (line) => line.putInteger(value));
      expect(text).toMatch(/^[1-9]\d*$/);
      expect(Math.abs(Number(text) / value - 1)).toBeLessThan(1e-8);
    }),
    { numRuns: 2000 },
  );
});

test("times are Unix seconds with nine decimals", () => {
  const near = fc.tuple(fc.integer({ min: -5, max: 5 }), fc.integer({ min: -2, max: 2 }));
  const relative = fc.oneof(
    fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
    near.map(([sec, ns]) => sec * 1e9 + ns),
  );
  fc.assert(
    fc.property(relative, (ns) => {
      const total = 1732345678n * 1000000000n + BigInt(ns);
      const exact = `${total / 1000000000n}.${String(total % 1000000000n).padStart(9, "0")}`;
      // Years before 1970 are not written: no clock of a measurement shows them.
      fc.pre(total >= 0n);
      expect(written(1732345678, (line) => line.putTime(ns))).toBe(exact);
    }),
    { numRuns: 3000 },
  );
});

test("a time is written alike whatever was written before it", () => {
  // From nine to eleven digits of seconds, often the same as before.
  const second = fc.oneof(fc.constantFrom(0, 1, 2), fc.constantFrom(-1e9 + 1, -1e9 + 2, 8.5e9, 8.5e9 + 1));
  fc.assert(
    fc.property(fc.array(fc.tuple(second, fc.integer({ min: 0, max: 999_999 })), { maxLength: 40 }), (times) => {
      const line = new LineBuffer(64, 1_500_000_000);
      for (const [sec, us] of times) {
        const ns = sec * 1e9 + us * 1000;
        line.length = 0;
        line.putTime(ns);
        const text = new TextDecoder().decode(line.bytes.subarray(0, line.length));
        expect(text).toBe(written(1_500_000_000, (alone) => alone.putTime(ns)));
      }
    }),
  );
});

test("fractions are rounded to whole nanoseconds, also over the second", () => {
  expect(written(100, (line) => line.putTime(1.4))).toBe("100.000000001");
  expect(written(100, (line) => line.putTime(-0.4))).toBe("100.000000000");
  expect(written(100, (line) => line.putTime(-0.6))).toBe("99.999999999");
  expect(written(100, (line) => line.putTime(999999999.5))).toBe("101.000000000");
});

test("what is no number is written as one all the same", () => {
  expect(written(0, (line) => line.putInteger(Number.NaN))).toBe("0");
  for (const none of [Number.NaN, Infinity, -Infinity]) {
    expect(written(7, (line) => line.putTime(none))).toBe("7.000000000");
  }
});

function name(text: string): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(encodeName(text));
}

test("names keep what is harmless", () => {
  expect(name("out:443")).toBe("out:443");
  expect(name("relay=A,B port 9001 ünïcode 日本")).toBe("relay=A,B port 9001 ünïcode 日本");
  expect(name("")).toBe("NULL");
});

test("names lose what breaks a line, forges a field, or commands a terminal", () => {
  expect(name("a;b\nc\r\0\x1b[31m\x7f\x85\u2028\u2029\u202e\ufffd")).toBe("a_b_c___[31m______");
  expect(name("\ud800x")).toBe("_x");
  expect(printable("sh -c 'a; b'\x1b]0;x\x07")).toBe("sh -c 'a; b'_]0;x_");
});

test("a name is at most its limit, valid UTF-8, and on one line", () => {
  const text = fc.string({ unit: "binary", maxLength: 900 });
  fc.assert(
    fc.property(text, (any) => {
      const bytes = encodeName(any);
      expect(bytes.length).toBeLessThanOrEqual(NAME_MAX_BYTES);
      expect(bytes.length).toBeGreaterThan(0);
      const decoded = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      expect(/[;\p{Cc}\u2028\u2029]/u.test(decoded)).toBe(false);
    }),
    { numRuns: 500 },
  );
  expect(encodeName("é".repeat(400)).length).toBe(NAME_MAX_BYTES);
  expect(encodeName(`x${"é".repeat(400)}`).length).toBe(NAME_MAX_BYTES - 1);
});
