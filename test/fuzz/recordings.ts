// Recordings with changed events and changed packets through `kqtime replay`: the tape's chunks and
// frames, and the savefile through the real libpcap. Most have sound checksums, so that what is in
// the frames comes to the join.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KQTimeError } from "../../src/errors.ts";
import { Observed } from "../../src/match/anchor.ts";
import { replay } from "../../src/session/replay.ts";
import { EVENTS_FILE, Frame, HEADERS_FILE } from "../../src/session/tape.ts";
import { Random } from "../match/random.ts";
import { checkSummary } from "./books.ts";
import { frameOf, LINKS, mutateFrame } from "./frames.ts";
import { type Fuzzer, must } from "./harness.ts";
import { ethernet, ip4, tcp, typed } from "../capture/frames.ts";
import {
  BASE_SEC, entryOf, makeOps, type Op, OP_BYTES, readOp, slotOf,
} from "./ops.ts";

const HEAD_BYTES = 16;
const MAGIC = "kqtime tape 4\n\0\0";
const SETUP = {
  baseSec: BASE_SEC, startNs: 0, direction: "both", label: "port", command: ["fuzz"], version: "1.0.0",
  everything: true, queues: true, isPartial: false,
};
const END = {
  endNs: 1e9, exitCode: 0, signal: null, pids: [1], isDetached: false, badRecords: 0, warnings: [],
  losses: {
    ringRecords: 0, capturePackets: 0, interfacePackets: 0, badPackets: 0, memoryRecords: 0, tableSockets: 0,
    descriptorSockets: 0, addressSockets: 0, staleCalls: 0, inheritedRings: 0, unheardProcesses: 0, fragments: 0,
  },
};

const Do = {
  Record: 0, Entry: 1, Packets: 2, Tick: 3, Flush: 4, Table: 5, EndTable: 6, Queued: 7, Observed: 8,
  Queues: 9, Gone: 10, Inner: 11, Open: 12, Free: 13, Rule: 14, Taken: 15, Any: 16, End: 17, Clock: 18,
} as const;
const WEIGHTED = [
  ...Array<number>(8).fill(Do.Record), ...Array<number>(5).fill(Do.Entry), ...Array<number>(8).fill(Do.Packets),
  Do.Tick, Do.Tick, Do.Flush, Do.Flush, Do.EndTable, Do.Queued, Do.Observed, Do.Queues, Do.Gone,
  Do.Inner, Do.Open, Do.Free, Do.Rule, Do.Taken, Do.Any, Do.End, Do.Clock,
];
const RULES = ["port 443 web", "peer 10.0.0.2 443 x", "peer ::1 70000 x", "port 99999 y", "", "port 443"];
/** What may be wrong with the files themselves; most are sound. */
const Damage = {
  None: 0, Crc: 1, Length: 2, CutTape: 3, CutPcap: 4, PcapHead: 5, PcapBytes: 6, Magic: 7, Setup: 8,
  Word: 9,
} as const;

class Tape {
  readonly #frames: number[] = [];

