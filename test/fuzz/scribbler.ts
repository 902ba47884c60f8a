// A process that writes to a ring without end, while another reads it:
//
//     bun test/fuzz/scribbler.ts MEMORY BYTES SEED
//
// Records that are committed where the reader stands, changed while they are copied; entries, indices
// and counters of all values.

import { openSync } from "node:fs";
import { Constant, HeaderWord } from "../../src/ring/layout.ts";
import { Random } from "../match/random.ts";
import { TargetMemory } from "./memory.ts";
import {
  anyWord, ENTRY_WORDS, entryOf, makeOps, OP_BYTES, readOp, SLOT_WORDS, slotOf,
} from "./ops.ts";

const SLOTS = Constant.slotsMin;
const HEADER_WORDS = Constant.headerBytes / 4;
const TABLE_AT = HEADER_WORDS + SLOTS * SLOT_WORDS;

const [path = "", bytes = "0", seed = "1"] = process.argv.slice(2);
const { buffer } = new TargetMemory(openSync(path, "r+"), Number(bytes));
const words = new Uint32Array(buffer);
const random = new Random(Number(seed));
console.log("scribbling");
for (;;) {
  const ops = makeOps(random, 0, [0], 64);
  for (let at = 0; at < ops.length; at += OP_BYTES) {
    const op = readOp(ops, at);
    const tail = Atomics.load(words, HeaderWord.tail);
    const slot = HEADER_WORDS + (tail & (SLOTS - 1)) * SLOT_WORDS;
    words.set(slotOf(op).subarray(1), slot + 1);
    Atomics.store(words, HeaderWord.head, (tail + 1 + (op.a & 3)) >>> 0);
    Atomics.store(words, slot, (tail + 1) >>> 0);
    const { entry, words: content } = entryOf(op);
    words.set(content, TABLE_AT + entry * ENTRY_WORDS);
    if (random.chance(0.1)) words[HEADER_WORDS + random.below(words.length - HEADER_WORDS)] = anyWord(random);
    if (random.chance(0.01)) words[HeaderWord.head + random.below(3)] = anyWord(random);
    if (random.chance(0.001)) words[random.below(HEADER_WORDS)] = anyWord(random);
  }
}
