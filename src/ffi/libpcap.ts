// Packets from libpcap, live or from a savefile, one at a time and without callbacks: a poll of
// pcap_next_ex(3pcap) and two copies into memory that never moves. (Callbacks from C cost as much
// and cannot be bounded; libpcap's own memory is only valid until the next call.)

import type { Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { interfaceDrops } from "./netlink.ts";
import { PacketDump } from "./pcap-dump.ts";
import { installFilter, LinkType, OfflineFilter } from "./pcap-filter.ts";
import {
  activate,
  checkLinkType,
  chooseLinkType,
  mebibytes,
  ringBytes,
  unknownInterface,
} from "./pcap-open.ts";
import {
  errorText,
  handleError,
  pcap,
  PCAP_ERRBUF_SIZE,
  PCAP_ERROR_BREAK,
  PCAP_PKTHDR_BYTES,
  PCAP_TSTAMP_PRECISION_NANO,
  unwrap,
  type Pcap,
} from "./pcap-symbols.ts";

export { LinkType, OfflineFilter, PacketDump };

export interface LiveOptions {
  /** A device's name, or `any`. */
  readonly interface: string;
  /** pcap-filter(7), as the user wrote it. */
  readonly filter: string;
  /** Bytes kept of each packet, link-layer header included; 256 by default. */
  readonly snaplen?: number;
  /** The kernel's buffer. The kernel may give less: see `Capture.bufferBytes`. */
  readonly bufferBytes: number;
  /** After how long the kernel hands over a block that is not full; 0 is libpcap's own default. */
  readonly timeoutMs: number;
  /** Hand over each packet at once (more work a packet). */
  readonly immediate?: boolean;
}

export interface CaptureStats {
  /** Packets that passed the filter, dropped ones included. */
  received: number;
  /** Passed the filter, but the kernel's buffer was full. */
  droppedKernel: number;
  /** Lost before any tap, in the interface itself: the application never had them either. */
  droppedInterface: number;
}

/** Where a capture stands. */
export const CaptureState = {
  Running: 0,
  /** The savefile has no more packets. */
  Ended: 1,
  /** `failure` says why, for example that the interface disappeared. */
  Failed: 2,
  Closed: 3,
} as const;
export type CaptureState = (typeof CaptureState)[keyof typeof CaptureState];

export const SNAPLEN_DEFAULT = 256;
/** Cooked header, IPv6, TCP: below this, no TCP header would ever be whole. */
export const SNAPLEN_MINIMUM = 96;
/** libpcap's own maximum. */
export const SNAPLEN_MAXIMUM = 262_144;
/** Bytes given of a packet of a savefile: the deepest headers are far below this. */
const SAVEFILE_BYTES = 2048;
/** pcap_set_buffer_size takes an int; libpcap rounds up to whole frames within it. */
const BUFFER_MAX_BYTES = 0x7fff0000;
const ERROR_GRACE_MS = 100;
const INTERFACE_STATS_EVERY_MS = 1000;
const TWO_TO_32 = 2 ** 32;

/** libpcap's own version line. @throws KQTimeError `E_LIBRARY` */
export function libpcapVersion(): string {
  return pcap().pcap_lib_version() ?? "";
}

/** A handle that captures on a device. */
interface Opened {
  readonly handle: Pointer;
  readonly bufferBytes: number;
  readonly warnings: readonly string[];
  readonly judge: OfflineFilter | null;
}

export class Capture {
  /** A value of `LinkType`. */
  readonly linkType: number;
  /** The device, or the path of the savefile. */
  readonly name: string;
  readonly live: boolean;
  /** Selectable while live, -1 for a savefile. */
  fd: number;
  /** The kernel's buffer as granted; 0 for a savefile or if it cannot be told. */
  bufferBytes: number;
  /** What libpcap or the kernel did otherwise than asked, one line each; other ones after `reopen`. */
  warnings: readonly string[];
  /** The user's filter, for packets that only its widening let in (see pcap-filter.ts). */
  judge: OfflineFilter | null;
  /** The current packet. Stable: the same memory for each packet. */
  readonly bytes: Uint8Array;
  /** How much of `bytes` is the current packet's. */
  capturedBytes = 0;
  state: CaptureState = CaptureState.Running;
  failure: KQTimeError | null = null;

  // Out-parameters and copies live in ArrayBuffers of their own: a small typed array moves when
  // its buffer is first touched, and C would write to where it was.
  readonly #headerCell = new Uint32Array(new ArrayBuffer(8));
  readonly #dataCell = new Uint32Array(new ArrayBuffer(8));
  readonly #header = new Uint32Array(new ArrayBuffer(PCAP_PKTHDR_BYTES));
  readonly #statCell = new Uint32Array(new ArrayBuffer(12));
  readonly #lastStat = new Uint32Array(3);
  readonly #stats: CaptureStats = { received: 0, droppedKernel: 0, droppedInterface: 0 };
  #interfaceDropsAtStart = 0;
  #interfaceStatsAtMs = -Infinity;
  /** When errors began that no packet has followed, -1 if none did. */
  #errorSinceMs = -1;
  readonly #graceMs: number;
  /** Of a live capture. */
  readonly #options: LiveOptions | null;
  #handle: Pointer;
  readonly #nextEx: Pcap["pcap_next_ex"];
  readonly #memcpy: Pcap["memcpy"];

  private constructor(
    { handle, bufferBytes, warnings, judge }: Opened,
    name: string,
    bytes: number,
    options: LiveOptions | null,
  ) {
    const symbols = pcap();
    const live = options !== null;
    this.#handle = handle;
    this.#options = options;
    this.name = name;
    this.live = live;
    this.linkType = symbols.pcap_datalink(handle);
    this.fd = live ? symbols.pcap_get_selectable_fd(handle) : -1;
    this.bufferBytes = bufferBytes;
    this.warnings = warnings;
    this.judge = judge;
    this.#graceMs = ERROR_GRACE_MS + 4 * (options?.timeoutMs ?? 0);
    this.bytes = new Uint8Array(new ArrayBuffer(bytes));
    this.#nextEx = symbols.pcap_next_ex;
    this.#memcpy = symbols.memcpy;
    if (live) this.#interfaceDropsAtStart = this.#interfaceDrops();
  }

  /**
   * Opens a device, not promiscuous, non-blocking, with nanosecond stamps.
   * @throws KQTimeError `E_PCAP_PERMISSION`, `E_PCAP_INTERFACE`, `E_PCAP_FILTER`,
   *   `E_PCAP_MEMORY`, `E_PCAP_SNAPLEN`, `E_PCAP_LINKTYPE`, `E_PCAP`, `E_LIBRARY`
   */
  static live(options: LiveOptions): Capture {
    const snaplen = options.snaplen ?? SNAPLEN_DEFAULT;
    return new Capture(open(options, snaplen), options.interface, snaplen, options);
  }

  /**
   * Opens a savefile of pcap or pcapng format; stamps come as nanoseconds whatever it holds.
   * @throws KQTimeError `E_PCAP_FILE`, `E_PCAP_LINKTYPE`, `E_LIBRARY`
   */
  static savefile(path: string): Capture {
    const symbols = pcap();
    const errbuf = new Uint8Array(new ArrayBuffer(PCAP_ERRBUF_SIZE));
    const handle = symbols.pcap_open_offline_with_tstamp_precision(
      path,
      PCAP_TSTAMP_PRECISION_NANO,
      errbuf,
    ) as Pointer | null;
    if (handle === null) {
      const text = errorText(errbuf);
      const message = text.includes(path) ? text : `${path}: ${text}`;
      throw new KQTimeError("E_PCAP_FILE", "pcap_open_offline", message);
    }
    try {
      checkLinkType(handle, path);
      const opened = { handle, bufferBytes: 0, warnings: [], judge: null };
      return new Capture(opened, path, SAVEFILE_BYTES, null);
    } catch (error) {
      symbols.pcap_close(handle);
      throw error;
    }
  }

  /**
   * Advances to the next packet. False if there is none now, or ever: `state` tells.
   * Never throws, never blocks.
   */
  next(): boolean {
    if (this.state !== CaptureState.Running) return false;
    const result = this.#nextEx(this.#handle, this.#headerCell, this.#dataCell);
    if (result !== 1) return this.#stopped(result);
    this.#errorSinceMs = -1;
    const header = this.#header;
    this.#memcpy(header, (this.#headerCell[0] + this.#headerCell[1] * TWO_TO_32) as Pointer, 24);
    let length = header[4];
    if (length > this.bytes.length) length = this.bytes.length;
    this.#memcpy(
      this.bytes,
      (this.#dataCell[0] + this.#dataCell[1] * TWO_TO_32) as Pointer,
      length,
    );
    this.capturedBytes = length;
    return true;
  }

  /** The current packet's length on the wire, link-layer header included. */
  get wireBytes(): number {
    return this.#header[5];
  }

  /** Seconds of the Unix epoch. */
  get sec(): number {
    return this.#header[0] + (this.#header[1] | 0) * TWO_TO_32;
  }

  /** Nanoseconds within `sec`. */
  get nsec(): number {
    return this.#header[2];
  }

  #stopped(result: number): false {
    if (result === 0) return false;
    if (!this.live) {
      if (result === PCAP_ERROR_BREAK) this.state = CaptureState.Ended;
      else this.#fail("E_PCAP_FILE");
      return false;
    }
    // libpcap reports that the interface is gone before it hands over the block that the kernel
    // is still filling: an error counts once nothing more has come for a while.
    const nowMs = performance.now();
    if (this.#errorSinceMs < 0) this.#errorSinceMs = nowMs;
    else if (nowMs - this.#errorSinceMs >= this.#graceMs) this.#fail("E_PCAP_LOST");
    return false;
  }

  #fail(code: string): void {
    this.state = CaptureState.Failed;
    const text = `capture on ${this.name} stopped: ${handleError(this.#handle)}`;
    this.failure = new KQTimeError(code, "pcap_next_ex", text);
  }

  /**
   * Captures again on the device of this name, after a failure. False, and nothing has changed, if
   * there is none, or one of another kind.
   */
  reopen(): boolean {
    const options = this.#options;
    if (options === null || this.state !== CaptureState.Failed) return false;
    const symbols = pcap();
    let opened: Opened;
    try {
      opened = open(options, this.bytes.length);
    } catch {
      return false;
    }
    if (symbols.pcap_datalink(opened.handle) !== this.linkType) {
      opened.judge?.close();
      symbols.pcap_close(opened.handle);
      return false;
    }
    this.judge?.close();
    symbols.pcap_close(this.#handle);
    this.#handle = opened.handle;
    this.judge = opened.judge;
    this.bufferBytes = opened.bufferBytes;
    this.warnings = opened.warnings;
    this.fd = symbols.pcap_get_selectable_fd(opened.handle);
    // It counts from zero again, and so does the device.
    this.#lastStat.fill(0);
    this.#interfaceDropsAtStart = this.#interfaceDrops() - this.#stats.droppedInterface;
    this.#errorSinceMs = -1;
    this.failure = null;
    this.state = CaptureState.Running;
    return true;
  }

  /**
   * Counts since the start, the same object each time. Cheap (one system call); the interface's
   * own drops are looked up once a second. Never throws.
   */
  stats(): Readonly<CaptureStats> {
    const stats = this.#stats;
    if (!this.live || this.state === CaptureState.Closed) return stats;
    const now = this.#statCell;
    if (pcap().pcap_stats(this.#handle, now) === 0) {
      // libpcap counts in u32; differences stay right over their wrap.
      const last = this.#lastStat;
      stats.received += (now[0] - last[0]) >>> 0;
      stats.droppedKernel += (now[1] - last[1]) >>> 0;
      last[0] = now[0];
      last[1] = now[1];
    }
    const nowMs = performance.now();
    if (nowMs - this.#interfaceStatsAtMs >= INTERFACE_STATS_EVERY_MS) {
      this.#interfaceStatsAtMs = nowMs;
      const drops = this.#interfaceDrops() - this.#interfaceDropsAtStart;
      // Fewer than before means that an interface with drops has gone.
      if (drops > stats.droppedInterface) stats.droppedInterface = drops;
    }
    return stats;
  }

  /** Where rtnetlink is forbidden, these drops stay unknown and the capture goes on. */
  #interfaceDrops(): number {
    try {
      return interfaceDrops(this.name);
    } catch {
      return 0;
    }
  }

  /**
   * A savefile (nanosecond pcap) for packets of this capture; an existing one is overwritten,
   * a symbolic link refused, mode 0600.
   * @throws KQTimeError `E_PCAP_DUMP`
   */
  dumpTo(path: string): PacketDump {
    return new PacketDump(this.#handle, { header: this.#header, bytes: this.bytes }, path);
  }

  /** May be called twice. Dumps of this capture stay open. */
  close(): void {
    if (this.state === CaptureState.Closed) return;
    this.state = CaptureState.Closed;
    this.judge?.close();
    pcap().pcap_close(this.#handle);
  }
}

/** As `Capture.live`. @throws KQTimeError */
function open(options: LiveOptions, snaplen: number): Opened {
  const symbols = pcap();
  const name = options.interface;
  if (name === "" || name.includes("\0")) throw unknownInterface(name);
  if (!Number.isInteger(snaplen) || snaplen < SNAPLEN_MINIMUM || snaplen > SNAPLEN_MAXIMUM) {
    const range = `${SNAPLEN_MINIMUM} to ${SNAPLEN_MAXIMUM}`;
    const text = `a snaplen of ${snaplen} bytes cannot be had: ${range}`;
    throw new KQTimeError("E_PCAP_SNAPLEN", "pcap_set_snaplen", text);
  }
  if (!(options.bufferBytes > 0 && options.bufferBytes <= BUFFER_MAX_BYTES)) {
    throw new KQTimeError(
      "E_PCAP_MEMORY",
      "pcap_set_buffer_size",
      `a capture buffer of ${options.bufferBytes} bytes cannot be had: ask for less than 2 GiB`,
    );
  }
  const errbuf = new Uint8Array(new ArrayBuffer(PCAP_ERRBUF_SIZE));
  const handle = symbols.pcap_create(name, errbuf) as Pointer | null;
  if (handle === null) {
    throw new KQTimeError("E_PCAP", "pcap_create", `${name}: ${errorText(errbuf)}`);
  }
  let judge: OfflineFilter | null = null;
  try {
    unwrap(handle, "pcap_set_snaplen", symbols.pcap_set_snaplen(handle, snaplen));
    unwrap(handle, "pcap_set_promisc", symbols.pcap_set_promisc(handle, 0));
    unwrap(handle, "pcap_set_timeout", symbols.pcap_set_timeout(handle, options.timeoutMs));
    const immediate = options.immediate === true ? 1 : 0;
    unwrap(handle, "pcap_set_immediate_mode", symbols.pcap_set_immediate_mode(handle, immediate));
    const size = Math.ceil(options.bufferBytes);
    unwrap(handle, "pcap_set_buffer_size", symbols.pcap_set_buffer_size(handle, size));
    const precision = PCAP_TSTAMP_PRECISION_NANO;
    unwrap(
      handle,
      "pcap_set_tstamp_precision",
      symbols.pcap_set_tstamp_precision(handle, precision),
    );
    const warnings: string[] = [];
    activate(handle, name, options.bufferBytes, warnings);
    const linkType = chooseLinkType(handle, name);
    unwrap(handle, "pcap_setnonblock", symbols.pcap_setnonblock(handle, 1, errbuf));
    const installed = installFilter(handle, linkType, snaplen, options.filter);
    judge = installed.judge;
    if (installed.warning !== null) warnings.push(installed.warning);
    const granted = ringBytes(symbols.pcap_get_selectable_fd(handle));
    if (granted !== 0 && granted < options.bufferBytes * 0.9) {
      warnings.push(
        `the kernel gave a capture buffer of ${mebibytes(granted)} MiB ` +
          `instead of ${mebibytes(options.bufferBytes)} MiB`,
      );
    }
    return { handle, bufferBytes: granted, warnings, judge };
  } catch (error) {
    judge?.close();
    symbols.pcap_close(handle);
    throw error;
  }
}
