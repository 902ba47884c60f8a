// Tries whether shared memory of a given size can be had, in the way the preload library takes it:
// a memfd reserved with posix_fallocate(3), so that a full tmpfs or a cgroup's limit shows as an
// error here and not as a signal there.
//
// Source: memfd_create(2), posix_fallocate(3).

import { type Library, type Pointer, toArrayBuffer } from "bun:ffi";
import { closeSync } from "node:fs";
import { openLibc } from "./library.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;

const symbols = {
  /** const char *name, unsigned int flags → int */
  memfd_create: { args: ["cstring", "u32"], returns: "i32" },
  /** int fd, off_t offset, off_t length → int, the error itself */
  posix_fallocate: { args: ["i32", "i64", "i64"], returns: "i32" },
  /** → int * */
  __errno_location: { args: [], returns: "ptr" },
} as const;

let loaded: Library<typeof symbols>["symbols"] | undefined;

/**
 * Reserves `bytes` of shared memory and gives them back. Returns null, or the errno of the call
 * that failed with its name.
 * @throws KQTimeError `E_LIBRARY`
 */
export function tryMemory(bytes: number): { op: string; errno: number } | null {
  loaded ??= openLibc(symbols);
  const fd = loaded.memfd_create("kqtime-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) {
    const location = loaded.__errno_location() as Pointer;
    return { op: "memfd_create", errno: new Int32Array(toArrayBuffer(location, 0, 4))[0]! };
  }
  try {
    const errno = loaded.posix_fallocate(fd, 0, bytes);
    return errno === 0 ? null : { op: "posix_fallocate", errno };
  } finally {
    closeSync(fd);
  }
}
