// The file a picture is written to: opened before a long log is read, so that it fails early, and
// overwritten when the picture is there. Private to its user, as the log is.

import { closeSync, ftruncateSync, unlinkSync, writeSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { openPrivate, type OpenedFile, reasonOf } from "../output/open-file.ts";

export class PictureFile {
  readonly #file: OpenedFile;

  /** @throws KQTimeError `E_FILE` */
  constructor(readonly path: string) {
    try {
      this.#file = openPrivate(path);
    } catch (error) {
      throw this.#failed("open", "cannot be written", error);
    }
  }

  /** Replaces the contents and closes. @throws KQTimeError `E_FILE` */
  write(contents: Uint8Array): void {
    const { fd } = this.#file;
    try {
      this.#empty();
      for (let at = 0; at < contents.length;) at += writeSync(fd, contents, at);
    } catch (error) {
      throw this.#failed("write", "is incomplete", error);
    } finally {
      closeSync(fd);
    }
  }

  #empty(): void {
    try {
      ftruncateSync(this.#file.fd, 0);
    } catch {
      // A pipe has no length.
    }
  }

  /** Leaves the file as it was before. */
  discard(): void {
    closeSync(this.#file.fd);
    if (this.#file.created) unlinkSync(this.path);
  }

  #failed(op: string, what: string, error: unknown): KQTimeError {
    const why = `the picture "${this.path}" ${what}: ${reasonOf(error)}`;
    return new KQTimeError("E_FILE", op, why, undefined, { cause: error });
  }
}
