// Frames of all link types into the decoder: whole ones that are built layer by layer, then changed
// where headers say how long something is, and cut anywhere.

import { DecodeResult, TcpDecoder } from "../../src/capture/decode.ts";
import { PacketBatch, Sight } from "../../src/capture/packets.ts";
import { stripEncapsulation } from "../../src/capture/source.ts";
import { LinkType } from "../../src/ffi/libpcap.ts";
import {
  cooked, cooked2, ethernet, extension, ip4, ip6, jumbo, tag, tcp, typed, u32,
} from "../capture/frames.ts";
import type { Random } from "../match/random.ts";
import { type Fuzzer, must } from "./harness.ts";

export const LINKS = Object.values(LinkType);
/** Link type, then lengths as the capture tells them. */
const HEAD_BYTES = 12;
const EXTENSIONS = [0, 43, 44, 51, 60, 135, 139, 140];
/** Lengths and offsets that cut most. */
const EDGES = [0, 1, 4, 5, 6, 15, 0x3f, 0x40, 0x45, 0x4f, 0x50, 0x60, 0x7f, 0x80, 0xf0, 0xff];

/** A frame as its link type has it. */
export function frameOf(random: Random): { link: number; frame: number[] } {
  const options = [...Array(random.pick([0, 0, 1, 3, 10])).keys()].flatMap(() => [1, 1, 8, 10]);
  const segment = tcp({
    flags: random.pick([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x3f]),
    options,
    payload: Array(random.pick([0, 1, 30, 200])).fill(7),
    sequence: random.below(2 ** 32),
  });
  const version = random.pick([4, 6]);
  const type = version === 4 ? 0x0800 : 0x86dd;
  const body = version === 4 ? ipv4(random, segment) : ipv6(random, segment);
  const link = random.pick(LINKS);
  const tags = random.pick([0, 0, 0, 1, 2, 5]);
  const tagTypes = [0x8100, 0x88a8, 0x9100];
  let rest = typed(type, body);
  for (let i = 0; i < tags; i++) rest = tag(random.pick(tagTypes), random.below(65536), rest);
  const outer = (rest[0]! << 8) | rest[1]!;
  switch (link) {
    case LinkType.Ethernet:
      return { link, frame: ethernet(rest) };
    case LinkType.LinuxCooked:
      return { link, frame: cooked(rest, random.below(6)) };
    case LinkType.LinuxCooked2:
      return { link, frame: cooked2(outer, rest.slice(2), random.below(9), random.below(6)) };
    case LinkType.Null:
    case LinkType.Loop:
      return { link, frame: [...random.pick([u32(2), u32(30), u32(2).reverse()]), ...body] };
    default:
      return { link, frame: body };
  }
}

function ipv4(random: Random, segment: number[]): number[] {
  const options = Array(random.pick([0, 0, 0, 4, 40])).fill(1);
  const totalBytes = random.chance(0.05) ? 0 : 20 + options.length + segment.length;
  const fragment = random.chance(0.05) ? random.below(65536) : 0x4000;
  return ip4(segment, { options, totalBytes, fragment, protocol: random.chance(0.03) ? 17 : 6 });
}

function ipv6(random: Random, segment: number[]): number[] {
  if (random.chance(0.05)) return ip6(jumbo(segment), 0, 0);
  let next = 6;
  let body = segment;
  for (let left = random.pick([0, 0, 1, 2, 8]); left > 0; left--) {
    const header = random.pick(EXTENSIONS);
    body = extension(next, header === 44 ? 1 : random.pick([1, 2, 3]), body);
    // An authentication header counts in four bytes.
    if (header === 51) body[1] = ((body[1]! + 1) << 1) - 2 + (random.chance(0.1) ? 1 : 0);
    next = header;
  }
  return ip6(body, next);
}

/** Changes some bytes, mostly of the headers. */
export function mutateFrame(random: Random, frame: Uint8Array): void {
  for (let left = random.pick([0, 1, 1, 2, 4]); left > 0 && frame.length > 0; left--) {
    const at = random.below(Math.min(frame.length, 120));
    const how = random.below(4);
    if (how === 0) frame[at]! ^= 1 << random.below(8);
    else if (how === 1) frame[at] = random.pick(EDGES);
    else if (how === 2) frame[at] = random.below(256);
    else frame[at]! += random.pick([1, 255]);
  }
}

