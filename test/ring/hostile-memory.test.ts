// Memory that a program hands over and that the collector must not map, or not as it says: the reader
// of a file that is cut dies, and what is mapped is the reader's own room.

import { expect, test } from "bun:test";
import {
  closeSync, ftruncateSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Mapping } from "../../src/ffi/libc.ts";
import { Constant, HeaderWord, Kind } from "../../src/ring/layout.ts";
import { RING_BYTES_MOST } from "../../src/ring/ring.ts";
import { duplicate, MFD_HUGETLB, Seal, sealedMemory } from "../fuzz/memory.ts";
import { HostileSession, makeMemories, RING_BYTES } from "../fuzz/rings.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";
import { slotWords } from "../match/words.ts";

const SEALED = Seal.Shrink | Seal.Grow;
const HEADER_WORDS = Constant.headerBytes / 4;
const SLOT_WORDS = Constant.slotBytes / 4;

function whyNot(fd: number): string {
  try {
    Mapping.adopt(fd, RING_BYTES_MOST).close();
    return "mapped";
  } catch (error) {
    return (error as Error).message;
  }
}

test("memory that could be cut under its reader is refused, whatever else it is", () => {
  const why = "shared memory is not sealed against shrinking";
  for (const seals of [0, Seal.Grow, Seal.Write | Seal.Grow, Seal.Seal]) {
    expect(whyNot(sealedMemory(RING_BYTES, seals))).toBe(why);
  }
  // A file on a tmpfs knows of seals, one on a disk does not.
  for (const folder of ["/dev/shm", tmpdir()]) {
    const path = join(folder, `kqtime-hostile-${process.pid}`);
    writeFileSync(path, new Uint8Array(RING_BYTES));
    expect(whyNot(openSync(path, "r+"))).toBe(why);
    rmSync(path);
  }
  expect(whyNot(sealedMemory(RING_BYTES, SEALED))).toBe("mapped");
  expect(whyNot(sealedMemory(RING_BYTES, Seal.Shrink))).toBe("mapped");
});

test("what is mapped cannot be cut, nor can its seal be taken away: whoever reads beyond an end dies", () => {
  const fd = sealedMemory(RING_BYTES, SEALED);
  const kept = duplicate(fd);
  const mapping = Mapping.adopt(fd, RING_BYTES_MOST);
  const words = new Uint32Array(mapping.buffer);
  for (const bytes of [0, 4096, RING_BYTES - 1, RING_BYTES + 4096]) {
    expect(() => ftruncateSync(kept, bytes)).toThrow(/EPERM/);
  }
  expect(words[words.length - 1]).toBe(0);
  mapping.close();
  closeSync(kept);
  // The same without the seal, in a process of its own.
  const memory = JSON.stringify(join(import.meta.dir, "../fuzz/memory.ts"));
  const program = `
    import { ftruncateSync } from "node:fs";
    import { duplicate, sealedMemory, TargetMemory } from ${memory};
    const fd = sealedMemory(65536, 0);
    const words = new Uint32Array(new TargetMemory(duplicate(fd), 65536).buffer);
    ftruncateSync(fd, 0);
    console.log(words[9000]);`;
  const { signalCode } = Bun.spawnSync([process.execPath, "-e", program], { stderr: "ignore" });
  expect(signalCode).toBe("SIGBUS");
});

/** Such memory can be made and sealed without a page of it; null where the kernel knows none. */
function hugeMemory(): number | null {
  try {
    return sealedMemory(2 << 20, SEALED, MFD_HUGETLB);
  } catch {
    return null;
  }
}

const huge = isLinux ? hugeMemory() : null;

// The hole that its owner makes in it is filled from a pool that may be empty, or the reader dies.
testUnless(reason(huge === null && "needs huge pages"), "memory of huge pages is refused", () => {
  expect(whyNot(huge!)).toBe("shared memory is not of ordinary pages");
});

test("memory larger than any ring is refused, and takes no room of the collector's", () => {
  const mappings = () => readFileSync("/proc/self/maps", "latin1").match(/memfd:kqtime-fuzz/g)?.length ?? 0;
  const before = mappings();
  for (const bytes of [RING_BYTES_MOST + 1, 2 ** 31, 2 ** 32 + Constant.headerBytes, 2 ** 36]) {
    expect(whyNot(sealedMemory(bytes, SEALED))).toBe(`shared memory of ${bytes} bytes`);
  }
  expect(whyNot(sealedMemory(0, SEALED))).toBe("shared memory of 0 bytes");
  expect(mappings()).toBe(before);
});

test("names of children that nobody has cost little, and do not keep a ring", () => {
  const own = readdirSync("/proc/self/task").map(Number);
  const memories = makeMemories(1);
  const session = new HostileSession(memories);
  const { words } = session.shared[0]!;
  session.shared[0]!.begin(1, 1, 1);
  expect(session.announce()).toBe(true);
  const startMs = performance.now();
  let head = 0;
  for (let round = 0; round < 100; round++) {
    for (let n = 0; n < Constant.slotsMin; n++, head++) {
      // Some that there are, the collector's own threads, and those that there never are.
      const pid = [1, process.ppid, own[(n >> 2) % own.length]!, (1 << 22) + n][n % 4]!;
      const slot = slotWords({ kind: Kind.Fork, entry: 0, generation: 0, timeNs: head, pid });
      const at = HEADER_WORDS + (head & (Constant.slotsMin - 1)) * SLOT_WORDS;
      words.set(slot.subarray(1), at + 1);
      words[HeaderWord.head] = head + 1;
      Atomics.store(words, at, head + 1);
    }
    session.rings.drain();
  }
  expect(performance.now() - startMs).toBeLessThan(10_000);
  expect(session.rings.processes()).toEqual([]);
  session.end(true);
  for (const memory of memories) memory.close();
});

test("a ring of one who ended before it was sent, and whose pid the collector has now, is let go of", () => {
  const memories = makeMemories(1);
  for (const own of readdirSync("/proc/self/task").map(Number)) {
    const session = new HostileSession(memories);
    session.shared[0]!.begin(1, 1, 1);
    expect(session.announce(own)).toBe(true);
    session.end(true);
  }
  for (const memory of memories) memory.close();
});
