// Reads packets from a capture, live or a savefile, into batches of decoded TCP segments: the same
// way for both, so that a recorded session can be replayed to the same result.

import { CaptureState, type Capture, type OfflineFilter, type PacketDump } from "../ffi/libpcap.ts";
import { DecodeResult, TcpDecoder } from "./decode.ts";
import type { PacketDigest } from "./digest.ts";
import { Sight, type PacketBatch } from "./packets.ts";

const IPV6_HEADER_BYTES = 40;
/** A read looks at no more than this many packets for each row asked for. */
const EXAMINED_PER_ROW = 16;

export class PacketSource {
  readonly capture: Capture;
  /** When set, each segment is also written there, without its payload. */
  dump: PacketDump | null = null;
  /** When set, what it has is of the segments that the last `read` gave. */
  digest: PacketDigest | null = null;

  /** Segments given out. */
  packets = 0;
  /** Cut off or with lengths that cannot be. */
  badPackets = 0;
  notTcp = 0;
  /** IP fragments of TCP segments: their bytes are not seen. */
  fragments = 0;
  /** What the kernel's filter let in and the user's own does not want (see pcap-filter.ts). */
  filtered = 0;
  /** Packets that the last `read` took from the capture. */
  examined = 0;

  readonly #baseSec: number;
  readonly #decoder: TcpDecoder;
  readonly #stripped: Uint8Array;

  /** `baseSec`: the session's base, whole Unix seconds. */
  constructor(capture: Capture, baseSec: number) {
    this.capture = capture;
    this.#baseSec = baseSec;
    this.#decoder = new TcpDecoder(capture.linkType);
    this.#stripped = new Uint8Array(new ArrayBuffer(capture.bytes.length));
  }

  /** True once no packet will come any more: `capture.state` and `capture.failure` say why. */
  get ended(): boolean {
    return this.capture.state !== CaptureState.Running;
  }

  /**
   * Fills `batch` from row 0 with at most `maximum` segments and returns how many. Does not block.
   * Bounded also where no packet is a TCP segment: 0 with `examined` above 0 means that there may
   * be more.
   */
  read(batch: PacketBatch, maximum: number): number {
    const rows = maximum < batch.capacity ? maximum : batch.capacity;
    const capture = this.capture;
    const bytes = capture.bytes;
    const decoder = this.#decoder;
    const { dump, digest } = this;
    const judge = capture.judge;
    const baseSec = this.#baseSec;
    const times = batch.timeNs;
    digest?.clear();
    let row = 0;
    let left = rows * EXAMINED_PER_ROW;
    const most = left;
    while (row < rows && left > 0 && capture.next()) {
      left--;
      const result = decoder.decode(bytes, capture.capturedBytes, capture.wireBytes, batch, row);
      if (result === DecodeResult.Ok) {
        if (judge !== null && !this.#wanted(judge, batch.sight[row])) {
          this.filtered++;
          continue;
        }
        if (digest !== null) digest.add(capture, decoder.headerBytes);
        times[row] = (capture.sec - baseSec) * 1e9 + capture.nsec;
        row++;
      } else if (result === DecodeResult.NotTcp) {
        this.notTcp++;
        continue;
      } else if (result === DecodeResult.Fragment) {
        this.fragments++;
      } else {
        this.badPackets++;
      }
      if (dump !== null) dump.write(decoder.headerBytes);
    }
    this.examined = most - left;
    this.packets += row;
    batch.count = row;
    return row;
  }

  /** Whether the user's own filter wants the current packet, where only ours may have. */
  #wanted(judge: OfflineFilter, sight: number): boolean {
    const decoder = this.#decoder;
    const capture = this.capture;
    const { bytes, capturedBytes, wireBytes } = capture;
    if (decoder.tags === 0 && !decoder.hopByHop) {
      // A cooked capture does not tell that an outgoing packet had a tag.
      if (sight !== Sight.Out) return true;
      return judge.matches(bytes, capturedBytes, wireBytes);
    }
    const stripped = this.#stripped;
    const removed = stripEncapsulation(decoder, bytes, capturedBytes, stripped);
    return (
      judge.matches(stripped, capturedBytes - removed, wireBytes - removed) ||
      judge.matches(bytes, capturedBytes, wireBytes)
    );
  }
}

/**
 * Copies a decoded frame as it would be without VLAN tags and IPv6 hop-by-hop header.
 * @returns how many bytes were left out.
 */
export function stripEncapsulation(
  decoder: TcpDecoder,
  bytes: Uint8Array,
  capturedBytes: number,
  into: Uint8Array,
): number {
  const ip = decoder.networkOffset;
  const { linkBytes, typeOffset } = decoder;
  const version = bytes[ip] >> 4;
  let to = 0;
  for (let from = 0; from < linkBytes; from++) into[to++] = bytes[from];
  if (typeOffset >= 0) {
    into[typeOffset] = version === 6 ? 0x86 : 0x08;
    into[typeOffset + 1] = version === 6 ? 0xdd : 0x00;
  }
  let from = ip;
  if (decoder.hopByHop) {
    const options = ip + IPV6_HEADER_BYTES;
    while (from < options) into[to++] = bytes[from++];
    into[linkBytes + 6] = bytes[options];
    from += (bytes[options + 1] + 1) << 3;
  }
  while (from < capturedBytes) into[to++] = bytes[from++];
  return capturedBytes - to;
}
