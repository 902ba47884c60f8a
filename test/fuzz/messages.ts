// What a program may say over the session's socket: messages of wrong lengths and halves of them,
// all
// types with any text, no descriptor, many, and such of every kind. Through a real socket, to the
// real
// listener, rings and requests.

import {
  closeSync, constants, fstatSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makePipe } from "../../src/ffi/descriptors.ts";
import { MessageListener } from "../../src/ffi/libc.ts";
import {
  Constant, Header, HeaderWord, Message, Reply,
} from "../../src/ring/layout.ts";
import { Rings } from "../../src/ring/rings.ts";
import { Join } from "../../src/session/join.ts";
import { Requests } from "../../src/session/requests.ts";
import type { Random } from "../match/random.ts";
import { type Fuzzer, must } from "./harness.ts";
import {
  connectTo, readAll, Seal, sealedMemory, sendDescriptors, TargetMemory, duplicate,
} from "./memory.ts";
import { BASE_SEC, ENTRIES } from "./ops.ts";

const SLOTS = Constant.slotsMin;
const RING_BYTES = Constant.headerBytes + SLOTS * Constant.slotBytes + ENTRIES * Constant.entryBytes;
const TOKEN = "fedcba9876543210".repeat(2);
const OP_BYTES = 16;
const HEAD_BYTES = 4;
const TEXTS = [
  "", "port 443 web", "port 99999 x", "peer 10.0.0.1 443 name", "peer ::1 1 x", "/tmp/x.log",
  "\x1b[2J\n", "x".repeat(600),
  "port 443 \0\x07", "peer 999.1.1.1 1 x", "peer ::ffff:1.2.3.4%eth0 80 z", "port 0 ",
];
const LENGTHS = [0, 1, 4, 8, 63, 64, 65, 300, 575, 576, 577, 1000, 1024, 1025, 5000];
/** Rings in use, descriptors and memory of an input all go back; what stays are the threads' own. */
const CHECK_EVERY = 256;
const DESCRIPTORS_SPARE = 40;
/** Kinds of descriptors from here on are rings, or say so; those before must be refused. */
const RING_KIND = 12;

export class MessageFuzzer implements Fuzzer {
  readonly name = "messages";
  readonly past = "the token was right";
  readonly headBytes = HEAD_BYTES;
  readonly unitBytes = OP_BYTES;
  #folder = "";
  #listener: MessageListener | null = null;
  #runs = 0;
  #openAtFirst = 0;

  make(random: Random): Uint8Array {
    const input = new Uint8Array(HEAD_BYTES + OP_BYTES * (1 + random.below(12)));
    const view = new DataView(input.buffer);
    for (let at = HEAD_BYTES; at < input.length; at += OP_BYTES) {
      // Type, text, descriptors, and whether the token is right.
      input[at] = random.pick([0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 255]);
      input[at + 1] = random.below(TEXTS.length);
      input[at + 2] = random.pick([0, 1, 1, 1, 1, 2, 5, 12, 20]);
      input[at + 3] = random.chance(0.9) ? 0 : random.below(256);
      input[at + 4] = random.below(16);
      input[at + 5] = random.below(256);
      view.setUint16(at + 6, random.chance(0.8) ? 0 : random.pick(LENGTHS) + 1, true);
      view.setUint32(at + 8, random.pick([0, 1, 2, 0x7fff_ffff, 0xffff_ffff]), true);
      view.setUint32(at + 12, random.below(64), true);
    }
    return input;
  }

