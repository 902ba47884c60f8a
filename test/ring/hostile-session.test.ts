// One session with a program that scribbles for long, and one whose socket is flooded: what the
// collector keeps has a bound, and others are still heard.

import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageListener } from "../../src/ffi/libc.ts";
import { Constant, HeaderWord, Message } from "../../src/ring/layout.ts";
import { Rings } from "../../src/ring/rings.ts";
import { connectTo, Seal, sealedMemory, sendDescriptors, TargetMemory } from "../fuzz/memory.ts";
import { OP_BYTES, readOp } from "../fuzz/ops.ts";
import { HostileSession, makeMemories, RingFuzzer } from "../fuzz/rings.ts";
import { inputOf } from "../fuzz/harness.ts";
import { fixture } from "../lib/fixtures.ts";

const INPUTS = 6000;
const GROWTH_MOST_MB = 100;
const SCRIBBLED_MS = 2000;
/** At the least; they keep coming. */
const SCRIBBLED_RECORDS = 1000;

function residentMb(): number {
  Bun.gc(true);
  return process.memoryUsage.rss() / 1e6;
}

test("a program that scribbles over its memory for long does not fill the collector's", () => {
  const memories = makeMemories(3);
  const fuzzer = new RingFuzzer();
  const session = new HostileSession(memories);
  session.shared[0]!.begin(1, 1, 64);
  session.announce();
  let early = 0;
  for (let number = 0; number < INPUTS; number++) {
    const input = inputOf(fuzzer, 7, number);
    for (let at = fuzzer.headBytes; at + OP_BYTES <= input.length; at += OP_BYTES) session.perform(readOp(input, at));
    if (session.rings.open === 0) {
      session.current = 0;
      session.shared[0]!.begin(1, 1, 64);
      session.announce();
    }
    if (number === INPUTS / 3) early = residentMb();
  }
  expect(residentMb() - early).toBeLessThan(GROWTH_MOST_MB);
  session.end(true);
  for (const memory of memories) memory.close();
}, 60_000);

test("a program that writes to its memory while that is read", async () => {
  const memories = makeMemories(1);
  const [memory] = memories;
  const session = new HostileSession(memories);
  const { engine } = session.join;
  session.shared[0]!.begin(1, 1, 64);
  session.announce(process.pid);
  const scribbler = join(import.meta.dir, "../fuzz/scribbler.ts");
  const path = `/proc/${process.pid}/fd/${memory!.fd}`;
  const child = Bun.spawn([process.execPath, scribbler, path, String(memory!.bytes), "1"], { stdout: "pipe" });
  await child.stdout.getReader().read();
  let records = 0;
  const untilMs = performance.now() + SCRIBBLED_MS;
  // How many come while it lasts is a matter of who gets the processors.
  for (let round = 0; records < SCRIBBLED_RECORDS || performance.now() < untilMs; round++) {
    records += session.rings.drain();
    engine.flush();
    expect(performance.now() - untilMs).toBeLessThan(50_000);
    if (round % 64 === 0) engine.tick(round * 1e6);
    for (const { table, entry } of [...engine.live].slice(0, 8)) session.rings.refresh(table, entry);
  }
  child.kill();
  await child.exited;
  session.end(true, process.pid);
  for (const each of memories) each.close();
}, 60_000);

const TOKEN = "0".repeat(32);

function message(type = 0): Uint8Array {
  const bytes = new Uint8Array(Constant.messageHeadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(Message.magic, Constant.magic, true);
  view.setUint32(Message.version, Constant.version, true);
  bytes.set(new TextEncoder().encode(TOKEN), Message.token);
  view.setUint32(Message.type, type, true);
  return bytes;
}

/** A ring of 64 slots with a table, as a process makes it. */
function ringMemory(): TargetMemory {
  const bytes = Constant.headerBytes + 64 * Constant.slotBytes + 64 * Constant.entryBytes;
  const memory = new TargetMemory(sealedMemory(bytes, Seal.Shrink | Seal.Grow), bytes);
  const words = new Uint32Array(memory.buffer);
  const fields: [keyof typeof HeaderWord, number][] = [
    ["magic", Constant.magic], ["version", Constant.version], ["headerBytes", Constant.headerBytes],
    ["slotBytes", Constant.slotBytes], ["entryBytes", Constant.entryBytes], ["slotCount", 64], ["entryCount", 64],
  ];
  for (const [name, value] of fields) words[HeaderWord[name]] = value;
  return memory;
}

test("thousands of connections that say nothing, half of a message or nonsense do not keep a ring out", () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-flood-"));
  const listener = new MessageListener(join(folder, "socket"));
  const rejected = new Set<string>();
  const rings = new Rings(listener, TOKEN, {
    addTable: () => 0, endTable: () => {}, isUnknown: () => false, entry: () => {}, record: () => {},
  });
  rings.onReject = (why) => rejected.add(why);
  const connections: number[] = [];
  for (let n = 0; n < 3000; n++) {
    const connection = connectTo(listener.path);
    expect(connection).toBeGreaterThan(0);
    connections.push(connection);
    if (n % 3 === 1) sendDescriptors(connection, message().subarray(0, 40), []);
    if (n % 3 === 2) sendDescriptors(connection, new Uint8Array(900).fill(n), []);
  }
  const memory = ringMemory();
  const own = connectTo(listener.path);
  sendDescriptors(own, message(), [memory.fd]);
  let rounds = 0;
  for (; rings.attached === 0; rounds++) {
    rings.drain();
    expect(rounds).toBeLessThan(3000);
  }
  expect([...rejected]).toEqual(["a message without the session's token"]);
  for (const connection of [...connections, own]) closeSync(connection);
  rings.close();
  listener.close();
  memory.close();
  rmSync(folder, { recursive: true });
}, 60_000);

