// Files and folders of a session that are written once, at its end: private to the user who asked
// for them.

import {
  chmodSync, chownSync, closeSync, constants, ftruncateSync, lstatSync, mkdirSync, openSync, writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import { errnoOf, O_CLOEXEC, O_PATH, type OpenedFile, openPrivate, reasonOf, sudoOwner } from "../output/open-file.ts";
import { Patience } from "../output/patience.ts";

/** What `--json` writes, in messages. */
export const JSON_SUMMARY = "the JSON summary";
const FOLDER_MODE = 0o700;
const SLOW_READER_STEP_MS = 2;

/** A file that is opened early, so that it fails early, and written once at the end. */
export class PrivateFile {
  readonly #file: OpenedFile;

  /** @param what for messages: "the JSON summary". @throws KQTimeError `E_FILE` */
  constructor(
    readonly path: string,
    readonly what: string,
  ) {
    try {
      this.#file = openPrivate(path);
    } catch (error) {
      throw new KQTimeError(
        "E_FILE",
        "open",
        `${what} "${path}" cannot be written: ${reasonOf(error)}`,
        ExitCode.Own,
        { cause: error },
      );
    }
  }

  /** Of the file, as in `OpenedFile`. */
  get identity(): string | null {
    return this.#file.identity;
  }

  /** Replaces the contents and closes. @throws KQTimeError `E_FILE` */
  write(text: string, patience = new Patience()): void {
    const { fd, borrowed } = this.#file;
    const bytes = new TextEncoder().encode(text);
    try {
      if (!borrowed) this.#empty();
      for (let at = 0; at < bytes.length; ) {
        try {
          at += writeSync(fd, bytes, at);
        } catch (error) {
          if (errnoOf(error) !== "EAGAIN" || patience.isOver) throw error;
          Bun.sleepSync(SLOW_READER_STEP_MS);
        }
      }
    } catch (error) {
      const why = `${this.what} "${this.path}" is incomplete: ${reasonOf(error)}`;
      throw new KQTimeError("E_FILE", "write", why, ExitCode.Own, { cause: error });
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    closeSync(this.#file.fd);
  }

  #empty(): void {
    try {
      ftruncateSync(this.#file.fd, 0);
    } catch {
      // A pipe has no length.
    }
  }
}

/** @throws KQTimeError `E_FILE` if two outputs are one file, whatever they are called */
export function expectDifferent(
  one: { option: string; identity: string | null },
  other: { option: string; identity: string | null },
): void {
  if (one.identity === null || one.identity !== other.identity) return;
  throw new KQTimeError(
    "E_FILE",
    "open",
    `${one.option} and ${other.option} name the same file: give each its own`,
  );
}

/** @throws as `expectDifferent` does */
export function expectAllDifferent(
  outputs: readonly { option: string; identity: string | null }[],
): void {
  for (const [i, one] of outputs.entries()) {
    for (const other of outputs.slice(i + 1)) expectDifferent(one, other);
  }
}

/**
 * Makes a folder that only its user can look into, and those on the way to it; one that is there
 * stays as it is. @throws KQTimeError `E_FILE`, also if a link is in its place
 */
export function makePrivateFolder(path: string): void {
  try {
    const last = resolve(path);
    const missing: string[] = [];
    for (let at = last; statOf(at) === undefined; at = dirname(at)) missing.unshift(at);
    for (const each of missing) makeOne(each);
    const found = statOf(last);
    if (found?.isDirectory() === true) return;
    throw Object.assign(new Error(), { code: found?.isSymbolicLink() === true ? "ELOOP" : "ENOTDIR" });
  } catch (error) {
    throw new KQTimeError("E_FILE", "mkdir", `the folder "${path}" cannot be made: ${reasonOf(error)}`);
  }
}

function statOf(path: string) {
  return lstatSync(path, { throwIfNoEntry: false });
}

function makeOne(path: string): void {
  try {
    mkdirSync(path, { mode: FOLDER_MODE });
  } catch (error) {
    // Another one has made it meanwhile.
    if (errnoOf(error) === "EEXIST") return;
    throw error;
  }
  const { O_DIRECTORY, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  try {
    // By descriptor, for a link may be in its place by now; fchmod(2) takes none without rights.
    const made = `/proc/self/fd/${fd}`;
    const owner = sudoOwner();
    chmodSync(made, FOLDER_MODE);
    if (owner !== null) chownSync(made, owner.uid, owner.gid);
  } catch {
    // A file system without owners or modes (vfat) refuses; the folder is good nevertheless.
  } finally {
    closeSync(fd);
  }
}
