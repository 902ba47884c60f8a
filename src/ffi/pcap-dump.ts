// Savefiles being written: pcap_dump(3pcap), headers only where the caller cuts them off.

import { closeSync, constants, openSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { handleError, pcap, PCAP_PKTHDR_BYTES, type Pcap } from "./pcap-symbols.ts";

/** In front of each packet in a savefile. */
const RECORD_HEAD_BYTES = 16;

/** The capture's current packet, in memory that stays where it is. */
export interface CurrentPacket {
  /** struct pcap_pkthdr as u32 words. */
  readonly header: Uint32Array;
  readonly bytes: Uint8Array;
}

/** A savefile being written. */
export class PacketDump {
  readonly path: string;
  /** Written since the last flush. */
  unflushedBytes = 0;
  readonly #current: CurrentPacket;
  readonly #header = new Uint32Array(new ArrayBuffer(PCAP_PKTHDR_BYTES));
  readonly #dump: Pcap["pcap_dump"];
  #dumper: Pointer | null;

  /** Use `Capture.dumpTo`. @throws KQTimeError `E_PCAP_DUMP` */
  constructor(handle: Pointer, current: CurrentPacket, path: string) {
    this.path = path;
    this.#current = current;
    this.#dump = pcap().pcap_dump;
    let fd: number;
    try {
      const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
      fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new KQTimeError("E_PCAP_DUMP", "open", `${path}: ${text}`, undefined, { cause });
    }
    try {
      // libpcap opens by name: through the descriptor it is surely the file that was just made.
      this.#dumper = pcap().pcap_dump_open(handle, `/proc/self/fd/${fd}`) as Pointer | null;
    } finally {
      closeSync(fd);
    }
    if (this.#dumper === null) {
      const text = `${path}: ${handleError(handle)}`;
      throw new KQTimeError("E_PCAP_DUMP", "pcap_dump_open", text);
    }
  }

  /** Appends the capture's current packet, cut to its first `capturedBytes`. */
  write(capturedBytes: number): void {
    if (this.#dumper === null) return;
    const header = this.#header;
    const { header: source, bytes } = this.#current;
    const available = source[4] < bytes.length ? source[4] : bytes.length;
    header[0] = source[0];
    header[1] = source[1];
    header[2] = source[2];
    header[3] = source[3];
    header[4] = capturedBytes < available ? capturedBytes : available;
    header[5] = source[5];
    this.#dump(this.#dumper, header, bytes);
    this.unflushedBytes += RECORD_HEAD_BYTES + header[4];
  }

  /** @throws KQTimeError `E_PCAP_DUMP` if something could not be written, now or before. */
  flush(): void {
    if (this.#dumper === null) return;
    this.unflushedBytes = 0;
    const symbols = pcap();
    const flushed = symbols.pcap_dump_flush(this.#dumper) === 0;
    if (flushed && symbols.ferror(symbols.pcap_dump_file(this.#dumper) as Pointer) === 0) return;
    const text = `${this.path} could not be written, packets are missing in it (a full disk?)`;
    throw new KQTimeError("E_PCAP_DUMP", "pcap_dump_flush", text);
  }

  /** Flushes and closes; may be called twice. @throws KQTimeError `E_PCAP_DUMP` */
  close(): void {
    if (this.#dumper === null) return;
    try {
      this.flush();
    } finally {
      pcap().pcap_dump_close(this.#dumper);
      this.#dumper = null;
    }
  }
}