export class FrameFuzzer implements Fuzzer {
  readonly name = "frames";
  readonly past = "the decoder came to an IP header with TCP behind it";
  readonly headBytes = HEAD_BYTES;
  readonly unitBytes = 1;
  readonly #decoders = new Map(LINKS.map((link) => [link, new TcpDecoder(link)] as const));
  readonly #batch = new PacketBatch(2);
  readonly #bytes = new Uint8Array(4096);
  readonly #stripped = new Uint8Array(4096);

  make(random: Random): Uint8Array {
    const { link, frame } = frameOf(random);
    const input = new Uint8Array(HEAD_BYTES + frame.length);
    input.set(frame, HEAD_BYTES);
    mutateFrame(random, input.subarray(HEAD_BYTES));
    const captured = random.chance(0.3) ? random.below(frame.length + 1) : frame.length;
    const wire = random.pick([frame.length, frame.length, captured, random.below(70_000), 0, 2 ** 32 - 1]);
    const head = new DataView(input.buffer);
    head.setUint32(0, link, true);
    head.setUint32(4, captured, true);
    head.setUint32(8, wire, true);
    return input;
  }

  run(input: Uint8Array): boolean {
    const head = new DataView(input.buffer, input.byteOffset, HEAD_BYTES);
    const link = head.getUint32(0, true);
    const decoder = this.#decoders.get(link as never);
    if (decoder === undefined) return false;
    const length = Math.min(input.length - HEAD_BYTES, this.#bytes.length);
    const captured = head.getUint32(4, true);
    const wire = head.getUint32(8, true);
    const limit = Math.min(captured, length);
    const bytes = this.#bytes.subarray(0, length);
    bytes.set(input.subarray(HEAD_BYTES, HEAD_BYTES + length));
    const batch = this.#batch;
    batch.sourcePort[1] = 4711;
    batch.payloadBytes[1] = 4711;
    const result = decoder.decode(bytes, captured, wire, batch, 1);
    const { headerBytes, networkOffset } = decoder;
    must(headerBytes >= 0 && headerBytes <= limit + 40, "headerBytes");
    must(result === DecodeResult.Ok || headerBytes <= limit, "a header that was not captured");
    must(result >= DecodeResult.Ok && result <= DecodeResult.Malformed, `result ${result}`);
    if (result === DecodeResult.Ok) {
      const most = Math.max(wire, limit);
      must(networkOffset + 40 <= limit, "less than the headers were captured");
      must(headerBytes + batch.payloadBytes[1]! <= most, "more payload than the wire carried");
      must(batch.sight[1]! <= Sight.Out, "sight");
      // A cooked capture may name a tag that is not in the frame.
      const tagBytes = networkOffset - decoder.linkBytes;
      must(tagBytes % 4 === 0 && tagBytes <= decoder.tags * 4, "tags without bytes");
      must(link !== LinkType.Ethernet || tagBytes === decoder.tags * 4, "bytes without tags");
      const removed = stripEncapsulation(decoder, bytes, limit, this.#stripped);
      const options = decoder.hopByHop ? (bytes[networkOffset + 41]! + 1) << 3 : 0;
      must(removed === tagBytes + options, `${removed} bytes stripped`);
    } else {
      must(batch.sourcePort[1] === 4711 && batch.payloadBytes[1] === 4711, "a row of no segment");
    }
    // What is behind the captured bytes is nothing to the decoder.
    if (limit < length) {
      const row = [result, headerBytes, batch.payloadBytes[1], batch.sequence[1], batch.flags[1]].join();
      bytes.fill(0xa5, limit);
      const again = decoder.decode(bytes, captured, wire, batch, 1);
      const other = [again, decoder.headerBytes, batch.payloadBytes[1], batch.sequence[1], batch.flags[1]];
      must(row === other.join(), "bytes that were not captured were read");
    }
    return result === DecodeResult.Ok || headerBytes > networkOffset + 20;
  }
}