  run(input: Uint8Array): boolean {
    const listener = this.#open();
    const join = new Join(
      {
        baseSec: BASE_SEC, startNs: 0, direction: "both", label: "port", command: [], version: "0",
        everything: false, queues: false, isPartial: false,
      },
      null,
    );
    const { engine } = join;
    const rings = new Rings(listener, TOKEN, engine);
    let rejected = 0;
    rings.onReject = (message) => {
      must(!/[\n\x1b]/.test(message), "a reason of several lines");
      rejected++;
    };
    const end = () => ({
      endNs: 1e9, exitCode: null, signal: null, pids: [], badRecords: 0, isDetached: false, warnings: [],
      losses: {
        ringRecords: 0, capturePackets: 0, interfacePackets: 0, badPackets: 0, memoryRecords: 0, tableSockets: 0,
        descriptorSockets: 0, addressSockets: 0, staleCalls: 0, inheritedRings: 0, unheardProcesses: 0, fragments: 0,
      },
    });
    const requests = new Requests({
      join, tape: null, listener, rings, baseSec: BASE_SEC, nowNs: () => 0, end, onWarning: () => {},
    });
    rings.onRequest = (received) => requests.take(received);
    const connections: number[] = [];
    let handle = 0;
    let taken = 0;
    for (let at = HEAD_BYTES; at + OP_BYTES <= input.length; at += OP_BYTES) {
      const connection = connectTo(listener.path);
      must(connection >= 0, "the listener does not answer");
      connections.push(connection);
      const op = new DataView(input.buffer, input.byteOffset + at, OP_BYTES);
      const bytes = messageOf(op, handle);
      const fds = Array.from({ length: op.getUint8(2) }, (_, i) => this.#descriptor((op.getUint8(4) + i) % 16, op));
      sendDescriptors(connection, bytes, fds);
      for (const fd of fds) closeSync(fd);
      if (op.getUint8(3) === 0 && bytes.length >= Constant.messageHeadBytes) taken++;
      const { attached } = rings;
      rings.drain();
      const isRing = fds.length > 0 && op.getUint8(4) >= RING_KIND;
      must(rings.attached === attached || isRing, `a ring of what is none, ${op.getUint8(4)}`);
      requests.answer(0, false);
      const reply = readAll(connection);
      if (reply.length >= Reply.text) {
        const view = new DataView(reply.buffer, reply.byteOffset);
        const number = view.getInt32(Reply.handle, true);
        must(number <= 0 || rings.attached > 0, "a handle for a program that shares no memory");
        if (number > 0) handle = number;
        const text = new TextDecoder().decode(reply.subarray(Reply.text));
        must(text.length === view.getUint32(Reply.textBytes, true) || /[^\x00-\x7f]/.test(text), "a reply's length");
        must(!/[\x00-\x1f\x7f]/.test(text), `a control character in ${JSON.stringify(text)}`);
      }
    }
    for (const connection of connections) closeSync(connection);
    rings.drain();
    requests.answer(1e12, true);
    requests.close();
    rings.close();
    join.finish(end());
    must(rejected <= connections.length, "more rejected than sent");
    if (++this.#runs % CHECK_EVERY === 0) this.#checkDescriptors();
    return taken > 0;
  }

  close(): void {
    this.#listener?.close();
    this.#listener = null;
    if (this.#folder !== "") rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = "";
  }

  #open(): MessageListener {
    if (this.#listener !== null) return this.#listener;
    this.#folder = mkdtempSync(join(tmpdir(), "kqtime-fuzz-"));
    this.#listener = new MessageListener(join(this.#folder, "socket"));
    this.#openAtFirst = openDescriptors();
    return this.#listener;
  }

  /** Other threads close what programs sent: all of it, in a while. */
  #checkDescriptors(): void {
    const deadline = performance.now() + 4000;
    while (openDescriptors() > this.#openAtFirst + DESCRIPTORS_SPARE) {
      must(performance.now() < deadline, `${openDescriptors() - this.#openAtFirst} descriptors stay open`);
      Bun.sleepSync(1);
    }
    const kept = readFileSync("/proc/self/maps", "latin1").match(/memfd:kqtime-fuzz/g)?.length ?? 0;
    must(kept === 0, `${kept} mappings stay`);
  }

  #descriptor(kind: number, op: DataView): number {
    const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_APPEND } = constants;
    const seals = Seal.Shrink | Seal.Grow;
    switch (kind) {
      case 0: return ring(op, RING_BYTES, Seal.Grow);
      case 1: return sealedMemory(op.getUint32(12, true), seals);
      // Its size does not fit into 32 bits, or is beyond what any ring has.
      case 2: return ring(op, 2 ** 32 + Constant.headerBytes);
      case 3: return ring(op, 2 ** 31);
      case 4: return openSync("/dev/zero", O_RDWR);
      case 5: return openSync("/dev/null", O_WRONLY);
      case 6: return openSync(this.#folder, O_RDONLY);
      case 7: return openSync(join(this.#folder, "a.log"), O_WRONLY | O_CREAT | O_APPEND, 0o600);
      case 8: {
        const pipe = makePipe(4096);
        closeSync(pipe.read);
        return pipe.write;
      }
      case 9: return connectTo(this.#listener!.path);
      case 10: return openSync("/dev/full", O_WRONLY | O_APPEND);
      case 11: return openSync("/proc/self/maps", O_RDONLY);
      default: return ring(op, RING_BYTES);
    }
  }
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Memory that says that it is a ring. */
function ring(op: DataView, bytes: number, seals: number = Seal.Shrink | Seal.Grow): number {
  const fd = sealedMemory(bytes, seals);
  // The header alone: a target need not have more of it mapped.
  const memory = new TargetMemory(duplicate(fd), Constant.headerBytes);
  const words = new Uint32Array(memory.buffer);
  words[HeaderWord.magic] = Constant.magic;
  words[HeaderWord.version] = Constant.version;
  words[HeaderWord.headerBytes] = Constant.headerBytes;
  words[HeaderWord.slotBytes] = Constant.slotBytes;
  words[HeaderWord.entryBytes] = Constant.entryBytes;
  words[HeaderWord.slotCount] = op.getUint8(5) & 1 ? SLOTS : 1 << (op.getUint8(5) % 32);
  words[HeaderWord.entryCount] = op.getUint8(5) & 2 ? ENTRIES : op.getUint32(8, true);
  words[HeaderWord.entryHigh] = op.getUint8(5) & 4 ? op.getUint32(8, true) : 1;
  words[HeaderWord.head] = op.getUint8(5) >> 4;
  const view = new DataView(memory.buffer);
  view.setBigUint64(Header.ringId, BigInt(1 + (op.getUint8(5) & 7)), true);
  view.setBigUint64(Header.tableId, BigInt(1 + (op.getUint8(5) & 7)), true);
  memory.close();
  fstatSync(fd);
  return fd;
}

function messageOf(op: DataView, handle: number): Uint8Array {
  const text = new TextEncoder().encode(TEXTS[op.getUint8(1) % TEXTS.length]!);
  const asked = op.getUint16(6, true);
  const bytes = new Uint8Array(new ArrayBuffer(Math.max(asked, Constant.messageHeadBytes + text.length)));
  const view = new DataView(bytes.buffer);
  view.setUint32(Message.magic, Constant.magic, true);
  view.setUint32(Message.version, Constant.version, true);
  bytes.set(new TextEncoder().encode(TOKEN), Message.token);
  view.setBigUint64(Message.ringId, BigInt(op.getUint8(5) & 7), true);
  view.setUint32(Message.type, op.getUint8(0), true);
  const known = (op.getUint8(5) & 3) !== 0;
  view.setUint32(Message.handle, known ? handle : op.getUint32(8, true), true);
  view.setUint32(Message.flags, op.getUint8(5) & 31, true);
  view.setUint32(Message.textBytes, known ? text.length : op.getUint32(8, true), true);
  bytes.set(text, Message.text);
  const wrong = op.getUint8(3);
  if (wrong !== 0) bytes[wrong % Constant.messageHeadBytes]! ^= wrong;
  return asked === 0 ? bytes : bytes.subarray(0, asked - 1);
}

