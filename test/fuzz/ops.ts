// The vocabulary of what a target and a network can do, as operations of 16 bytes: four small
// numbers and three words. What is plausible is made most of the time; any byte of it may be
// changed.

import { Sight, TcpFlag, type PacketBatch } from "../../src/capture/packets.ts";
import {
  Constant, EntryFlag, Kind, SlotFlag, SlotWord, State, Type,
} from "../../src/ring/layout.ts";
import type { Random } from "../match/random.ts";
import { BASE_SEC, entryWords, ipv4, putRow, slotWords } from "../match/words.ts";

export const OP_BYTES = 16;
export const ENTRIES = 64;
/**
 * Connections that operations speak of; entry 2i is the client's end of connection i, 2i + 1 the
 * server's.
 */
const CONNECTIONS = 4;
const MS = 1e6;
const CLIENT_FIRST = 1000;
const SERVER_FIRST = 0xfffffff0;
const CLIENT = ipv4(10, 0, 0, 1);
const SERVER = ipv4(10, 0, 0, 2);
const WORDS = [0, 1, 2, 3, 63, 64, 65, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/** As `c`: the call may have overlapped with another. */
const OVERLAP = 0x20;

/** A number that is small, at an edge, or anything. */
export function anyWord(random: Random): number {
  const how = random.below(4);
  if (how === 0) return random.pick(WORDS);
  return how === 1 ? random.below(2 ** 32) : random.below(3000);
}

export interface Op {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

export function readOp(input: Uint8Array, at: number): Op {
  const view = new DataView(input.buffer, input.byteOffset + at, OP_BYTES);
  const [kind, a, b, c] = [0, 1, 2, 3].map((i) => view.getUint8(i)) as [number, number, number, number];
  const [x, y, z] = [4, 8, 12].map((i) => view.getUint32(i, true)) as [number, number, number];
  return { kind, a, b, c, x, y, z };
}

/** Operations of these kinds, by weight; some with bytes changed. */
export function makeOps(random: Random, headBytes: number, kinds: readonly number[], most: number): Uint8Array {
  const count = 1 + random.below(most);
  const input = new Uint8Array(headBytes + count * OP_BYTES);
  const view = new DataView(input.buffer);
  const wild = random.chance(0.5);
  let off = 0;
  for (let i = 0; i < count; i++) {
    const at = headBytes + i * OP_BYTES;
    view.setUint8(at, random.pick(kinds));
    view.setUint8(at + 1, wild ? random.below(256) : random.below(CONNECTIONS * 2));
    view.setUint8(at + 2, wild ? random.below(256) : random.pick([0, 1, 2, 8, 9]));
    view.setUint8(at + 3, wild && random.chance(0.3) ? random.below(256) : random.chance(0.15) ? OVERLAP : 0);
    const step = 1 + random.below(2000);
    view.setUint32(at + 4, wild && random.chance(0.3) ? anyWord(random) : off, true);
    view.setUint32(at + 8, wild && random.chance(0.3) ? anyWord(random) : step, true);
    view.setUint32(at + 12, wild && random.chance(0.3) ? anyWord(random) : i * MS + random.below(MS), true);
    if (random.chance(0.4)) off += step;
  }
  return input;
}

/** One word in 256 of an entry or a slot that is plausible otherwise. */
function scramble(words: Uint32Array, { c, y }: Op): Uint32Array {
  if ((c & 0x80) !== 0) words[(c & 0x7f) % words.length] = y;
  return words;
}

const FLAGS = [
  EntryFlag.Connected, EntryFlag.Accepted, EntryFlag.Adopted,
  EntryFlag.Adopted | EntryFlag.Counted, EntryFlag.Adopted | EntryFlag.FirstUse | EntryFlag.Counted,
  EntryFlag.Connected | EntryFlag.Ktls, EntryFlag.Accepted | EntryFlag.Waits, 0xffff,
];

/** Number, and words, of an entry: `b` its generation and state, `x` and `y` its offsets. */
export function entryOf(op: Op): { entry: number; words: Uint32Array } {
  const entry = op.a % ENTRIES;
  const accepted = entry % 2 === 1;
  const connection = (entry >> 1) % CONNECTIONS;
  const role = accepted ? EntryFlag.Accepted : EntryFlag.Connected;
  const ports = [40_000 + connection, 443] as const;
  const words = entryWords({
    generation: 1 + (op.b >> 3),
    state: (op.b & 7) === 0 ? State.Open : (op.b & 7) % 5,
    type: (op.c & 0x40) !== 0 ? Type.Udp : Type.Tcp,
    flags: (op.c & 0x20) !== 0 ? FLAGS[op.c & 7]! : role,
    birthNs: Math.min(op.z, 1e6),
    local: accepted ? SERVER : CLIENT,
    remote: accepted ? CLIENT : SERVER,
    lport: ports[accepted ? 1 : 0],
    rport: ports[accepted ? 0 : 1],
    pid: 1 << 22,
    fd: entry + 3,
    inode: 100 + (op.b & 3),
    out: { active: op.b & 1, off: op.x, callNs: op.z },
    in: { active: (op.b >> 1) & 1, off: op.y, callNs: op.z },
  });
  return { entry, words: scramble(words, op) };
}

const KINDS = [
  Kind.Out, Kind.In, Kind.Out, Kind.In, Kind.Out, Kind.In, Kind.Connect, Kind.Birth, Kind.Listen,
  Kind.Unbind, Kind.Name, Kind.Register, Kind.Deregister, Kind.Fork, 0, 11, 255,
];

/** A record: `a` its entry, `b` its kind, generation and flags; `x` its offset, `y` its bytes. */
export function slotOf(op: Op): Uint32Array {
  const kind = KINDS[op.b % KINDS.length]!;
  const words = slotWords({
    kind,
    flags: (op.c & 0x40) !== 0 ? op.c & 31 : (op.c & 0x20) !== 0 ? SlotFlag.Overlap : 0,
    entry: (op.c & 0x10) !== 0 ? op.y : op.a % ENTRIES,
    generation: 1 + (op.b >> 5),
    timeNs: op.z,
    off: kind === Kind.Register || kind === Kind.Deregister ? (op.a & 1) + 1 : op.x,
    bytes: op.y,
    fd: 3 + (op.a % ENTRIES),
    // One that never is: the kernel gives numbers below 2^22.
    pid: (1 << 22) + (op.a & 3),
    group: op.c & 3,
  });
  words[SlotWord.tag] = op.x;
  if ((op.c & 8) !== 0) words[SlotWord.off + 1] = op.y;
  return scramble(words, op);
}

const SIGHTS = [Sight.Unknown, Sight.In, Sight.Out];

/** A segment of connection `a`: `x` its stream offset, `y` its bytes. */
export function rowOf(op: Op, batch: PacketBatch): void {
  const connection = (op.a >> 1) % CONNECTIONS;
  const fromClient = op.a % 2 === 0;
  const flags = op.b === 1 ? TcpFlag.SYN | (fromClient ? 0 : TcpFlag.ACK) : TcpFlag.ACK | (op.b >> 4);
  const first = fromClient ? CLIENT_FIRST : SERVER_FIRST;
  putRow(batch, {
    timeNs: (op.c & 0x80) !== 0 ? (op.z - 2 ** 31) * 2 ** (op.c % 21) : op.z,
    source: fromClient ? CLIENT : SERVER,
    destination: fromClient ? SERVER : CLIENT,
    sourcePort: fromClient ? 40_000 + connection : 443,
    destinationPort: fromClient ? 443 : 40_000 + connection,
    sequence: (first + ((flags & TcpFlag.SYN) !== 0 ? 0 : op.x)) >>> 0,
    acknowledgment: ((fromClient ? SERVER_FIRST : CLIENT_FIRST) + (op.c & 0x20 ? op.y : 0)) >>> 0,
    bytes: (flags & TcpFlag.SYN) !== 0 ? 0 : op.y,
    flags,
    device: op.c & 3,
    sight: SIGHTS[(op.c >> 2) % 3]!,
  });
}

export const SLOT_WORDS = Constant.slotBytes / 4;
export const ENTRY_WORDS = Constant.entryBytes / 4;
export { BASE_SEC };
