// The file that Parquet is written to, row group after row group: what is written does not stay in
// memory. It grows beside the one that it replaces and takes its name when it is whole, so that
// what was there stays if anything fails. Private as a log is, since it says as much.

import {
  accessSync, closeSync, constants, fchmodSync, fchownSync, fstatSync, lstatSync, openSync, readSync,
  renameSync, type Stats, unlinkSync, writeSync,
} from "node:fs";
import { ByteWriter } from "hyparquet-writer";
import { KQTimeError } from "../errors.ts";
import { errnoOf, openPrivate, reasonOf } from "../output/open-file.ts";

const MAGIC = "PAR1";

export class ParquetFile extends ByteWriter {
  readonly #path: string;
  /** Where it grows. */
  readonly #partPath: string;
  readonly #fd: number;
  /** The file that is replaced. */
  readonly #old: Stats | undefined;
  #isOpen = true;

  /**
   * Begins the file that will be `path`. A Parquet file that is there is replaced; anything else is
   * left as it is.
   * @throws KQTimeError `E_OUTPUT`
   */
  constructor(path: string) {
    super(1 << 20);
    this.#path = path;
    this.#partPath = `${path}.part-${process.pid}`;
    try {
      this.#old = lstatSync(path, { throwIfNoEntry: false });
      const obstacle = this.#old === undefined ? null : obstacleIn(path, this.#old);
      if (obstacle !== null) {
        throw new KQTimeError("E_OUTPUT", "open", `"${path}" ${obstacle}: name another`);
      }
      this.#fd = openPrivate(this.#partPath, { exclusive: true }).fd;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Called after each row group. */
  flush(): void {
    const bytes = new Uint8Array(this.buffer, 0, this.index);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failed(error);
    }
    this.index = 0;
  }

  override finish(): void {
    this.flush();
    try {
      if (this.#old !== undefined) this.#takeAfter(this.#old);
      this.#close();
      renameSync(this.#partPath, this.#path);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Takes the unfinished file away: without its end nobody can read it. */
  abandon(): void {
    try {
      this.#close();
      unlinkSync(this.#partPath);
    } catch {
      // It is gone.
    }
  }

  /** Owner and mode of the file that is replaced. */
  #takeAfter({ uid, gid, mode }: Stats): void {
    try {
      fchownSync(this.#fd, uid, gid);
      fchmodSync(this.#fd, mode & 0o777);
    } catch {
      // Somebody else's, who let this user write to it: then it is this user's now, and private.
    }
  }

  #close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }

  #failed(error: unknown): KQTimeError {
    if (error instanceof KQTimeError) return error;
    const why = `"${this.#path}" cannot be written: ${reasonOf(error)}`;
    return new KQTimeError("E_OUTPUT", "write", why, undefined, { cause: error });
  }
}

/** Why what is there is not to be replaced: it may be a log, if the option's value was forgotten. */
function obstacleIn(path: string, stat: Stats): string | null {
  if (!stat.isFile()) return "is no regular file, which Parquet needs";
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
    const start = new Uint8Array(MAGIC.length);
    const count = fstatSync(fd).isFile() ? readSync(fd, start, 0, MAGIC.length, 0) : 1;
    const isParquet = count === 0 || new TextDecoder().decode(start) === MAGIC;
    return isParquet ? null : "exists and is no Parquet file: it is not overwritten";
  } catch (error) {
    return `cannot be replaced: ${reasonOf(error)}`;
  } finally {
    closeSync(fd);
  }
}
