// Finds a session whose collector is gone: its memory through the mappings of a process that is
// measured (the preload library keeps no descriptor open), its other processes by the token that
// each ring's header holds.
//
// Source: proc(5), /proc/PID/maps and map_files. Opening the latter needs CAP_CHECKPOINT_RESTORE or
// CAP_SYS_ADMIN.

import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { makeMemory } from "../ffi/descriptors.ts";
import { Mapping } from "../ffi/libc.ts";
import { errnoOf, O_CLOEXEC, reasonOf } from "../output/open-file.ts";
import { Constant, Header, HeaderBytes, HeaderWord } from "../ring/layout.ts";
import { isOwn } from "../ring/processes.ts";
import { Ring, RING_BYTES_MOST } from "../ring/ring.ts";
import { SessionFolder } from "./folder.ts";

/** A ring of the session, and the processes that have it mapped. */
export interface TakenRing {
  readonly ring: Ring;
  readonly pids: readonly number[];
}

export interface TakenSession {
  /** Those with a socket table first. */
  readonly rings: readonly TakenRing[];
  readonly pids: readonly number[];
  /** What the processes have in their environment. */
  readonly socket: string;
  readonly token: string;
  /** The command line of the process that was named. */
  readonly command: readonly string[];
}

interface Found {
  readonly inode: number;
  /** Path under /proc of the mapping. */
  readonly path: string;
}

/** `ADDRESS-ADDRESS rw-s 00000000 00:01 INODE /memfd:kqtime (deleted)`, from its first byte. */
const MAPPED = /^([0-9a-f]+-[0-9a-f]+) rw-s 0+ (\S+) (\d+) +\/memfd:kqtime \(deleted\)$/gm;

/**
 * The session of a process, with all rings that belong to it, mapped here. `isForeign`: it may be
 * in another network namespace.
 * @throws KQTimeError `E_ATTACH` with the reason why it cannot be taken over
 */
export function findSession(pid: number, { isForeign = false } = {}): TakenSession {
  const own = mappingsOf(pid, true);
  if (own === null) throw refused(`there is no process ${pid}`);
  if (own.length === 0) {
    if (hasEnded(pid)) throw refused(`process ${pid} has ended`);
    throw refused(
      `process ${pid} is not measured by kqtime: start it with \`kqtime run -- …\``,
    );
  }
  if (!isForeign && namespaceOf(pid) !== namespaceOf("self")) {
    throw refused(
      `process ${pid} is in another network namespace: \`ip netns exec NAME kqtime attach ${pid}\`` +
        ` (or nsenter --net=/proc/${pid}/ns/net)`,
    );
  }
  const opened = new Map<number, Ring | null>();
  try {
    const first = own.map((found) => open(found, pid, opened, null)).find((ring) => ring !== null);
    if (first === undefined || first === null) {
      throw refused(`the memory that process ${pid} shares is none of this version of kqtime`);
    }
    const { sessionSocket: socket, sessionToken: token } = first;
    const users = usersOf((found, other) => open(found, other, opened, token));
    for (const ring of opened.values()) if (ring !== null && !users.has(ring)) ring.close();
    const rings = [...users].map(([ring, pids]) => ({ ring, pids }));
    rings.sort((a, b) => Number(b.ring.entryCount > 0) - Number(a.ring.entryCount > 0));
    const pids = [...new Set(rings.flatMap((one) => one.pids))].sort((a, b) => a - b);
    return { rings, pids, socket, token, command: commandOf(pid) };
  } catch (error) {
    for (const ring of opened.values()) ring?.close();
    throw error;
  }
}

/** Processes that have the session's rings now: some may have been forked since it was found. */
export function usersNow({ rings }: TakenSession): Map<Ring, number[]> {
  const byInode = new Map(rings.map(({ ring }) => [ring.inode, ring]));
  return usersOf(({ inode }) => byInode.get(inode) ?? null);
}

/** All processes with a mapping that `ringOf` knows, by its ring. */
function usersOf(ringOf: (found: Found, pid: number) => Ring | null): Map<Ring, number[]> {
  const users = new Map<Ring, number[]>();
  for (const pid of processes()) {
    for (const found of mappingsOf(pid, false) ?? []) {
      const ring = ringOf(found, pid);
      if (ring === null) continue;
      const pids = users.get(ring);
      if (pids === undefined) users.set(ring, [pid]);
      else if (!pids.includes(pid)) pids.push(pid);
    }
  }
  return users;
}

