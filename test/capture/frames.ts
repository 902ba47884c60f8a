// Frames built by hand, field by field, for the decoder's tests.

export interface Segment {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  flags: number;
  /** Whole words. */
  options: number[];
  payload: number[];
}

export const SEGMENT: Segment = {
  sourcePort: 40000,
  destinationPort: 443,
  sequence: 0xfffffff0,
  acknowledgment: 77,
  flags: 0x18,
  options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
  payload: Array.from({ length: 30 }, (_, i) => i),
};

export const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255];
export const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];

export function tcp(change: Partial<Segment> = {}): number[] {
  const s = { ...SEGMENT, ...change };
  return [
    ...u16(s.sourcePort), ...u16(s.destinationPort), ...u32(s.sequence), ...u32(s.acknowledgment),
    (5 + s.options.length / 4) << 4, s.flags, ...u16(512), 0, 0, 0, 0,
    ...s.options, ...s.payload,
  ];
}

export interface Ip4 {
  protocol: number;
  totalBytes: number;
  fragment: number;
  options: number[];
}

export const SOURCE4 = [10, 1, 2, 3];
export const DESTINATION4 = [192, 168, 255, 254];

export function ip4(body: number[], change: Partial<Ip4> = {}): number[] {
  const options = change.options ?? [];
  const total = change.totalBytes ?? 20 + options.length + body.length;
  return [
    0x40 | (5 + options.length / 4), 0, ...u16(total), 0, 1, ...u16(change.fragment ?? 0x4000),
    64, change.protocol ?? 6, 0, 0, ...SOURCE4, ...DESTINATION4, ...options, ...body,
  ];
}

export const SOURCE6 = [0xfd, 0x77, ...Array(13).fill(0), 1];
export const DESTINATION6 = [0x20, 1, 0xd, 0xb8, ...Array(10).fill(0), 0xab, 0xcd];

export function ip6(body: number[], next = 6, payloadBytes = body.length): number[] {
  return [0x60, 0, 0, 0, ...u16(payloadBytes), next, 64, ...SOURCE6, ...DESTINATION6, ...body];
}

/** An extension header of `words` * 8 bytes in all. */
export function extension(next: number, words: number, body: number[]): number[] {
  return [next, words - 1, ...Array(words * 8 - 2).fill(0), ...body];
}

export function jumbo(body: number[]): number[] {
  return [6, 0, 0xc2, 4, ...u32(body.length + 8), ...body];
}

export const tag = (type: number, control: number, body: number[]): number[] => [
  ...u16(type), ...u16(control), ...body,
];
export const typed = (type: number, body: number[]): number[] => [...u16(type), ...body];

/** `rest` begins with the EtherType or a tag. */
export const ethernet = (rest: number[]): number[] => [
  2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...rest,
];

export const cooked2 = (
  type: number,
  body: number[],
  interfaceIndex = 7,
  packetType = 4,
): number[] => [
  ...u16(type), 0, 0, ...u32(interfaceIndex), ...u16(1), packetType, 6, 2, 0, 0, 0, 0, 1, 0, 0,
  ...body,
];

export const cooked = (rest: number[], packetType = 0): number[] => [
  ...u16(packetType), ...u16(1), ...u16(6), 2, 0, 0, 0, 0, 1, 0, 0, ...rest,
];

/** A savefile of nanosecond pcap. */
export function savefile(
  linkType: number,
  packets: readonly { sec: number; nsec: number; frame: number[]; wireBytes?: number }[],
): Uint8Array {
  const le32 = (value: number): number[] => u32(value).reverse();
  const out = [
    ...le32(0xa1b23c4d), 2, 0, 4, 0, ...le32(0), ...le32(0), ...le32(262_144), ...le32(linkType),
  ];
  for (const { sec, nsec, frame, wireBytes } of packets) {
    out.push(...le32(sec), ...le32(nsec), ...le32(frame.length));
    out.push(...le32(wireBytes ?? frame.length), ...frame);
  }
  return new Uint8Array(out);
}