  frame(type: number, body: Uint8Array): void {
    this.#frames.push(...new Uint8Array(new Uint32Array([type, body.length]).buffer), ...body);
    while (this.#frames.length % 4 !== 0) this.#frames.push(0);
  }

  text(type: number, value: unknown): void {
    this.frame(type, new TextEncoder().encode(JSON.stringify(value)));
  }

  words(type: number, ...words: number[]): void {
    this.frame(type, new Uint8Array(new Uint32Array(words).buffer));
  }

  numbers(type: number, ...numbers: number[]): void {
    this.frame(type, new Uint8Array(new Float64Array(numbers).buffer));
  }

  bytes(damage: number, at: number, value: number): Uint8Array {
    const body = new Uint8Array(this.#frames);
    // The first frame's length, or any word, under a checksum that is right.
    const word = (value & 1) === 0 ? 1 : at % (body.length >> 2);
    if (damage === Damage.Word) new Uint32Array(body.buffer)[word] = value << (at % 25);
    const head = new Uint32Array([body.length, ~body.length, Bun.hash.crc32(body)]);
    if (damage === Damage.Crc) head[2]! ^= 1;
    if (damage === Damage.Length) head.set([(at << 20) | 4, ~((at << 20) | (value & 4))]);
    const magic = new TextEncoder().encode(MAGIC);
    if (damage === Damage.Magic) magic[at % magic.length]! ^= 1;
    const all = Buffer.concat([magic, new Uint8Array(head.buffer), body]);
    return damage === Damage.CutTape ? all.subarray(0, at % all.length) : all;
  }
}

class Savefile {
  readonly #bytes: number[] = [];
  readonly link: number;

  constructor(link: number) {
    this.link = link;
    this.#put(0xa1b23c4d, 0x00040002, 0, 0, 262_144, link);
  }

  packet(sec: number, nsec: number, frame: ArrayLike<number>, wireBytes: number, length = frame.length): void {
    this.#put(sec, nsec, length, wireBytes);
    for (let i = 0; i < frame.length; i++) this.#bytes.push(frame[i]!);
  }

  #put(...words: number[]): void {
    this.#bytes.push(...new Uint8Array(new Uint32Array(words).buffer));
  }

  bytes(damage: number, at: number, value: number): Uint8Array {
    const all = new Uint8Array(this.#bytes);
    if (damage === Damage.CutPcap) return all.subarray(0, at % all.length);
    if (damage === Damage.PcapHead) all[at % 24] = value;
    if (damage === Damage.PcapBytes) for (let i = 0; i < 4; i++) all[(at * (i + 1)) % all.length] = value + i;
    return all;
  }
}

export class RecordingFuzzer implements Fuzzer {
  readonly name = "recordings";
  readonly past = "frames behind the set-up were played";
  readonly headBytes = HEAD_BYTES;
  readonly unitBytes = OP_BYTES;
  #folder = "";
  #runs = 0;

  make(random: Random): Uint8Array {
    const input = makeOps(random, HEAD_BYTES, WEIGHTED, 40);
    const head = new DataView(input.buffer);
    input[0] = random.chance(0.3) ? random.below(10) : Damage.None;
    input[1] = random.below(256);
    input[2] = random.below(LINKS.length);
    // Of the socket's own packets, or of any.
    input[3] = random.pick([0, 0, 1]);
    head.setUint32(4, random.below(2 ** 32), true);
    head.setUint32(8, random.below(4000), true);
    return input;
  }

  run(input: Uint8Array): boolean {
    if (input.length < HEAD_BYTES) return false;
    if (this.#folder === "") this.#folder = mkdtempSync(join(tmpdir(), "kqtime-fuzz-"));
    const head = new DataView(input.buffer, input.byteOffset);
    const [damage, value, , foreign] = [0, 1, 2, 3].map((i) => head.getUint8(i)) as [number, number, number, number];
    const seed = head.getUint32(4, true);
    const at = head.getUint32(8, true);
    const random = new Random(seed);
    const link = foreign === 1 ? LINKS[input[2]! % LINKS.length]! : 1;
    const tape = new Tape();
    const packets = new Savefile(link);
    tape.text(Frame.Setup, damage === Damage.Setup ? oddSetup(at, value) : SETUP);
    tape.words(Frame.Table);
    for (let op = HEAD_BYTES; op + OP_BYTES <= input.length; op += OP_BYTES) {
      put(tape, packets, readOp(input, op), random, foreign === 1);
    }
    if ((value & 3) !== 0) tape.text(Frame.End, END);
    writeFileSync(join(this.#folder, EVENTS_FILE), tape.bytes(damage, at, value));
    writeFileSync(join(this.#folder, HEADERS_FILE), packets.bytes(damage, at, value));
    try {
      const summary = replay({ folder: this.#folder, log: null, json: null, onWarning: () => {} });
      checkSummary(summary, damage === Damage.Setup || this.#runs++ % 16 === 0);
    } catch (error) {
      if (!(error instanceof KQTimeError)) throw error;
      must(/^E_(RECORD|PCAP)/.test(error.code), `${error.code} for a damaged recording`);
      // The words of an exception that nobody expected.
      must(!/call stack|invalid date|undefined|array ?buffer/i.test(error.message), error.message);
      must(!/[\n\x1b]/.test(error.message), "a message of several lines");
      // A frame that cannot be is found by what it does; the set-up before it was played.
      return !/set-up|no recording|checksum|chunk|savefile|pcap|link/i.test(error.message);
    }
    return true;
  }

  close(): void {
    if (this.#folder !== "") rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = "";
  }
}

function oddSetup(at: number, value: number): unknown {
  const keys = Object.keys(SETUP) as (keyof typeof SETUP)[];
  const odd = [null, -1, 1e300, "x", {}, [], true, Number.MAX_SAFE_INTEGER][value & 7];
  return { ...SETUP, [keys[at % keys.length]!]: odd };
}

function put(tape: Tape, packets: Savefile, op: Op, random: Random, foreign: boolean): void {
  const table = (op.c & 0x80) !== 0 ? op.b & 3 : 0;
  switch (op.kind) {
    case Do.Record:
      tape.words(Frame.Record, table, ...slotOf(op));
      return;
    case Do.Entry:
    case Do.Taken: {
      const { entry, words } = entryOf(op);
      tape.words(op.kind === Do.Entry ? Frame.Entry : Frame.Taken, table, entry, ...words);
      return;
    }
    case Do.Packets: {
      const count = 1 + (op.b & 1);
      for (let i = 0; i < count; i++) packet(packets, op, random, foreign);
      const drops = (op.c & 0x20) !== 0 ? [oddNumber(op), 0] : [op.c & 3, op.c & 1];
      const floats = new Uint32Array(new Float64Array(drops).buffer);
      tape.words(Frame.Packets, (op.c & 0x40) !== 0 ? op.y : count, ...floats);
      return;
    }
    case Do.Tick:
      tape.numbers(Frame.Tick, (op.c & 0x40) !== 0 ? oddNumber(op) : op.z, op.b & 1);
      return;
    case Do.Flush:
      tape.words(Frame.Flush);
      return;
    case Do.Table:
      tape.words(Frame.Table);
      return;
    case Do.EndTable:
      tape.words(Frame.EndTable, table);
      return;
    case Do.Queued:
      tape.numbers(Frame.Queued, op.b & 7, (op.c & 0x40) !== 0 ? oddNumber(op) : op.x);
      return;
    case Do.Observed:
      tape.numbers(Frame.Observed, op.b & 7, ...filled(Observed.count, (i) => (op.x * i) % 2 ** 32));
      return;
    case Do.Queues:
      tape.numbers(
        Frame.Queues, op.z, op.z + op.x, ...filled(op.a & 31, (i) => (i === 0 ? op.b & 7 : op.y)),
      );
      return;
    case Do.Gone:
      tape.numbers(Frame.Gone, op.b & 7, 0);
      return;
    case Do.Inner:
      tape.words(Frame.Inner, op.b & 3);
      return;
    case Do.Open:
      tape.text(Frame.Open, {
        handle: 1 + (op.b & 1), in: true, out: (op.b & 2) !== 0, queues: (op.b & 4) !== 0, startNs: op.z,
      });
      return;
    case Do.Free:
      tape.text(Frame.Free, { handle: 1 + (op.b & 1), endNs: op.z });
      return;
    case Do.Rule:
      tape.text(Frame.Rule, {
        handle: 1 + (op.b & 1), remove: (op.b & 2) !== 0, text: RULES[op.a % RULES.length]!, askedNs: op.z,
      });
      return;
    case Do.Clock: {
      const byNs = [1e6, -1e6, 3600e9, -3600e9, op.z, -op.z, 2 ** 59, -(2 ** 59)][op.y & 7]!;
      const step = [op.z - (op.b << 20), op.z, byNs];
      if ((op.c & 0x40) !== 0) step[op.a % 3] = oddNumber(op);
      tape.numbers(Frame.Clock, ...step);
      return;
    }
    case Do.Any:
      // Any type with any body.
      tape.words(op.b % 24, ...Array<number>(op.a % 80).fill(op.y));
      return;
    case Do.End:
      if ((op.c & 0x80) !== 0) tape.text(Frame.End, END);
      return;
  }
}

function filled(length: number, value: (i: number) => number): number[] {
  return Array.from({ length }, (_, i) => value(i));
}

function oddNumber({ y }: Op): number {
  return [NaN, Infinity, -Infinity, -1, 1e300, 2 ** 53, 0.5, -0][y & 7]!;
}

const FLAGS = [0x10, 0x18, 0x02, 0x12, 0x11, 0x04];

function packet(packets: Savefile, op: Op, random: Random, foreign: boolean): void {
  let frame: Uint8Array;
  if (foreign) {
    frame = new Uint8Array(frameOf(random).frame);
  } else {
    const connection = (op.a >> 1) % 4;
    const fromClient = op.a % 2 === 0;
    const flags = FLAGS[op.b % FLAGS.length]!;
    const first = fromClient ? 1000 : 0xfffffff0;
    const segment = tcp({
      sourcePort: fromClient ? 40_000 + connection : 443,
      destinationPort: fromClient ? 443 : 40_000 + connection,
      sequence: (first + ((flags & 2) !== 0 ? -1 : op.x)) >>> 0,
      acknowledgment: fromClient ? 0xfffffff0 : 1000,
      flags,
      options: [],
      payload: (flags & 2) !== 0 ? [] : Array<number>(op.y % 64).fill(0),
    });
    const body = ip4(segment);
    // The addresses of the operations' sockets.
    body.splice(12, 8, 10, 0, 0, fromClient ? 1 : 2, 10, 0, 0, fromClient ? 2 : 1);
    frame = new Uint8Array(ethernet(typed(0x0800, body)));
  }
  if ((op.c & 0x20) !== 0) mutateFrame(random, frame);
  const odd = (op.c & 0x10) !== 0;
  const sec = odd ? op.y : BASE_SEC + Math.floor(op.z / 1e9);
  const captured = odd && (op.c & 1) !== 0 ? op.z % 400_000 : frame.length;
  packets.packet(sec, odd ? op.x : op.z % 1e9, frame, odd ? op.x : frame.length, captured);
}

