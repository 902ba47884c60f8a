// Files and folders of a session that are written once, at its end: private to the user who asked
// for them.

import {
  chmodSync, chownSync, closeSync, constants, fstatSync, ftruncateSync, lstatSync, mkdirSync, openSync,
  rmdirSync, statSync, writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import {
  errnoOf, O_CLOEXEC, O_PATH, type OpenedFile, openPrivate, reasonOf, removeEmpty, sudoOwner,
} from "../output/open-file.ts";
import { Patience } from "../output/patience.ts";

/** What `--json` writes, in messages. */
export const JSON_SUMMARY = "the JSON summary";
const FOLDER_MODE = 0o700;
const SLOW_READER_STEP_MS = 2;

/** A file that is opened early, so that it fails early, and written once at the end. */
export class PrivateFile {
  #file: OpenedFile;

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
    if (this.#isRemoved()) this.#makeAgain();
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

  /** Instead of `write`: a file that was made for nothing is taken away. */
  discard(): void {
    removeEmpty(this.path, this.#file);
    closeSync(this.#file.fd);
  }

  /** Nobody would find what is written to it. */
  #isRemoved(): boolean {
    const { fd, borrowed } = this.#file;
    const stat = fstatSync(fd);
    return !borrowed && stat.isFile() && stat.nlink === 0;
  }

  /** @throws KQTimeError `E_FILE` */
  #makeAgain(): void {
    closeSync(this.#file.fd);
    try {
      // What may have come in its place is another's.
      this.#file = openPrivate(this.path, { exclusive: true });
    } catch (error) {
      const why =
        `${this.what} is lost: "${this.path}" was removed during the run, and cannot be made again: ` +
        `${reasonOf(error)}; keep its folder until the run has ended`;
      throw new KQTimeError("E_FILE", "write", why, ExitCode.Own, { cause: error });
    }
  }

  #empty(): void {
    try {
      ftruncateSync(this.#file.fd, 0);
    } catch {
      // A pipe has no length.
    }
  }
}

/** Which file a path names, as in `OpenedFile`; null if none can be found. */
export function identityOfPath(path: string): string | null {
  try {
    const stat = statSync(path);
    return stat.isCharacterDevice() ? null : `${stat.dev}:${stat.ino}`;
  } catch {
    return null;
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
 * stays as it is. Returns what takes those that it made away again, if they are empty.
 * @throws KQTimeError `E_FILE`, also if a link is in its place
 */
export function makePrivateFolder(path: string): () => void {
  try {
    const last = resolve(path);
    const missing: string[] = [];
    const undo = () => {
      try {
        for (const each of missing.toReversed()) rmdirSync(each);
      } catch {
        // Somebody has put something into it.
      }
    };
    for (let at = last; statOf(at) === undefined; at = dirname(at)) missing.unshift(at);
    for (const each of missing) makeOne(each);
    const found = statOf(last);
    if (found?.isDirectory() === true) return undo;
    if (found?.isFile() === true) {
      const why = `"${path}" is a file, where a folder is needed: name another, or remove it`;
      throw new KQTimeError("E_FILE", "mkdir", why);
    }
    throw Object.assign(new Error(), { code: found?.isSymbolicLink() === true ? "ELOOP" : "ENOTDIR" });
  } catch (error) {
    if (error instanceof KQTimeError) throw error;
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
