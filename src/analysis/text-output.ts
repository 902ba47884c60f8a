// Text to standard output, or to any descriptor, in large pieces. Whoever reads it may leave
// (`| head`): that is no error, but the end of the work.

import { writeSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { errnoOf, reasonOf } from "../output/open-file.ts";
import { LineBuffer } from "../output/line.ts";

const STDOUT = 1;
const BUFFER_BYTES = 1 << 18;
const SLOW_READER_MS = 2;

export class TextOutput {
  /** Text is put here; `room` must be asked for before. */
  readonly text = new LineBuffer(BUFFER_BYTES, 0);
  /** Nobody reads any more. */
  closed = false;

  constructor(private readonly fd = STDOUT) {}

  /** Makes sure that `bytes` (less than 256 KiB) fit into `text`. */
  room(bytes: number): void {
    if (this.text.room < bytes) this.flush();
  }

  /** Writes a string of any length. */
  put(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.flush();
    this.#write(bytes, bytes.length);
  }

  /** @throws KQTimeError `E_OUTPUT` if it cannot be written (a full disk) */
  flush(): void {
    this.#write(this.text.bytes, this.text.length);
    this.text.length = 0;
  }

  #write(bytes: Uint8Array, length: number): void {
    for (let done = 0; done < length && !this.closed; ) {
      try {
        done += writeSync(this.fd, bytes, done, length - done);
      } catch (error) {
        const code = errnoOf(error);
        if (code === "EINTR") continue;
        if (code === "EPIPE") {
          this.closed = true;
        } else if (code === "EAGAIN") {
          // A pipe that another program has made non-blocking.
          Bun.sleepSync(SLOW_READER_MS);
        } else {
          const why = `standard output cannot be written: ${reasonOf(error)}`;
          throw new KQTimeError("E_OUTPUT", "write", why, undefined, { cause: error });
        }
      }
    }
  }
}
