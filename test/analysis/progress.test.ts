// The bar: on a terminal, after a second, and gone at the end.

import { expect, spyOn, test } from "bun:test";
import type { Input } from "../../src/analysis/input.ts";
import { Progress } from "../../src/analysis/progress.ts";

/** A bar at these moments (ms), each with so many bytes read; what it wrote. */
function shown(totalBytes: number, show: boolean, steps: readonly [ms: number, bytes: number][]): string[] {
  let now = 5000;
  const clock = spyOn(performance, "now").mockImplementation(() => now);
  try {
    const written: string[] = [];
    const progress = new Progress(totalBytes, show, (text) => void written.push(text));
    const input = { readBytes: 0 } as Input;
    progress.begin(input);
    for (const [ms, bytes] of steps) {
      now = 5000 + ms;
      input.readBytes = bytes;
      progress.step(input);
    }
    progress.end();
    return written;
  } finally {
    clock.mockRestore();
  }
}

test("nothing within the first second, or where there is no terminal", () => {
  expect(shown(100, true, [[0, 10], [999, 90]])).toEqual([]);
  expect(shown(100, false, [[0, 10], [5000, 90]])).toEqual([]);
});

test("a bar where the size is known, else how much was read; five times a second, and gone at the end", () => {
  const steps: [number, number][] = [[1000, 25e6], [1100, 30e6], [1200, 50e6]];
  expect(shown(100e6, true, steps)).toEqual([
    `\r\x1b[K${"█".repeat(8)}${"░".repeat(22)} 25 % of 100 MB, 25.0 MB/s`,
    `\r\x1b[K${"█".repeat(15)}${"░".repeat(15)} 50 % of 100 MB, 41.7 MB/s`,
    "\r\x1b[K",
  ]);
  expect(shown(0, true, steps)[0]).toBe("\r\x1b[K25.0 MB read, 25.0 MB/s");
});
