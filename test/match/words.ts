// Slots and entries as the preload library writes them, word by word.

import { TcpFlag, PacketBatch, Sight } from "../../src/capture/packets.ts";
import {
  Constant,
  DirectionWord,
  EntryFlag,
  EntryWord,
  SlotWord,
  State,
  Type,
} from "../../src/ring/layout.ts";

export const BASE_SEC = 1_700_000_000;

export interface DirectionState {
  active: number;
  off: number;
  callNs: number;
}

export interface EntryFields {
  generation: number;
  state?: number;
  type?: number;
  flags?: number;
  birthNs: number;
  local: readonly number[];
  remote: readonly number[];
  lport: number;
  rport: number;
  pid: number;
  fd: number;
  inode?: number;
  out?: DirectionState;
  in?: DirectionState;
}

export interface SlotFields {
  kind: number;
  flags?: number;
  entry: number;
  generation: number;
  timeNs: number;
  off?: number;
  bytes?: number;
  fd?: number;
  pid?: number;
  group?: number;
}

export interface Row {
  timeNs: number;
  source: readonly number[];
  sourcePort: number;
  destination: readonly number[];
  destinationPort: number;
  /** Of the first payload byte: one more than the segment's own if it carries SYN. */
  sequence: number;
  acknowledgment?: number;
  bytes?: number;
  flags: number;
  device?: number;
  sight?: number;
}

function putTime(words: Uint32Array, at: number, ns: number): void {
  const absolute = BigInt(BASE_SEC) * 1_000_000_000n + BigInt(ns);
  words[at] = Number(absolute & 0xffffffffn);
  words[at + 1] = Number(absolute >> 32n);
}

function putCount(words: Uint32Array, at: number, count: number): void {
  words[at] = count % 4294967296;
  words[at + 1] = Math.floor(count / 4294967296);
}

/** IPv4 as four words, IPv4-mapped. */
export function ipv4(a: number, b: number, c: number, d: number): readonly number[] {
  return [0, 0, 0xffff, ((a << 24) | (b << 16) | (c << 8) | d) >>> 0];
}

function putAddress(words: Uint32Array, at: number, address: readonly number[]): void {
  const bytes = new DataView(words.buffer, words.byteOffset + at * 4, 16);
  address.forEach((word, i) => bytes.setUint32(i * 4, word, false));
}

export function entryWords(fields: EntryFields): Uint32Array {
  const words = new Uint32Array(Constant.entryBytes / 4);
  words[EntryWord.state] = (fields.generation << Constant.stateBits) | (fields.state ?? State.Open);
  const flags = fields.flags ?? EntryFlag.Connected;
  words[EntryWord.type] = (fields.type ?? Type.Tcp) | (4 << 8) | (flags << 16);
  putTime(words, EntryWord.birthNs, fields.birthNs);
  putCount(words, EntryWord.inode, fields.inode ?? 0);
  putAddress(words, EntryWord.laddr, fields.local);
  putAddress(words, EntryWord.raddr, fields.remote);
  words[EntryWord.lport] = fields.lport | (fields.rport << 16);
  words[EntryWord.birthPid] = fields.pid;
  words[EntryWord.birthFd] = fields.fd;
  for (const [at, state] of [
    [EntryWord.out, fields.out],
    [EntryWord.in, fields.in],
  ] as const) {
    words[at + DirectionWord.calls] = state?.active ?? 0;
    putCount(words, at + DirectionWord.off, state?.off ?? 0);
    putTime(words, at + DirectionWord.callNs, state?.callNs ?? 0);
  }
  return words;
}

export function slotWords(fields: SlotFields): Uint32Array {
  const words = new Uint32Array(Constant.slotBytes / 4);
  words[SlotWord.kind] = fields.kind | ((fields.flags ?? 0) << 8);
  words[SlotWord.entry] = fields.entry;
  words[SlotWord.gen] = fields.generation;
  putTime(words, SlotWord.timeNs, fields.timeNs);
  putCount(words, SlotWord.off, fields.off ?? 0);
  words[SlotWord.bytes] = fields.bytes ?? 0;
  words[SlotWord.fd] = fields.fd ?? 0;
  words[SlotWord.pid] = fields.pid ?? 0;
  words[SlotWord.group] = fields.group ?? 0;
  return words;
}

export function putRow(batch: PacketBatch, row: Row): void {
  const i = batch.count++;
  batch.timeNs[i] = row.timeNs;
  batch.source.set(row.source, i * 4);
  batch.destination.set(row.destination, i * 4);
  batch.sourcePort[i] = row.sourcePort;
  batch.destinationPort[i] = row.destinationPort;
  batch.sequence[i] = row.sequence;
  batch.acknowledgment[i] = row.acknowledgment ?? 0;
  batch.payloadBytes[i] = row.bytes ?? 0;
  batch.flags[i] = row.flags;
  batch.interfaceIndex[i] = row.device ?? 1;
  batch.sight[i] = row.sight ?? Sight.Unknown;
}

export { TcpFlag };