/** Inodes of the sockets that any of the processes has open. */
export function openSockets(pids: readonly number[]): Set<number> {
  const inodes = new Set<number>();
  for (const pid of pids) {
    let names: string[];
    try {
      names = readdirSync(`/proc/${pid}/fd`);
    } catch {
      continue;
    }
    for (const name of names) {
      try {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${name}`))?.[1];
        if (inode !== undefined) inodes.add(Number(inode));
      } catch {
        // It was closed meanwhile.
      }
    }
  }
  return inodes;
}

/** A zombie, or gone meanwhile. */
function hasEnded(pid: number): boolean {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return true;
  }
}

function refused(why: string): KQTimeError {
  return new KQTimeError("E_ATTACH", "attach", `cannot attach: ${why}`);
}

/** Null if there is no such process; where it may not be looked at, too, unless it `isNamed`. */
function mappingsOf(pid: number, isNamed: boolean): Found[] | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/maps`, "latin1");
  } catch (error) {
    const code = errnoOf(error);
    if (!isNamed || code === "ENOENT" || code === "ESRCH") return null;
    const how = process.geteuid?.() === 0 ? "the kernel protects it" : "run it as root";
    throw refused(`/proc/${pid}/maps cannot be read (${reasonOf(error)}): ${how}`);
  }
  const found: Found[] = [];
  for (const [, range, device, inode] of text.matchAll(MAPPED)) {
    // A file of that name may be on any file system, and opening it may do anything.
    if (device !== memoryDevice()) continue;
    // The kernel names them without leading zeros.
    const name = range!.replace(/(^|-)0+(?=[0-9a-f])/g, "$1");
    found.push({ inode: Number(inode), path: `/proc/${pid}/map_files/${name}` });
  }
  return found;
}

/**
 * The ring in a mapping, each opened once; null if it is none, or gone, or of another session.
 * @param token The session's; null: the process was named by the user, whose session it is.
 * @throws KQTimeError `E_ATTACH` if another kqtime reads it
 */
function open(
  { inode, path }: Found, pid: number, opened: Map<number, Ring | null>, token: string | null,
): Ring | null {
  const known = opened.get(inode);
  if (known !== undefined) return known;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | O_CLOEXEC);
  } catch (error) {
    const code = errnoOf(error);
    if (token !== null || code === "ENOENT" || code === "ESRCH") return null;
    throw refused(
      `the memory of process ${pid} cannot be opened (${reasonOf(error)}): run it as root, ` +
        "with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
    );
  }
  opened.set(inode, null);
  const head = headOf(fd);
  if (token === null && head !== null && head.version !== Constant.version) {
    closeSync(fd);
    throw refused(
      `process ${pid} is measured by another version of kqtime (layout ${head.version}, ` +
        `here ${Constant.version}): use that one`,
    );
  }
  if (head === null || (token !== null && head.token !== token)) {
    closeSync(fd);
    return null;
  }
  // Its collector may not have come to this ring yet.
  if (token === null && SessionFolder.answers(head.socket)) {
    closeSync(fd);
    throw isMeasured(pid);
  }
  let mapping: Mapping | null = null;
  try {
    mapping = Mapping.adopt(fd, RING_BYTES_MOST);
    const ring = new Ring(mapping, pid);
    opened.set(inode, ring);
    return ring;
  } catch (error) {
    if (error instanceof KQTimeError && error.op === "flock") throw isMeasured(pid);
    // Whatever it is: a name can be given to any memory.
    mapping?.close();
    return null;
  }
}

function isMeasured(pid: number): KQTimeError {
  return refused(`process ${pid} is being measured: its collector lives (end that one first)`);
}

/** What a ring's header says of its layout and session; null if it is none. Not mapped: it may be cut under us. */
function headOf(fd: number): { version: number; socket: string; token: string } | null {
  const bytes = new Uint8Array(new ArrayBuffer(HeaderBytes.total));
  if (readSync(fd, bytes, 0, bytes.length, 0) < bytes.length) return null;
  const words = new Uint32Array(bytes.buffer);
  if (words[HeaderWord.magic] !== Constant.magic) return null;
  const text = (at: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(at, at + length)).replace(/\0.*$/s, "");
  return {
    version: words[HeaderWord.version]!,
    socket: text(Header.sessionSocket, HeaderBytes.sessionSocket),
    token: text(Header.sessionToken, HeaderBytes.sessionToken),
  };
}

let device: string | undefined;

/** Where all memory without a file is, as /proc/PID/maps names it (major:minor). */
function memoryDevice(): string {
  if (device !== undefined) return device;
  const fd = makeMemory("kqtime-attach");
  try {
    const { dev } = fstatSync(fd);
    const [major, minor] = [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)];
    device = [major, minor].map((part) => part.toString(16).padStart(2, "0")).join(":");
    return device;
  } finally {
    closeSync(fd);
  }
}

function namespaceOf(pid: number | "self"): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch (error) {
    throw refused(`the network namespace of process ${pid} is not told (${reasonOf(error)})`);
  }
}

/** All but this one, which has the rings mapped by now. */
function processes(): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  return pids.filter((pid) => !isOwn(pid));
}

function commandOf(pid: number): string[] {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    // A program that writes its title there leaves zeros behind it.
    while (words.at(-1) === "") words.pop();
    return words;
  } catch {
    return [];
  }
}
