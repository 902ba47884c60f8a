// Reads the log that a fixture keeps of its calls (test/fixtures/calllog.h) into one list a
// connection and direction, with the stream offset of each call that moved bytes.

import { readFileSync } from "node:fs";

export const OUT = 0;
export const IN = 1;
export type Direction = typeof OUT | typeof IN;

export interface Call {
  beforeNs: number;
  afterNs: number;
  offset: number;
  bytes: number;
}

/** One direction of one connection of one process. */
export interface CallStream {
  connection: number;
  direction: Direction;
  lport: number;
  rport: number;
  fd: number;
  /** Only the calls that moved bytes, in the order of the stream. */
  calls: Call[];
  bytes: number;
  /** Calls that moved nothing: EAGAIN, the end of the stream. */
  idleCalls: number;
}

const RECORD_BYTES = 48;
const SEQUENCE_AT = 28;

/** Times are nanoseconds after `baseSec`. */
export function readCallLog(path: string, baseSec: number): CallStream[] {
  const file = readFileSync(path);
  if (file.length % RECORD_BYTES) throw new Error(`${path}: a record is cut off`);
  return streamsOf(file, baseSec);
}

/** Of test/fixtures/ticker.c: the calls that had returned by now, or by its end. */
export function readTicks(path: string, baseSec: number): CallStream[] {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  let end = 0;
  while (end < file.length && view.getUint32(end + SEQUENCE_AT, true) !== 0) end += RECORD_BYTES;
  return streamsOf(file.subarray(0, end), baseSec);
}

function streamsOf(file: Buffer, baseSec: number): CallStream[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const time = (at: number) =>
    (view.getUint32(at, true) - baseSec) * 1e9 + view.getUint32(at + 4, true);
  const streams = new Map<string, CallStream>();
  for (let at = 0; at < file.length; at += RECORD_BYTES) {
    const connection = view.getUint32(at + 16, true);
    const direction = view.getUint8(at + 24) as Direction;
    const key = `${connection}/${direction}`;
    let stream = streams.get(key);
    if (!stream) {
      stream = {
        connection, direction,
        lport: view.getUint16(at + 20, true),
        rport: view.getUint16(at + 22, true),
        fd: view.getUint16(at + 26, true),
        calls: [], bytes: 0, idleCalls: 0,
      };
      streams.set(key, stream);
    }
    const result = Number(view.getBigInt64(at + 40, true));
    if (result <= 0) {
      stream.idleCalls++;
      continue;
    }
    stream.calls.push({
      beforeNs: time(at), afterNs: time(at + 8), offset: stream.bytes, bytes: result,
    });
    stream.bytes += result;
  }
  return [...streams.values()];
}
