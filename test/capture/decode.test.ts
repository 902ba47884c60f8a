import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DecodeResult, TcpDecoder } from "../../src/capture/decode.ts";
import { PacketBatch, Sight } from "../../src/capture/packets.ts";
import { stripEncapsulation } from "../../src/capture/source.ts";
import { LinkType } from "../../src/ffi/libpcap.ts";
import {
  cooked, cooked2, DESTINATION4, DESTINATION6, ethernet, extension, ip4, ip6, jumbo, SEGMENT,
  SOURCE4, SOURCE6, tag, tcp, typed, u16, u32,
} from "./frames.ts";

const IPV4 = 0x0800;
const IPV6 = 0x86dd;

function decode(
  linkType: number,
  frame: number[],
  capturedBytes = frame.length,
  wireBytes = frame.length,
) {
  const batch = new PacketBatch(3);
  const decoder = new TcpDecoder(linkType);
  const result = decoder.decode(new Uint8Array(frame), capturedBytes, wireBytes, batch, 1);
  return { result, decoder, row: rowOf(batch, 1) };
}

function rowOf(batch: PacketBatch, i: number) {
  return {
    source: [...batch.source.slice(4 * i, 4 * i + 4)].flatMap(u32),
    destination: [...batch.destination.slice(4 * i, 4 * i + 4)].flatMap(u32),
    sourcePort: batch.sourcePort[i],
    destinationPort: batch.destinationPort[i],
    sequence: batch.sequence[i],
    acknowledgment: batch.acknowledgment[i],
    payloadBytes: batch.payloadBytes[i],
    flags: batch.flags[i],
    interfaceIndex: batch.interfaceIndex[i],
    sight: batch.sight[i],
  };
}

const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
const ROW = {
  sourcePort: SEGMENT.sourcePort,
  destinationPort: SEGMENT.destinationPort,
  sequence: SEGMENT.sequence,
  acknowledgment: SEGMENT.acknowledgment,
  payloadBytes: SEGMENT.payload.length,
  flags: SEGMENT.flags,
  interfaceIndex: 0,
  sight: Sight.Unknown,
};
const ROW4 = { ...ROW, source: [...MAPPED, ...SOURCE4], destination: [...MAPPED, ...DESTINATION4] };
const ROW6 = { ...ROW, source: SOURCE6, destination: DESTINATION6 };

