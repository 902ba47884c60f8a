// The file that Parquet is written to, row group after row group: what is written does not stay in
// memory. Private as a log is, since it says as much.

import { closeSync, fstatSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { ByteWriter } from "hyparquet-writer";
import { KQTimeError } from "../errors.ts";
import { errnoOf, openPrivate, type OpenedFile, reasonOf } from "../output/open-file.ts";

const MAGIC = "PAR1";

export class ParquetFile extends ByteWriter {
  readonly #path: string;
  readonly #file: OpenedFile;

  /**
   * Opens `path`, and empties it if it is a Parquet file; any other is left as it is.
   * @throws KQTimeError `E_OUTPUT`
   */
  constructor(path: string) {
    super(1 << 20);
    this.#path = path;
    if (holdsSomethingElse(path)) {
      throw new KQTimeError(
        "E_OUTPUT",
        "open",
        `"${path}" exists and is no Parquet file: it is not overwritten, name another`,
      );
    }
    try {
      this.#file = openPrivate(path);
      // A pipe needs no emptying: Parquet is written from its beginning to its end.
      if (fstatSync(this.#file.fd).isFile() && !this.#file.borrowed) ftruncateSync(this.#file.fd, 0);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Called after each row group. */
  flush(): void {
    const bytes = new Uint8Array(this.buffer, 0, this.index);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#file.fd, bytes, done);
    } catch (error) {
      throw this.#failed(error);
    }
    this.index = 0;
  }

  override finish(): void {
    this.flush();
    closeSync(this.#file.fd);
  }

  /** Takes the unfinished file away: without its end nobody can read it. */
  abandon(): void {
    try {
      closeSync(this.#file.fd);
      if (this.#file.created) unlinkSync(this.#path);
    } catch {
      // It was closed, or is gone.
    }
  }

  #failed(error: unknown): KQTimeError {
    const why = `"${this.#path}" cannot be written: ${reasonOf(error)}`;
    return new KQTimeError("E_OUTPUT", "write", why, undefined, { cause: error });
  }
}

/** Whether there is a file that was no Parquet file: a log, if the option's value was forgotten. */
function holdsSomethingElse(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    // One that cannot be read cannot be judged: opening it for writing will tell.
    return errnoOf(error) === "EACCES";
  }
  try {
    const start = new Uint8Array(MAGIC.length);
    const count = readSync(fd, start, 0, MAGIC.length, 0);
    return count > 0 && new TextDecoder().decode(start) !== MAGIC;
  } catch {
    return true;
  } finally {
    closeSync(fd);
  }
}
