// Descriptors that measured programs hand to the collector. It writes to them between two rounds of
// reading records: one that could make it wait, or that needs rights which the program has not, is
// refused. So nothing is asked of a file before it is known which file system it is on: where that is
// a program's (FUSE) or another machine's, the first question may never be answered.

import { fstatSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { isMemory, openFlags } from "../ffi/libc.ts";
import { reasonOf } from "../output/open-file.ts";

/** Devices that may be logs: /dev/null and /dev/full (null(4), full(4)), as `st_rdev` has them. */
const DEVICES: readonly number[] = [(1 << 8) | 3, (1 << 8) | 7];

/**
 * File systems that ask no other process or machine, and none that sets out to: of the many others
 * nobody has a list. Empty: none. An overlay writes to one that can have extended attributes of root's.
 */
const LOCAL = new RegExp(
  "^(|ext[234]|xfs|btrfs|bcachefs|f2fs|zfs|jfs|nilfs2|reiserfs|ubifs|minix|udf|vfat|msdos|exfat|ntfs3?|" +
    "hfs|hfsplus|tmpfs|ramfs|devtmpfs|devpts|overlay|aufs|ecryptfs)$",
);
/** Those in which writing is asking the kernel to do something. */
const CONTROLS =
  /^(proc|sysfs|cgroup2?|(debug|trace|config|security|selinux|efivar)fs|binfmt_misc|pstore|bpf)$/;

/**
 * Why a descriptor cannot be a log; null if it can.
 * @param pid Whose it is: it may see file systems that this process does not.
 */
export function whyNoLog(fd: number, pid: number): string | null {
  const flags = openFlags(fd);
  if (flags === null || !flags.writable) return "it is not open for writing";
  const elsewhere = whyNotThere(fd, pid);
  if (elsewhere !== null) return elsewhere;
  const stat = fstatSync(fd);
  if (stat.isFile() || (stat.isCharacterDevice() && DEVICES.includes(stat.rdev))) return null;
  if (!stat.isFIFO()) return "a log is a file or a pipe";
  return flags.nonBlocking ? null : "the pipe may block: open it with O_NONBLOCK";
}

/** Why nothing on the file system of a descriptor can be a log; null if that is none to wait for. */
function whyNotThere(fd: number, pid: number): string | null {
  const type = fileSystemOf(fd, pid);
  if (type === null) return "its file system is not mounted where the collector could look at it";
  return whyNoLogOn(type);
}

/** The same by the type, as mount(8) names it. */
export function whyNoLogOn(type: string): string | null {
  if (CONTROLS.test(type)) return "a log is a file or a pipe";
  return LOCAL.test(type)
    ? null
    : `it is on a file system of the type ${type}, which may let the collector wait: take one on a local disk`;
}

/**
 * The type of the file system of a descriptor, told by the kernel alone; null if it is mounted nowhere
 * that this process and `pid` see. Empty: none, as for pipes and sockets.
 * Source: proc(5), /proc/PID/fdinfo and /proc/PID/mountinfo.
 */
export function fileSystemOf(fd: number, pid: number): string | null {
  try {
    if (/^(pipe|socket|anon_inode):/.test(readlinkSync(`/proc/self/fd/${fd}`))) return "";
    const mount = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1];
    if (mount === undefined) return null;
    return typeOf(mount, "self") ?? typeOf(mount, pid);
  } catch {
    return null;
  }
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` */
function typeOf(mount: string, pid: number | "self"): string | null {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "latin1").split("\n");
  const line = lines.find((one) => one.startsWith(`${mount} `));
  return line === undefined ? null : (/ - (\S+) /.exec(line)?.[1] ?? null);
}

/** Writes a text to memory of the program's; the reason why not, or null. */
export function writeToMemory(fd: number, text: string): string | null {
  if (fd < 0 || !isMemory(fd)) return "a snapshot is written to memory (memfd_create)";
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    return null;
  } catch (error) {
    return `the snapshot cannot be written: ${reasonOf(error)}`;
  }
}
