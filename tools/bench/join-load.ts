// The load of the join's benchmark: a ring and a socket table as a target's process would fill them,
// and frames as a capture on `any` would hand them over.

import { DecodeResult, TcpDecoder } from "../../src/capture/decode.ts";
import { PacketBatch } from "../../src/capture/packets.ts";
import type { MessageListener, Mapping } from "../../src/ffi/libc.ts";
import { LinkType } from "../../src/ffi/libpcap.ts";
import type { Engine } from "../../src/match/engine.ts";
import { Constant, EntryFlag, HeaderWord, Kind, SlotWord } from "../../src/ring/layout.ts";
import { Ring } from "../../src/ring/ring.ts";
import { Rings } from "../../src/ring/rings.ts";
import { BASE_SEC, entryWords, ipv4 } from "../../test/match/words.ts";

/** Of connections, in a round: what the collector's rounds bring when it is busy. */
export const STEPS = 1024;
const SLOTS = 8192;
const HEADER_WORDS = Constant.headerBytes / 4;
const SLOT_WORDS = Constant.slotBytes / 4;
const ENTRY_WORDS = Constant.entryBytes / 4;
const FRAME_BYTES = 128;
/** Link layer (cooked, version 2), IPv4, TCP with stamps. */
const IP_AT = 20;
const TCP_AT = IP_AT + 20;
const TCP_BYTES = 32;
const MOST_BYTES = 1400;
const STEP_NS = 4000;
const PACKET_OUTGOING = 4;
const PACKET_HOST = 0;
const SYN = 2;
const ACK = 16;
/** Connections of one client address: each has a port of its own. */
const PORTS = 50_000;
const FIRST_PORT = 10_000;
const SERVER_PORT = 443;
/** The base in ns, as two halves. */
const BASE_HIGH = Number((BigInt(BASE_SEC) * 1_000_000_000n) >> 32n);
const BASE_LOW = Number((BigInt(BASE_SEC) * 1_000_000_000n) & 0xffffffffn);
const CLIENT = ipv4(10, 0, 0, 1);
const SERVER = ipv4(10, 0, 0, 2);

interface Frame {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  wireBytes: number;
  timeNs: number;
}

export class JoinLoad {
  static readonly BASE_SEC = BASE_SEC;
  readonly batch = new PacketBatch(2 * STEPS);
  readonly rings: Rings;
  /** Time of what was made last, ns since the base. */
  nowNs = 1e9;
  readonly #connections: number;
  readonly #random: () => number;
  readonly #words: Uint32Array;
  readonly #frames: Frame[] = [];
  readonly #decoder = new TcpDecoder(LinkType.LinuxCooked2);
  /** Stream offsets, by connection. */
  readonly #out: Float64Array;
  readonly #in: Float64Array;
  #head = 0;
  #packets = 0;

  constructor(connections: number, random: () => number, engine: Engine) {
    if (connections > PORTS) throw new Error(`${connections} connections are too many`);
    this.#connections = connections;
    this.#random = random;
    this.#out = new Float64Array(connections);
    this.#in = new Float64Array(connections);
    let entries: number = Constant.entriesMin;
    while (entries < connections) entries *= 2;
    const bytes = Constant.headerBytes + SLOTS * Constant.slotBytes + entries * Constant.entryBytes;
    const buffer = new ArrayBuffer(bytes);
    const words = new Uint32Array(buffer);
    this.#words = words;
    words[HeaderWord.magic] = Constant.magic;
    words[HeaderWord.version] = Constant.version;
    words[HeaderWord.headerBytes] = Constant.headerBytes;
    words[HeaderWord.slotBytes] = Constant.slotBytes;
    words[HeaderWord.slotCount] = SLOTS;
    words[HeaderWord.entryBytes] = Constant.entryBytes;
    words[HeaderWord.entryCount] = entries;
    words[HeaderWord.entryHigh] = connections;
    const mapping = { buffer, bytes, inode: 0, close() {} } as unknown as Mapping;
    const listener = { next: () => null } as unknown as MessageListener;
    this.rings = new Rings(listener, "", engine);
    this.rings.adopt(new Ring(mapping, 0), []);
    for (let i = 0; i < 2 * STEPS; i++) {
      const frame = new Uint8Array(new ArrayBuffer(FRAME_BYTES));
      this.#frames.push({ bytes: frame, view: new DataView(frame.buffer), wireBytes: 0, timeNs: 0 });
    }
    this.#connect(engine, entries);
  }

