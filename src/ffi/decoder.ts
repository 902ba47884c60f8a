// What the three decompressors (libz, libzstd, liblzma) have in common. They decode from one buffer
// of the caller's into another, as much as fits: a decompression bomb costs time, never memory.

export interface Decoder {
  /** Bytes of input that the last `decode` took. */
  readonly consumed: number;
  /** Between two members (gzip), frames (zstd) or streams (xz): the input may end here. */
  readonly between: boolean;
  /** What was wrong, after `decode` returned -1. */
  readonly failure: string;
  /**
   * Decodes `input[from … to)` into `output[at … at + room)` and returns the bytes written; -1 if
   * the input is damaged. Both are views on ArrayBuffers of their own (their memory must not move).
   */
  decode(
    input: Uint8Array,
    from: number,
    to: number,
    output: Uint8Array,
    at: number,
    room: number,
  ): number;
  /** Forgets what was begun: the next input byte is the first of a member, frame or stream. */
  restart(): void;
  /** Gives the library's memory back. */
  close(): void;
}