/** Every shape of frame that must decode: link type, frame, and what its row must be. */
const GOOD: [string, number, number[], object][] = [
  ["Ethernet, IPv4", LinkType.Ethernet, ethernet(typed(IPV4, ip4(tcp()))), ROW4],
  ["Ethernet, IPv6", LinkType.Ethernet, ethernet(typed(IPV6, ip6(tcp()))), ROW6],
  ["IPv4 options", LinkType.Ethernet,
    ethernet(typed(IPV4, ip4(tcp(), { options: [7, 3, 4, 0, 0, 0, 0, 0] }))), ROW4],
  ["Ethernet padding", LinkType.Ethernet,
    [...ethernet(typed(IPV4, ip4(tcp({ payload: [], options: [] })))), 9, 9, 9, 9, 9, 9],
    { ...ROW4, payloadBytes: 0 }],
  ["IPv6 padding", LinkType.Ethernet, [...ethernet(typed(IPV6, ip6(tcp()))), 9, 9, 9], ROW6],
  ["VLAN", LinkType.Ethernet, ethernet(tag(0x8100, 5, typed(IPV4, ip4(tcp())))), ROW4],
  ["QinQ", LinkType.Ethernet,
    ethernet(tag(0x88a8, 5, tag(0x8100, 6, typed(IPV6, ip6(tcp()))))), ROW6],
  ["old QinQ", LinkType.Ethernet,
    ethernet(tag(0x9100, 5, tag(0x8100, 6, typed(IPV4, ip4(tcp()))))), ROW4],
  ["raw IPv4", LinkType.Raw, ip4(tcp()), ROW4],
  ["raw IPv6, file number", LinkType.RawFile, ip6(tcp()), ROW6],
  ["IPv4 alone", LinkType.Ipv4, ip4(tcp()), ROW4],
  ["IPv6 alone", LinkType.Ipv6, ip6(tcp()), ROW6],
  ["null", LinkType.Null, [2, 0, 0, 0, ...ip4(tcp())], ROW4],
  ["loop", LinkType.Loop, [0, 0, 0, 24, ...ip6(tcp())], ROW6],
  ["cooked v1", LinkType.LinuxCooked, cooked(typed(IPV4, ip4(tcp()))),
    { ...ROW4, sight: Sight.In }],
  ["cooked v1, tag put back", LinkType.LinuxCooked,
    cooked(tag(0x8100, 5, typed(IPV6, ip6(tcp()))), 4), { ...ROW6, sight: Sight.Out }],
  ["cooked v2, out", LinkType.LinuxCooked2, cooked2(IPV4, ip4(tcp())),
    { ...ROW4, sight: Sight.Out, interfaceIndex: 7 }],
  ["cooked v2, large index, in", LinkType.LinuxCooked2,
    cooked2(IPV6, ip6(tcp()), 0xfffffff0, 3),
    { ...ROW6, sight: Sight.In, interfaceIndex: 0xfffffff0 }],
  ["cooked v2, kernel's own type", LinkType.LinuxCooked2, cooked2(IPV4, ip4(tcp()), 1, 6),
    { ...ROW4, interfaceIndex: 1 }],
  ["cooked v2, tag named, bytes begin behind it (kernels before 6.11)", LinkType.LinuxCooked2,
    cooked2(0x8100, ip4(tcp())), { ...ROW4, sight: Sight.Out, interfaceIndex: 7 }],
  ["cooked v2, tag named, IPv6 behind it", LinkType.LinuxCooked2,
    cooked2(0x8100, ip6(tcp())), { ...ROW6, sight: Sight.Out, interfaceIndex: 7 }],
  ["cooked v2, tag named and there", LinkType.LinuxCooked2,
    cooked2(0x8100, [...u16(0x4506), ...typed(IPV4, ip4(tcp()))]),
    { ...ROW4, sight: Sight.Out, interfaceIndex: 7 }],
  ["cooked v2, tag there and not named (second tag, 6.11 on)", LinkType.LinuxCooked2,
    cooked2(IPV4, [...u16(0x4506), ...typed(IPV4, ip4(tcp()))], 7, 0),
    { ...ROW4, sight: Sight.In, interfaceIndex: 7 }],
  ["cooked v2, an IPv4 length that reads as a type", LinkType.LinuxCooked2,
    cooked2(IPV4, ip4(tcp({ options: [], payload: Array(0x0800 - 40).fill(0x45) }))),
    { ...ROW4, payloadBytes: 0x0800 - 40, sight: Sight.Out, interfaceIndex: 7 }],
  ["hop-by-hop", LinkType.Ethernet, ethernet(typed(IPV6, ip6(extension(6, 2, tcp()), 0))), ROW6],
  ["jumbo payload", LinkType.Ethernet, ethernet(typed(IPV6, ip6(jumbo(tcp()), 0, 0))), ROW6],
  ["IPv6 length 0 without an option", LinkType.Ethernet,
    ethernet(typed(IPV6, ip6(tcp(), 6, 0))), ROW6],
  ["IPv4 length 0", LinkType.Ethernet,
    ethernet(typed(IPV4, ip4(tcp(), { totalBytes: 0 }))), ROW4],
  ["a chain of extension headers", LinkType.Ethernet, ethernet(typed(IPV6, ip6(
    extension(60, 1, extension(43, 3, extension(51, 1,
      [135, 4, ...Array(22).fill(0), ...extension(6, 1, tcp())]))), 0))), ROW6],
  ["atomic fragment", LinkType.Ethernet,
    ethernet(typed(IPV6, ip6([6, 0, 0, 0, 0, 0, 0, 9, ...tcp()], 44))), ROW6],
  ["SYN counts as one", LinkType.Ethernet,
    ethernet(typed(IPV4, ip4(tcp({ flags: 2, sequence: 0xffffffff })))),
    { ...ROW4, flags: 2, sequence: 0 }],
  ["ECN bits stay", LinkType.Ethernet, ethernet(typed(IPV4, ip4(tcp({ flags: 0xd0 })))),
    { ...ROW4, flags: 0xd0 }],
];

describe("frames that decode", () => {
  test.each(GOOD)("%s", (_name, linkType, frame, expected) => {
    const { result, row } = decode(linkType, frame);
    expect(result).toBe(DecodeResult.Ok);
    expect(row as object).toEqual(expected);
  });

  test("super-packets: the payload is that of the wire, not of the capture", () => {
    const headers = ethernet(typed(IPV6, ip6(jumbo(tcp({ payload: [] })), 0, 0)));
    const wireBytes = headers.length + 196_416;
    const { result, row } = decode(LinkType.Ethernet, headers, headers.length, wireBytes);
    expect(result).toBe(DecodeResult.Ok);
    expect(row.payloadBytes).toBe(196_416);
    const old = ethernet(typed(IPV4, ip4(tcp({ payload: [] }), { totalBytes: 0 })));
    expect(decode(LinkType.Ethernet, old, old.length, old.length + 190_000).row.payloadBytes)
      .toBe(190_000);
  });

  test("the header's length is told, so that payload can be cut off", () => {
    for (const [, linkType, frame, expected] of GOOD) {
      const { decoder } = decode(linkType, frame);
      const cut = decode(linkType, frame, decoder.headerBytes, frame.length);
      expect(cut.result).toBe(DecodeResult.Ok);
      expect(cut.row as object).toEqual(expected);
      const less = decoder.headerBytes - SEGMENT.options.length - 1;
      expect(decode(linkType, frame, less, frame.length).result).toBe(DecodeResult.Truncated);
    }
  });
});