  /** The births and handshakes of all connections. */
  #connect(engine: Engine, entries: number): void {
    const entriesAt = HEADER_WORDS + SLOTS * SLOT_WORDS;
    for (let c = 0; c < this.#connections; c++) {
      const entry = entryWords({
        generation: 1, flags: EntryFlag.Connected, birthNs: this.nowNs, local: CLIENT, remote: SERVER,
        lport: FIRST_PORT + c, rport: SERVER_PORT, pid: 100, fd: 3 + (c % 1000),
      });
      this.#words.set(entry, entriesAt + c * ENTRY_WORDS);
      this.#record(Kind.Birth, c, 0, 0, this.nowNs);
      this.nowNs += STEP_NS;
      this.#packet(c, false, SYN | ACK, -1, 0, 0, this.nowNs);
      if (this.#packets === STEPS || c === this.#connections - 1) {
        this.rings.drain();
        this.decode();
        engine.packets(this.batch);
        engine.flush();
      }
    }
    if (engine.live.size !== this.#connections) throw new Error(`${engine.live.size} sockets live`);
    if (entries < this.#connections) throw new Error("the table is too small");
  }

  /** Writes a round's records into the ring, and its frames. */
  make(): void {
    const random = this.#random;
    for (let step = 0; step < STEPS; step++) {
      const c = Math.floor(random() * this.#connections);
      const bytes = 1 + Math.floor(random() * MOST_BYTES);
      const reply = 1 + Math.floor(random() * MOST_BYTES);
      const out = this.#out[c]!;
      const inbound = this.#in[c]!;
      const atNs = this.nowNs;
      this.nowNs = atNs + STEP_NS;
      this.#record(Kind.Out, c, out, bytes, atNs);
      this.#packet(c, true, ACK, out, inbound, bytes, atNs + 1000);
      this.#out[c] = out + bytes;
      this.#packet(c, false, ACK, inbound, out + bytes, reply, atNs + 2000);
      this.#record(Kind.In, c, inbound, reply, atNs + 3000);
      this.#in[c] = inbound + reply;
    }
  }

  /** The frames made since the last time become the batch. */
  decode(): void {
    const frames = this.#frames;
    const decoder = this.#decoder;
    const { batch } = this;
    const count = this.#packets;
    for (let i = 0; i < count; i++) {
      const frame = frames[i]!;
      const result = decoder.decode(frame.bytes, IP_AT + 52, frame.wireBytes, batch, i);
      if (result !== DecodeResult.Ok) throw new Error(`a frame was not decoded: ${result}`);
      batch.timeNs[i] = frame.timeNs;
    }
    batch.count = count;
    this.#packets = 0;
  }

  #record(kind: number, entry: number, off: number, bytes: number, timeNs: number): void {
    const words = this.#words;
    const head = this.#head;
    const at = HEADER_WORDS + (head & (SLOTS - 1)) * SLOT_WORDS;
    const low = BASE_LOW + timeNs;
    words[at + SlotWord.kind] = kind;
    words[at + SlotWord.entry] = entry;
    words[at + SlotWord.gen] = 1;
    words[at + SlotWord.timeNs] = low % 2 ** 32;
    words[at + SlotWord.timeNs + 1] = BASE_HIGH + Math.floor(low / 2 ** 32);
    words[at + SlotWord.off] = off % 2 ** 32;
    words[at + SlotWord.off + 1] = Math.floor(off / 2 ** 32);
    words[at + SlotWord.bytes] = bytes;
    words[at + SlotWord.fd] = 3;
    words[at + SlotWord.pid] = 100;
    this.#head = (head + 1) >>> 0;
    words[HeaderWord.head] = this.#head;
    Atomics.store(words, at, this.#head);
  }

  /** `off`, `acknowledged`: stream offsets; the streams begin with sequence number c. */
  #packet(
    c: number, out: boolean, flags: number, off: number, acknowledged: number, bytes: number,
    timeNs: number,
  ): void {
    const frame = this.#frames[this.#packets++]!;
    const { view } = frame;
    view.setUint16(0, 0x0800);
    view.setUint32(4, 2);
    view.setUint16(8, 1);
    view.setUint8(10, out ? PACKET_OUTGOING : PACKET_HOST);
    view.setUint8(IP_AT, 0x45);
    view.setUint16(IP_AT + 2, 20 + TCP_BYTES + bytes);
    view.setUint8(IP_AT + 9, 6);
    view.setUint32(IP_AT + 12, (out ? CLIENT : SERVER)[3]!);
    view.setUint32(IP_AT + 16, (out ? SERVER : CLIENT)[3]!);
    view.setUint16(TCP_AT, out ? FIRST_PORT + c : SERVER_PORT);
    view.setUint16(TCP_AT + 2, out ? SERVER_PORT : FIRST_PORT + c);
    view.setUint32(TCP_AT + 4, (c + off) % 2 ** 32);
    view.setUint32(TCP_AT + 8, (c + acknowledged) % 2 ** 32);
    view.setUint8(TCP_AT + 12, (TCP_BYTES / 4) << 4);
    view.setUint8(TCP_AT + 13, flags);
    frame.wireBytes = IP_AT + 20 + TCP_BYTES + bytes;
    frame.timeNs = timeNs;
  }
}