/** Of the flood, that are taken. */
const FLOOD_MESSAGES = 20_000;

test("a flood without end keeps neither a ring out nor the rounds from going on", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-flood-"));
  const listener = new MessageListener(join(folder, "socket"));
  let rejections = 0;
  const rings = new Rings(listener, TOKEN, {
    addTable: () => 0, endTable: () => {}, isUnknown: () => false, entry: () => {}, record: () => {},
  });
  rings.onReject = () => rejections++;
  const flood = await fixture("flood");
  const children = [1, 2].map(() => Bun.spawn([flood, listener.path], { stdout: "pipe" }));
  await Promise.all(children.map((child) => child.stdout.getReader().read()));
  const memory = ringMemory();
  let own = -1;
  let waitedMs = 0;
  let slowestMs = 0;
  // Whether a round is crowded depends on who gets the processors: what counts is how much came.
  for (let round = 0; rejections < FLOOD_MESSAGES || rings.attached === 0; round++) {
    // As a process does: the socket's queue may be full at the moment.
    if (own < 0 && (own = connectTo(listener.path)) >= 0) sendDescriptors(own, message(), [memory.fd]);
    const startMs = performance.now();
    rings.drain();
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
    if (!rings.complete) waitedMs += performance.now() - startMs;
    else waitedMs = 0;
    expect(waitedMs).toBeLessThan(400);
    expect(round).toBeLessThan(10_000_000);
  }
  for (const child of children) child.kill();
  await Promise.all(children.map((child) => child.exited));
  // Of a processor shared with the flood.
  expect(slowestMs).toBeLessThan(200);
  closeSync(own);
  rings.close();
  listener.close();
  memory.close();
  rmSync(folder, { recursive: true });
}, 60_000);

test("rings that come without end are not waited for for ever", () => {
  const folder = mkdtempSync(join(tmpdir(), "kqtime-flood-"));
  const listener = new MessageListener(join(folder, "socket"));
  const rings = new Rings(listener, TOKEN, {
    addTable: () => 0, endTable: () => {}, isUnknown: () => false, entry: () => {}, record: () => {},
  });
  const refill = () => {
    for (let n = 0; n < 100; n++) {
      const connection = connectTo(listener.path);
      // Without a descriptor: of a process that got no memory for its ring.
      if (connection < 0) return;
      sendDescriptors(connection, message(), []);
      closeSync(connection);
    }
  };
  refill();
  rings.drain();
  expect(rings.complete).toBe(false);
  const startMs = performance.now();
  while (!rings.complete) {
    refill();
    rings.drain();
    expect(performance.now() - startMs).toBeLessThan(3000);
  }
  expect(rings.crowded).toBe(true);
  rings.close();
  listener.close();
  rmSync(folder, { recursive: true });
}, 60_000);

test("many processes that start at once are waited for longer than strangers", () => {
  const ours = message();
  const theirs = new Uint8Array(900);
  const waitOf = (next: () => Uint8Array): number => {
    const slow = {
      next: () => {
        Bun.sleepSync(1);
        return { message: next(), fd: -1, pid: 0, uid: 0, connection: -1 };
      },
      hangUp: () => {},
    };
    const rings = new Rings(slow as unknown as MessageListener, TOKEN, {
      addTable: () => 0, endTable: () => {}, isUnknown: () => false, entry: () => {}, record: () => {},
    });
    const startMs = performance.now();
    do rings.drain(); while (!rings.complete);
    return performance.now() - startMs;
  };
  let n = 0;
  expect(waitOf(() => ours)).toBeGreaterThan(1000);
  expect(waitOf(() => theirs)).toBeLessThan(1000);
  // One who has the token among them changes nothing.
  expect(waitOf(() => (n++ % 10 === 0 ? ours : theirs))).toBeLessThan(1000);
});
