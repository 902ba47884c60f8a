// How every file that a user names is opened: private, no link followed, no wait for a pipe's
// reader. A file that is made here belongs, under sudo, to who called it; one that was there before
// keeps its owner.

import {
  constants, fchmodSync, fchownSync, fstatSync, lstatSync, openSync, realpathSync, unlinkSync,
} from "node:fs";
import { dirname, resolve } from "node:path";

/** Not in node's constants; Linux, x86-64 and arm64. */
export const O_CLOEXEC = 0o2000000;
/** open(2): a descriptor for what may be neither read nor written. */
export const O_PATH = 0o10000000;
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
const MODE = 0o600;

/** The errno name of a system error, for example `ENOSPC`. */
export function errnoOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : String(error);
}

const ERRNO_TEXT: Record<string, string> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  EAGAIN: "its reader is too slow",
  EEXIST: "it is there already",
  EFBIG: "the file may not grow further",
  EIO: "input/output error",
  EISDIR: "it is a directory",
  ELOOP: "it is a symbolic link, which is not followed; name what it leads to",
  ENAMETOOLONG: "the name is too long",
  ENOENT: "no such directory",
  ENOSPC: "no space left on the device",
  ENOTDIR: "part of the path is not a directory",
  ENXIO: "nobody reads that pipe, or it is a socket",
  EPERM: "operation not permitted",
  EPIPE: "its reader is gone",
  EROFS: "the file system is read-only",
};

/** The reason of a system error in words, with its name. */
export function reasonOf(error: unknown): string {
  const code = errnoOf(error);
  const text = ERRNO_TEXT[code];
  return text === undefined ? code : `${text} (${code})`;
}

/** Numeric ids of the user behind sudo, or null. */
export function sudoOwner(): { uid: number; gid: number } | null {
  const { SUDO_UID: uid = "", SUDO_GID: gid = "" } = process.env;
  if (process.getuid?.() !== 0 || !/^\d{1,10}$/.test(uid) || !/^\d{1,10}$/.test(gid)) return null;
  return { uid: Number(uid), gid: Number(gid) };
}

export interface OpenedFile {
  readonly fd: number;
  /** Made by this very call. */
  readonly created: boolean;
  /** Reached through a descriptor of this process: what stands in it is somebody else's. */
  readonly borrowed: boolean;
  /** Tells files apart, whatever they are called; null where writing twice does no harm. */
  readonly identity: string | null;
}

export interface OpenMode {
  /** Writes go to the end, wherever others have moved it. */
  readonly append?: boolean;
  /** The file must not be there yet. */
  readonly exclusive?: boolean;
}

/** Takes a file away that was made and not written to; any other stays. Never throws. */
export function removeEmpty(path: string, file: Pick<OpenedFile, "identity" | "created">): void {
  try {
    const { dev, ino, size } = lstatSync(path);
    if (file.created && size === 0 && file.identity === `${dev}:${ino}`) unlinkSync(path);
  } catch {
    // It is gone.
  }
}

/** Opens for writing. @throws as open(2) does */
export function openPrivate(path: string, mode: OpenMode = {}): OpenedFile {
  const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;
  // O_NONBLOCK: a pipe without a reader is an error then, not a wait for ever.
  const base = O_WRONLY | O_NONBLOCK | O_CLOEXEC | (mode.append === true ? O_APPEND : 0);
  try {
    const fd = openSync(path, base | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
    makePrivate(fd);
    return { fd, created: true, borrowed: false, identity: identityOf(fd) };
  } catch (error) {
    if (errnoOf(error) !== "EEXIST" || mode.exclusive === true) throw error;
  }
  let fd: number;
  let borrowed = false;
  try {
    // Keeping O_CREAT keeps fs.protected_regular's guard in shared folders (proc_sys_fs(5)).
    fd = openSync(path, base | O_CREAT | O_NOFOLLOW, MODE);
  } catch (error) {
    if (errnoOf(error) !== "ELOOP" || !isDescriptorLink(path)) throw error;
    // What stands in it already is not overwritten.
    fd = openSync(path, base | O_APPEND);
    borrowed = true;
  }
  return { fd, created: false, borrowed, identity: identityOf(fd) };
}

/**
 * A file without a name for writing, on the file system of this folder: it is gone with its last
 * descriptor, however the process ends, unless it is given a name. @throws as open(2) does, on a file
 * system that has no such files too (NFS, FAT)
 */
export function openNameless(folder: string): number {
  const fd = openSync(folder, constants.O_WRONLY | O_TMPFILE | O_CLOEXEC, MODE);
  makePrivate(fd);
  return fd;
}

/**
 * The pipe or terminal behind a descriptor, opened once more: whoever shares the given one is not
 * concerned by this one's flags, nor it by theirs (F_SETFL). Its writes do not wait.
 * @throws as open(2) does
 */
export function openOwn(fd: number): number {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/** Gives a file that was just made its mode, whatever the umask, and to the user behind sudo. */
function makePrivate(fd: number): void {
  if (!fstatSync(fd).isFile()) return;
  const owner = sudoOwner();
  try {
    fchmodSync(fd, MODE);
    if (owner !== null) fchownSync(fd, owner.uid, owner.gid);
  } catch {
    // A file system without owners or modes (vfat) refuses; the file is good nevertheless.
  }
}

/** As in `OpenedFile`. */
export function identityOf(fd: number): string | null {
  const stat = fstatSync(fd);
  return stat.isCharacterDevice() ? null : `${stat.dev}:${stat.ino}`;
}

/** The kernel's own links to descriptors: /dev/stdout, /dev/fd/N, /proc/PID/fd/N. */
function isDescriptorLink(path: string): boolean {
  try {
    const full = resolve(path);
    const folder = realpathSync(dirname(full));
    if (folder === "/dev") return /\/(stdin|stdout|stderr)$/.test(full);
    return /^\/proc\/\d+\/(task\/\d+\/)?fd$/.test(folder);
  } catch {
    return false;
  }
}
