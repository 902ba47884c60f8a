// Sockets that another program goes on with: inherited over exec, or sent by a process that has its
// own socket table. The heir counts offsets from zero; the stream does not. The inode tells that
// both are one socket; the kernel's counts, or the first owner's calls, where the stream stood.

import type { Connection } from "./connection.ts";

/** What the kernel had counted of a socket when a program met it; NaN: unknown. */
export interface Counts {
  readonly out: number;
  readonly in: number;
}

/** `connection` goes on with the socket of `earlier`, whose entries are up to date. */
export function inherit(connection: Connection, earlier: Connection, counts: Counts): void {
  const owner = earlier.continues?.connection ?? earlier;
  // The SYN counts for who connected, where the socket was seen born.
  const proven = !owner.adopted && owner.anchor === null;
  const out = counts.out - (owner.connected ? 1 : 0);
  connection.continues = {
    connection: owner,
    outBase: proven && out >= 0 ? out : knownOffset(owner, true),
    inBase: proven && counts.in >= 0 ? counts.in : knownOffset(owner, false),
  };
  owner.isShared = true;
  owner.heirs.push(connection);
}

/** The processes of an heir have ended: a socket may outlive any number of them. */
export function leave(heir: Connection): void {
  const { connection: owner, outBase, inBase } = heir.continues!;
  const { left, heirs } = owner;
  heir.settled = true;
  heirs.splice(heirs.indexOf(heir), 1);
  if (heir.outProgress.off > 0) {
    left.outFrom = Math.min(left.outFrom, outBase);
    left.outTo = Math.max(left.outTo, outBase + heir.outProgress.off);
  }
  if (heir.inProgress.off > 0) {
    left.inFrom = Math.min(left.inFrom, inBase);
    left.inTo = Math.max(left.inTo, inBase + heir.inProgress.off);
  }
}

/** The first owner moves bytes that an heir has counted as its own: neither order is proven. */
export function isContested(connection: Connection, off: number, out: boolean): boolean {
  if (off >= (out ? connection.left.outFrom : connection.left.inFrom)) return true;
  for (const heir of connection.heirs) {
    const { outBase, inBase } = heir.continues!;
    const moved = (out ? heir.outProgress : heir.inProgress).off > 0;
    if (moved && off >= (out ? outBase : inBase)) return true;
  }
  return false;
}

export function isSameSocket(a: Connection, b: Connection): boolean {
  return (
    a.lport === b.lport &&
    a.rport === b.rport &&
    a.local.every((word, i) => word === b.local[i]) &&
    a.remote.every((word, i) => word === b.remote[i])
  );
}

/**
 * Bytes that all programs with a socket have moved by their calls so far. (Their table may count more:
 * its owner has gone on since the records that were read.)
 */
function knownOffset(owner: Connection, out: boolean): number {
  const { known } = (out ? owner.out : owner.in).calls;
  let off = Math.max(known, out ? owner.left.outTo : owner.left.inTo);
  for (const heir of owner.heirs) {
    const { outBase, inBase } = heir.continues!;
    const moved = (out ? heir.outProgress : heir.inProgress).off;
    if (moved > 0) off = Math.max(off, (out ? outBase : inBase) + moved);
  }
  return off;
}

/** Bytes that all programs with a socket have moved so far. */
export function streamOffset(owner: Connection, out: boolean): number {
  const { calls } = out ? owner.out : owner.in;
  const left = out ? owner.left.outTo : owner.left.inTo;
  let off = Math.max(calls.known, (out ? owner.outProgress : owner.inProgress).off, left);
  for (const heir of owner.heirs) {
    const { outBase, inBase } = heir.continues!;
    const moved = (out ? heir.outProgress : heir.inProgress).off;
    off = Math.max(off, (out ? outBase : inBase) + moved);
  }
  return off;
}