describe("frames that do not", () => {
  const cases: [string, number, number[], number][] = [
    ["ARP", LinkType.Ethernet, ethernet(typed(0x0806, Array(28).fill(0))), DecodeResult.NotTcp],
    ["UDP", LinkType.Ipv4, ip4(tcp(), { protocol: 17 }), DecodeResult.NotTcp],
    ["UDP over IPv6", LinkType.Ipv6, ip6(tcp(), 17), DecodeResult.NotTcp],
    ["no next header", LinkType.Ethernet, ethernet(typed(IPV6, ip6([], 59))), DecodeResult.NotTcp],
    ["802.3 length", LinkType.Ethernet, ethernet(typed(40, tcp())), DecodeResult.NotTcp],
    ["raw of no version", LinkType.Raw, [0x50, ...tcp()], DecodeResult.NotTcp],
    ["first fragment", LinkType.Ethernet,
      ethernet(typed(IPV4, ip4(tcp(), { fragment: 0x2000 }))), DecodeResult.Fragment],
    ["last fragment", LinkType.Ethernet,
      ethernet(typed(IPV4, ip4(tcp(), { fragment: 0x00b9 }))), DecodeResult.Fragment],
    ["first IPv6 fragment", LinkType.Ethernet,
      ethernet(typed(IPV6, ip6([6, 0, 0, 1, 0, 0, 0, 9, ...tcp()], 44))), DecodeResult.Fragment],
    ["last IPv6 fragment", LinkType.Ethernet,
      ethernet(typed(IPV6, ip6([6, 0, 5, 0xa8, 0, 0, 0, 9, ...tcp()], 44))), DecodeResult.Fragment],
    ["IPv6 fragment of UDP", LinkType.Ethernet,
      ethernet(typed(IPV6, ip6([17, 0, 5, 0xa8, 0, 0, 0, 9, ...tcp()], 44))), DecodeResult.NotTcp],
    ["IPv4 that says version 5", LinkType.Ipv4, [0x55, ...ip4(tcp()).slice(1)],
      DecodeResult.Malformed],
    ["IPv4 header length 16", LinkType.Ipv4, [0x44, ...ip4(tcp()).slice(1)],
      DecodeResult.Malformed],
    ["IPv4 longer than the wire", LinkType.Ipv4, ip4(tcp(), { totalBytes: 2000 }),
      DecodeResult.Malformed],
    ["IPv4 without room for TCP", LinkType.Ipv4, ip4(tcp(), { totalBytes: 30 }),
      DecodeResult.Malformed],
    ["IPv6 longer than the wire", LinkType.Ipv6, ip6(tcp(), 6, 2000), DecodeResult.Malformed],
    ["IPv6 that says version 4", LinkType.Ipv6, [0x40, ...ip6(tcp()).slice(1)],
      DecodeResult.Malformed],
    ["TCP header length 16", LinkType.Ipv4,
      ip4(tcp().map((byte, i) => (i === 12 ? 0x40 : byte))), DecodeResult.Malformed],
    ["TCP header longer than the packet", LinkType.Ipv4,
      ip4(tcp({ payload: [] }).map((byte, i) => (i === 12 ? 0xf0 : byte))), DecodeResult.Malformed],
    ["empty", LinkType.Ethernet, [], DecodeResult.Truncated],
    ["empty, raw", LinkType.Raw, [], DecodeResult.Truncated],
  ];
  test.each(cases)("%s", (_name, linkType, frame, expected) => {
    expect(decode(linkType, frame).result).toBe(expected as DecodeResult);
  });
});

