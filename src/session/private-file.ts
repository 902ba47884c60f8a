// Files and folders of a session that are written once, at its end: private to the user who asked
// for them.

import { chownSync, closeSync, ftruncateSync, mkdirSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import { errnoOf, type OpenedFile, openPrivate, reasonOf, sudoOwner } from "../output/open-file.ts";

/** What `--json` writes, in messages. */
export const JSON_SUMMARY = "the JSON summary";
const SLOW_READER_MS = 5000;
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
  write(text: string): void {
    const { fd, borrowed } = this.#file;
    const bytes = new TextEncoder().encode(text);
    const deadline = performance.now() + SLOW_READER_MS;
    try {
      if (!borrowed) this.#empty();
      for (let at = 0; at < bytes.length; ) {
        try {
          at += writeSync(fd, bytes, at);
        } catch (error) {
          if (errnoOf(error) !== "EAGAIN" || performance.now() >= deadline) throw error;
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

/** Makes a folder that only its user can look into. @throws KQTimeError `E_FILE` */
export function makePrivateFolder(path: string): void {
  try {
    const made = mkdirSync(path, { recursive: true, mode: 0o700 });
    const owner = sudoOwner();
    if (made === undefined || owner === null) return;
    // From the first one that was made down to the last.
    for (let at = resolve(path); at.length >= made.length; at = dirname(at)) {
      chownSync(at, owner.uid, owner.gid);
    }
  } catch (error) {
    throw new KQTimeError("E_FILE", "mkdir", `the folder "${path}" cannot be made: ${reasonOf(error)}`);
  }
}
