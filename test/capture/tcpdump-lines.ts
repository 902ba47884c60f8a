// The lines of `tcpdump -nn -S -tt`: somebody else's decoding, to compare ours with.

import { expect } from "bun:test";
import type { DriverRow } from "./driver.ts";
import { TcpFlag } from "../../src/capture/packets.ts";

const LINE = new RegExp(
  String.raw`^(\d+)\.(\d{9}) (?:\S+ +(?:In|Out|B|M|P) +)?(IP6?) (\S+)\.(\d+) > (\S+)\.(\d+): ` +
    String.raw`Flags \[([^\]]*)\],(?: seq (\d+)(?::(\d+))?,)?(?: ack (\d+),)?.* length (\d+)`,
);

const LETTERS: [string, number][] = [
  ["F", TcpFlag.FIN], ["S", TcpFlag.SYN], ["R", TcpFlag.RST], ["P", TcpFlag.PSH],
  [".", TcpFlag.ACK], ["U", TcpFlag.URG], ["E", 64], ["W", 128],
];

/** An address as PacketBatch holds it. */
export function words(address: string): number[] {
  if (!address.includes(":")) {
    const bytes = address.split(".").map(Number);
    return [0, 0, 0xffff, bytes.reduce((sum, byte) => sum * 256 + byte, 0)];
  }
  const [head, tail] = address.split("::").map((part) => (part === "" ? [] : part.split(":")));
  const groups = tail === undefined
    ? head
    : [...head, ...Array<string>(8 - head.length - tail.length).fill("0"), ...tail];
  const values = groups.map((group) => Number.parseInt(group, 16));
  return [0, 2, 4, 6].map((i) => values[i] * 65_536 + values[i + 1]);
}

export interface TcpdumpLine {
  /** Expects the row to say the same. */
  check(row: DriverRow, baseSec: number): void;
}

export function readTcpdump(text: string): TcpdumpLine[] {
  return text.trim().split("\n").map((line) => {
    const match = LINE.exec(line);
    if (match === null) throw new Error(`not understood: ${line}`);
    const [, sec, nsec, , from, fromPort, to, toPort, letters, seq, end, ack, length] = match;
    return {
      check(row, baseSec) {
        let flags = 0;
        for (const [letter, flag] of LETTERS) if (letters.includes(letter)) flags |= flag;
        const syn = (flags & TcpFlag.SYN) !== 0 ? 1 : 0;
        expect({
          timeNs: row.timeNs,
          source: row.source,
          destination: row.destination,
          ports: [row.sourcePort, row.destinationPort],
          flags: row.flags,
          payloadBytes: row.payloadBytes,
          acknowledgment: ack === undefined ? undefined : row.acknowledgment,
          sequence: seq === undefined ? undefined : row.sequence,
          end: end === undefined ? undefined : (row.sequence + row.payloadBytes) >>> 0,
        }).toEqual({
          timeNs: (Number(sec) - baseSec) * 1e9 + Number(nsec),
          source: words(from),
          destination: words(to),
          ports: [Number(fromPort), Number(toPort)],
          flags,
          payloadBytes: Number(length),
          acknowledgment: ack === undefined ? undefined : Number(ack),
          sequence: seq === undefined ? undefined : (Number(seq) + syn) >>> 0,
          end: end === undefined ? undefined : Number(end) >>> 0,
        });
      },
    };
  });
}
