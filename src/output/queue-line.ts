// KQTIME-STATS lines: the queue lengths of all sockets of a measurement at one moment, a group of
// numbers each, in the ancestor's format with more keys. With many sockets a moment takes several
// lines, with the same `start`, so that no line is longer than a reader can be asked to hold.

import type { QueueRow } from "../match/queue-samples.ts";
import { ascii, LineBuffer } from "./line.ts";
import { SOCKET_KEYS, SocketField } from "./socket-fields.ts";

/** Sockets of a line. */
export const GROUPS_MOST = 256;
/** The frame, and a group: its keys and 22 numbers of at most 17 bytes. */
const FRAME_BYTES = 128;
const GROUP_BYTES = 640;

const STATS = ascii("KQTIME-STATS;start=");
const END = ascii(",end=");
const COUNT = ascii(",num_fds=");
const GROUP = ascii(";fd=");
const SNDAGE = ascii(",snd_age_ns=");
const RCVAGE = ascii(",rcv_age_ns=");
const SOCK = ascii(",sock=");
const PID = ascii(",pid=");
const LPORT = ascii(",lport=");
const RPORT = ascii(",rport=");
const FINISH = ascii(";\n");
const KEYS = SOCKET_KEYS.map((key) => ascii(`,${key}=`));

/** Writes the lines one by one; a line is valid until the next. */
export function* queueLines(
  baseSec: number, startNs: number, endNs: number, rows: readonly QueueRow[],
): Generator<Uint8Array> {
  const most = Math.min(GROUPS_MOST, rows.length);
  const text = new LineBuffer(FRAME_BYTES + most * GROUP_BYTES, baseSec);
  for (let from = 0; from < rows.length; from += most) {
    const group = rows.slice(from, from + most);
    text.length = 0;
    text.put(STATS);
    text.putTime(startNs);
    text.put(END);
    text.putTime(endNs);
    text.put(COUNT);
    text.putInteger(group.length);
    for (const row of group) putGroup(text, row);
    text.put(FINISH);
    yield text.bytes.subarray(0, text.length);
  }
}

/** What is not known has no key. */
function putGroup(text: LineBuffer, row: QueueRow): void {
  text.put(GROUP);
  text.putInteger(row.fd);
  for (let field = 0; field < SocketField.count; field++) {
    const value = row.values[field]!;
    if (value >= 0) put(text, KEYS[field]!, value);
  }
  if (row.unsentAgeNs >= 0) put(text, SNDAGE, row.unsentAgeNs);
  if (row.unreadAgeNs >= 0) put(text, RCVAGE, row.unreadAgeNs);
  put(text, SOCK, row.sock);
  put(text, PID, row.pid);
  put(text, LPORT, row.lport);
  put(text, RPORT, row.rport);
}

function put(text: LineBuffer, key: Uint8Array, value: number): void {
  text.put(key);
  text.putInteger(Math.round(value));
}