describe("any bytes", () => {
  const linkTypes = Object.values(LinkType);
  const frames = fc.oneof(
    { weight: 1, arbitrary: fc.record({
      linkType: fc.constantFrom(...linkTypes),
      frame: fc.uint8Array({ maxLength: 200 }).map((bytes) => [...bytes]),
    }) },
    { weight: 4, arbitrary: fc.constantFrom(...GOOD).map(([, linkType, frame]) => ({
      linkType,
      frame: frame.slice(0, 200),
    })) },
  );
  const changes = fc.array(fc.tuple(fc.nat(199), fc.nat(255)), { maxLength: 6 });

  /** What a decode said and wrote, with `beyond` in the memory that was not captured. */
  function outcome(
    linkType: number,
    frame: number[],
    captured: number,
    wire: number,
    beyond: number,
  ) {
    const bytes = new Uint8Array(4096).fill(beyond);
    bytes.set(frame.slice(0, captured));
    const batch = new PacketBatch(1);
    batch.sequence[0] = 123;
    const decoder = new TcpDecoder(linkType);
    const result = decoder.decode(bytes, captured, wire, batch, 0);
    const { headerBytes, tags, hopByHop, networkOffset } = decoder;
    return { result, headerBytes, tags, hopByHop, networkOffset, row: rowOf(batch, 0) };
  }

  test("never throws, never looks beyond what was captured, and cuts where nothing is lost", () => {
    const arbitraries = [frames, changes, fc.nat(200), fc.nat(300_000)] as const;
    fc.assert(fc.property(...arbitraries, (made, mutations, cut, more) => {
      const frame = [...made.frame];
      for (const [at, value] of mutations) if (at < frame.length) frame[at] = value;
      const captured = Math.min(cut, frame.length);
      const wire = frame.length + (more % 3 === 0 ? more : 0);
      const first = outcome(made.linkType, frame, captured, wire, 0);
      expect(outcome(made.linkType, frame, captured, wire, 0xff)).toEqual(first);
      expect(outcome(made.linkType, frame, captured, wire, 0x45)).toEqual(first);
      if (first.result === DecodeResult.Ok) {
        expect(first.row.payloadBytes).toBeLessThanOrEqual(wire);
      }
      // A record cut at headerBytes is replayed to the same row or the same count.
      const kept = Math.min(first.headerBytes, captured);
      const again = outcome(made.linkType, frame, kept, wire, 0x60);
      if (first.result === DecodeResult.NotTcp) return;
      const bad = (result: number): boolean =>
        result === DecodeResult.Truncated || result === DecodeResult.Malformed;
      if (bad(first.result)) expect(bad(again.result)).toBe(true);
      else expect(again).toEqual(first);
    }), { numRuns: 30_000 });
  });

  test("every frame, cut at every length", () => {
    for (const [, linkType, frame] of GOOD) {
      for (let captured = 0; captured <= frame.length; captured++) {
        const first = outcome(linkType, frame, captured, frame.length, 0);
        expect(outcome(linkType, frame, captured, frame.length, 0xaa)).toEqual(first);
        const whole = outcome(linkType, frame, frame.length, frame.length, 0);
        // TCP options may be missing: nothing of them is used.
        if (captured >= whole.headerBytes) expect(first.result).toBe(DecodeResult.Ok);
        if (captured < whole.headerBytes - 40) expect(first.result).not.toBe(DecodeResult.Ok);
        if (first.result === DecodeResult.Ok) expect(first).toEqual(whole);
      }
    }
  });

  test("more is said to be captured than the memory holds", () => {
    const frame = ethernet(typed(IPV4, ip4(tcp())));
    expect(decode(LinkType.Ethernet, frame.slice(0, 30), 1000, 1000).result)
      .toBe(DecodeResult.Truncated);
  });
});

test("without its tags and hop-by-hop header a frame is the plain one", () => {
  const plain4 = ethernet(typed(IPV4, ip4(tcp())));
  const plain6 = ethernet(typed(IPV6, ip6(tcp())));
  const cases: [number[], number[]][] = [
    [ethernet(tag(0x8100, 5, typed(IPV4, ip4(tcp())))), plain4],
    [ethernet(tag(0x88a8, 5, tag(0x8100, 6, typed(IPV6, ip6(tcp()))))), plain6],
    [ethernet(typed(IPV6, ip6(extension(6, 1, tcp()), 0))), plain6],
    [ethernet(tag(0x8100, 5, typed(IPV6, ip6(extension(6, 2, tcp()), 0)))), plain6],
  ];
  for (const [frame, plain] of cases) {
    const { decoder } = decode(LinkType.Ethernet, frame);
    const into = new Uint8Array(300);
    const removed = stripEncapsulation(decoder, new Uint8Array(frame), frame.length, into);
    expect(removed).toBe(frame.length - plain.length);
    const stripped = [...into.slice(0, plain.length)];
    // The IPv6 length still counts the header; no filter of addresses and ports looks at it.
    stripped.splice(18, 2, ...plain.slice(18, 20));
    expect(stripped).toEqual(plain);
  }
});
