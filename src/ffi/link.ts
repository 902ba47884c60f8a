// Gives a file without a name (O_TMPFILE) a name, which nothing in node:fs can.
//
// Source: linkat(2), open(2).

import { type Library, type Pointer, toArrayBuffer } from "bun:ffi";
import { getSystemErrorName } from "node:util";
import { cString } from "./c-string.ts";
import { openLibrary } from "./library.ts";

const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

const symbols = {
  /** int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int flags → int */
  linkat: { args: ["i32", "buffer", "i32", "buffer", "i32"], returns: "i32" },
  /** → int * */
  __errno_location: { args: [], returns: "ptr" },
} as const;

let loaded: Library<typeof symbols>["symbols"] | undefined;

/** @throws an error with a `code`, as node:fs does; KQTimeError `E_LIBRARY` */
export function linkDescriptor(fd: number, path: string): void {
  loaded ??= openLibrary({
    name: "libc",
    environment: "KQTIME_LIBC",
    sonames: ["libc.so.6"],
    symbols,
    packages: { apt: "libc6", dnf: "glibc" },
  }).symbols;
  const from = cString(`/proc/self/fd/${fd}`);
  if (loaded.linkat(AT_FDCWD, from, AT_FDCWD, cString(path), AT_SYMLINK_FOLLOW) === 0) return;
  const location = loaded.__errno_location() as Pointer;
  const code = getSystemErrorName(-new Int32Array(toArrayBuffer(location, 0, 4))[0]!);
  throw Object.assign(new Error(`${code}: linkat "${path}"`), { code });
}
