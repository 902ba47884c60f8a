// What the tests of sockets that are older than the capture have in common: their entries, and what the
// kernel says of them at a moment.

import { Observed } from "../../src/match/anchor.ts";
import { EntryFlag, EntryWord } from "../../src/ring/layout.ts";
import { type Bench, CLIENT, CLIENT_PORT, SERVER, SERVER_PORT } from "./bench.ts";
import { type EntryFields, entryWords } from "./words.ts";

const INODE = 77;

interface Moment {
  acked: number;
  received: number;
  outOff: number;
  inOff: number;
  unread?: number;
  idle?: number;
  turnedBack?: number;
}

/** Tells the anchors of a moment with nothing queued for sending. */
export function observe(bench: Bench, atNs: number, moment: Moment, sock = 1): void {
  const values = new Float64Array(Observed.count);
  const { acked, received, outOff, inOff, unread = 0, idle = 1, turnedBack = 0 } = moment;
  values.set([
    atNs, atNs + 5000, 1, acked, received, 0, acked, received - unread, outOff, inOff, idle, idle, 0,
    turnedBack,
  ]);
  bench.engine.anchors.observe(sock, values);
}

/** A client's entry, adopted if the fields do not say how else it came, after bytes sent and read. */
export function entry(fields: Partial<EntryFields>, sentBefore = 0, readBefore = 0): Uint32Array {
  const words = entryWords({
    generation: 1, flags: EntryFlag.Adopted | EntryFlag.Counted, local: CLIENT, remote: SERVER,
    lport: CLIENT_PORT, rport: SERVER_PORT, pid: 100, fd: 3, inode: INODE, birthNs: 1, ...fields,
  });
  for (const [at, count] of [[EntryWord.sentBefore, sentBefore], [EntryWord.readBefore, readBefore]] as const) {
    words[at] = count % 2 ** 32;
    words[at + 1] = Math.floor(count / 2 ** 32);
  }
  return words;
}
