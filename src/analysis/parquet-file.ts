// The file that Parquet is written to, row group after row group: what is written does not stay in
// memory.

import { ByteWriter } from "hyparquet-writer";
import { WholeFile } from "../output/whole-file.ts";

const KIND = { name: "Parquet file", beginning: "PAR1" };

export class ParquetFile extends ByteWriter {
  readonly #file: WholeFile;

  /** @throws KQTimeError `E_OUTPUT`, as all that follows does */
  constructor(path: string) {
    super(1 << 20);
    this.#file = new WholeFile(path, KIND);
  }

  /** Called after each row group. */
  flush(): void {
    this.#file.write(new Uint8Array(this.buffer, 0, this.index));
    this.index = 0;
  }

  override finish(): void {
    this.flush();
    this.#file.finish();
  }

  abandon(): void {
    this.#file.abandon();
  }
}
