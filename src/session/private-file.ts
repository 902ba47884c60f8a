// Files of a session are private to the user who asked for them: mode 0600, no link followed, and
// under sudo owned by who called it.

import { chownSync, closeSync, constants, fchownSync, ftruncateSync, mkdirSync, openSync, writeSync } from "node:fs";
import { ExitCode, KQTimeError } from "../errors.ts";
import { errnoOf } from "../output/sink.ts";

/** Numeric ids of the user behind sudo, or null. */
export function sudoOwner(): { uid: number; gid: number } | null {
  const { SUDO_UID: uid = "", SUDO_GID: gid = "" } = process.env;
  if (process.getuid?.() !== 0 || !/^\d{1,10}$/.test(uid) || !/^\d{1,10}$/.test(gid)) return null;
  return { uid: Number(uid), gid: Number(gid) };
}

/** A file that is opened early, so that it fails early, and written once at the end. */
export class PrivateFile {
  readonly #fd: number;

  /** @throws KQTimeError `E_FILE` */
  constructor(readonly path: string) {
    const { O_WRONLY, O_CREAT, O_NOFOLLOW } = constants;
    try {
      this.#fd = openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
    } catch (error) {
      throw new KQTimeError(
        "E_FILE",
        "open",
        `"${path}" cannot be written (${errnoOf(error)}): name a file in a folder of yours`,
        ExitCode.Own,
        { cause: error },
      );
    }
    const owner = sudoOwner();
    if (owner !== null) {
      try {
        fchownSync(this.#fd, owner.uid, owner.gid);
      } catch {
        // A file system without owners refuses; the file is good nevertheless.
      }
    }
  }

  /** Replaces the contents and closes. @throws KQTimeError `E_FILE` */
  write(text: string): void {
    const bytes = new TextEncoder().encode(text);
    try {
      try {
        ftruncateSync(this.#fd, 0);
      } catch {
        // A pipe or /dev/stdout has no length.
      }
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      throw new KQTimeError("E_FILE", "write", `"${this.path}" is incomplete (${errnoOf(error)})`);
    } finally {
      closeSync(this.#fd);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Makes a folder that only its user can look into. @throws KQTimeError `E_FILE` */
export function makePrivateFolder(path: string): void {
  try {
    const made = mkdirSync(path, { recursive: true, mode: 0o700 });
    const owner = sudoOwner();
    if (made !== undefined && owner !== null) chownSync(path, owner.uid, owner.gid);
  } catch (error) {
    throw new KQTimeError("E_FILE", "mkdir", `the folder "${path}" cannot be made (${errnoOf(error)})`);
  }
}
