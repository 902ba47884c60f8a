// A file that is there whole or not at all, for what is of no use without its end. It grows without
// a name beside the one that it replaces, and takes its name when it is whole: what was there stays
// if anything fails, and nothing is left of it however its program ends. Private, as a log is, since
// it says as much.

import {
  accessSync, closeSync, constants, fchmodSync, fchownSync, fstatSync, fsyncSync, lstatSync, openSync,
  readSync, renameSync, type Stats, unlinkSync, writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { KQTimeError } from "../errors.ts";
import { linkDescriptor } from "../ffi/link.ts";
import { errnoOf, openPrivate, openUnnamed, reasonOf } from "./open-file.ts";

/** By what a file shows that it may be replaced. */
export interface FileKind {
  /** "a PDF file" */
  readonly name: string;
  /** Each of them begins with these bytes, written as characters up to 0xff. */
  readonly beginning: string;
}

export class WholeFile {
  readonly #path: string;
  /** Its name until it is whole, where it has one. */
  readonly #partPath: string;
  #isNamed = false;
  #fd: number | null;
  /** The file that is replaced. */
  readonly #old: Stats | undefined;

  /**
   * Begins the file that will be `path`. One of its kind, or an empty one, that is there is replaced;
   * anything else is left as it is.
   * @throws KQTimeError `E_OUTPUT`
   */
  constructor(path: string, kind: FileKind) {
    this.#path = path;
    this.#partPath = `${path}.part-${process.pid}`;
    try {
      this.#old = lstatSync(path, { throwIfNoEntry: false });
      const obstacle = this.#old === undefined ? null : obstacleIn(path, this.#old, kind);
      if (obstacle !== null) {
        throw new KQTimeError("E_OUTPUT", "open", `"${path}" ${obstacle}: name another`);
      }
      this.#fd = openUnnamed(dirname(path));
      if (this.#fd !== null) return;
      // What cannot be made is told at once; with a name it is not left there while nothing is in it.
      this.#fd = this.#openNamed();
      this.abandon();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Adds to the end. @throws KQTimeError `E_OUTPUT` */
  write(bytes: Uint8Array): void {
    try {
      const fd = (this.#fd ??= this.#openNamed());
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Puts it in its place. @throws KQTimeError `E_OUTPUT` */
  finish(): void {
    try {
      const fd = (this.#fd ??= this.#openNamed());
      if (this.#old !== undefined) takeAfter(fd, this.#old);
      // Some file systems (NFS) tell only now that there was no room.
      fsyncSync(fd);
      if (!this.#isNamed) linkDescriptor(fd, this.#partPath);
      this.#isNamed = true;
      renameSync(this.#partPath, this.#path);
      this.#isNamed = false;
      this.abandon();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Lets go of it, instead of `finish`. */
  abandon(): void {
    try {
      if (this.#fd !== null) closeSync(this.#fd);
      if (this.#isNamed) unlinkSync(this.#partPath);
    } catch {
      // It is gone.
    }
    this.#fd = null;
    this.#isNamed = false;
  }

  #openNamed(): number {
    const { fd } = openPrivate(this.#partPath, { exclusive: true });
    this.#isNamed = true;
    return fd;
  }

  #failed(error: unknown): KQTimeError {
    if (error instanceof KQTimeError) return error;
    const why = `"${this.#path}" cannot be written: ${reasonOf(error)}`;
    return new KQTimeError("E_OUTPUT", "write", why, undefined, { cause: error });
  }
}

/** Owner and mode of the file that is replaced. */
function takeAfter(fd: number, { uid, gid, mode }: Stats): void {
  try {
    fchownSync(fd, uid, gid);
    fchmodSync(fd, mode & 0o777);
  } catch {
    // Somebody else's, who let this user write to it: then it is this user's now, and private.
  }
}

/** Why what is there is not to be replaced: it may be a log, if the option's value was forgotten. */
function obstacleIn(path: string, stat: Stats, { name, beginning }: FileKind): string | null {
  if (stat.isSymbolicLink()) return "is a symbolic link, which is not followed";
  if (!stat.isFile()) return "is no regular file";
  let fd: number;
  try {
    // Who may not write it does not replace it either.
    accessSync(path, constants.W_OK);
    // It may have become a pipe meanwhile, which would be waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    return errnoOf(error) === "ENOENT" ? null : `cannot be replaced: ${reasonOf(error)}`;
  }
  try {
    const start = Buffer.alloc(beginning.length);
    const count = fstatSync(fd).isFile() ? readSync(fd, start, 0, start.length, 0) : 1;
    if (count === 0 || start.toString("latin1") === beginning) return null;
    return `exists, is not ${name}, and is not overwritten`;
  } catch (error) {
    return `cannot be replaced: ${reasonOf(error)}`;
  } finally {
    closeSync(fd);
  }
}
