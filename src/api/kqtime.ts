// The API of Bun programs that measure sockets of their own: initialise, register, deregister, free,
// as in C (c/kqtime.h), with the summary and the samples besides.

import { closeSync, fstatSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { KQTimeError } from "../errors.ts";
import { makeMemory, makePipe } from "../ffi/descriptors.ts";
import { MessageType, type Preload } from "../ffi/preload.ts";
import { openPrivate, reasonOf } from "../output/open-file.ts";
import type { Summary } from "../output/summary.ts";
import { OpenFlag } from "../ring/layout.ts";
import { checkCapacity, checkOpenOptions } from "./arguments.ts";
import {
  checkPort,
  descriptorOf,
  openDescriptorOf,
  type OpenOptions,
  type Peer,
  peerText,
  plainName,
  type Registrable,
  type SampleOptions,
} from "./options.ts";
import { Registrations } from "./registrations.ts";
import { request } from "./request.ts";
import type { Sample } from "./sample.ts";
import { Samples, type SampleSource } from "./samples.ts";
import { endSession, findPreload, withSession } from "./session.ts";

/** Of a long path, for messages: UTF-16 units, of which each has at most 3 bytes (textMax: 512). */
const PATH_SHOWN = 170;
/** Room for some 5,000 lines while the event loop is busy. */
const PIPE_BYTES = 1 << 20;

/**
 * A measurement of the sockets that this process registers: how long each byte waited in the kernel
 * between the program's call and the network device.
 *
 * The process must have been started under the preload library: by `kqtime run -- bun …`, whose
 * collector then takes the requests, or with `LD_PRELOAD=…/libkqtime-preload.so bun …`; then `open`
 * starts a collector (which needs CAP_NET_RAW), and `close` of the last handle ends it.
 */
export class KQTime {
  /** The log's path; null without one. */
  readonly log: string | null;
  readonly #preload: Preload;
  readonly #handle: number;
  readonly #flags: number;
  readonly #registrations: Registrations;
  readonly #readers = new Set<Samples>();
  #closing: Promise<void> | null = null;

  private constructor(preload: Preload, handle: number, flags: number, log: string | null) {
    this.#preload = preload;
    this.#handle = handle;
    this.#flags = flags;
    this.log = log;
    this.#registrations = new Registrations(preload, handle);
  }

  /**
   * Opens a measurement; fulfilled once packets are captured. It takes a few milliseconds where a
   * collector runs, else some 0.2 to 1 s, and never holds up the event loop.
   *
   * @throws KQTimeError
   * - `E_ARGUMENT`: an option that there is not, or of a wrong type.
   * - `E_PLATFORM`: not Linux.
   * - `E_NOT_PRELOADED`: the process was not started under the preload library.
   * - `E_VERSION`: it was, but under one of another version of kqtime.
   * - `E_LOG`: the log cannot be opened.
   * - `E_COLLECTOR`: there is no collector, or it cannot capture (its own words: privilege,
   *   interface, filter, …).
   * - `E_JOIN`: this process can have no memory for its records.
   * - `E_REFUSED`, `E_COLLECTOR_GONE`, `E_TIMEOUT`: the collector refuses, has ended, or hangs.
   */
  static async open(options: OpenOptions = {}): Promise<KQTime> {
    checkOpenOptions(options);
    const preload = findPreload();
    const { stats = false, inbound = true, outbound = true } = options;
    const flags =
      (stats ? OpenFlag.Stats : 0) | (inbound ? OpenFlag.In : 0) | (outbound ? OpenFlag.Out : 0);
    const log = options.log === undefined ? null : resolve(options.log);
    const fd = log === null ? -1 : openLog(log);
    try {
      const started = { interface: options.interface, filter: options.filter };
      return await withSession(preload, started, async () => {
        const { handle } = await request(preload, "open", {
          type: MessageType.Open,
          handle: 0,
          flags: flags | (log?.endsWith(".gz") === true ? OpenFlag.Gzip : 0),
          fd,
          text: (log ?? "").slice(-PATH_SHOWN),
        });
        return new KQTime(preload, handle, flags, log);
      });
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }

  /**
   * Measures a TCP socket from now on; one that is not connected yet from its first byte. The order
   * against the program's own calls is exact: what it sends in the next statement is measured. A
   * descriptor that is closed and used again is not measured again. Registering again renames.
   *
   * A listening socket is refused: `registerPort` measures what it accepts.
   *
   * @param socket a descriptor, or a socket of `Bun.listen`, `Bun.connect`, `node:net`, `node:tls`
   * @param name label in the log and the summary; cut at 255 bytes of UTF-8; none: `NULL`
   * @throws KQTimeError `E_FD` (closed, not connected yet, listening, no socket), `E_UNSUPPORTED`
   *   (not TCP), `E_RING_FULL`, `E_ARGUMENT`, `E_CLOSED`
   */
  register(socket: Registrable, name?: string): void {
    this.#check("register");
    const fd = openDescriptorOf("register", socket);
    this.#registrations.register(fd, name === undefined ? null : plainName("register", name));
  }

  /**
   * Stops measuring a socket: bytes of later calls do not count. Without effect on one that is not
   * registered or is closed, and when this KQTime is closed: a socket's `close` handler may call it
   * at any time. It need not: what is closed is not measured.
   * @throws KQTimeError `E_RING_FULL`; `E_FD`, `E_UNSUPPORTED`, `E_ARGUMENT` for what is no socket
   */
  deregister(socket: Registrable): void {
    const fd = descriptorOf("deregister", socket);
    if (fd !== null && this.#closing === null) this.#registrations.deregister(fd);
  }

  /**
   * Measures the connections on a local TCP port, those that are open and those to come: for
   * `Bun.serve` and `node:http`, which tell no descriptor. In effect when it is fulfilled.
   * @param port 1 to 65535, for example `server.port`
   * @throws KQTimeError `E_PORT`, `E_ARGUMENT`, `E_CLOSED`, `E_REFUSED`, `E_COLLECTOR_GONE`,
   *   `E_TIMEOUT`
   */
  async registerPort(port: number, name: string): Promise<void> {
    this.#check("registerPort");
    const address = `port ${checkPort("registerPort", port)}`;
    await this.#registrations.addRule(address, plainName("registerPort", name));
  }

  /**
   * Takes `registerPort` back: bytes of later calls do not count.
   * @throws KQTimeError as `registerPort`
   */
  async deregisterPort(port: number): Promise<void> {
    this.#check("deregisterPort");
    await this.#registrations.removeRule(`port ${checkPort("deregisterPort", port)}`);
  }

  /**
   * Measures the connections with a remote address and port, as `server.requestIP(request)` gives
   * them; `::ffff:10.0.0.1`, as it gives for IPv4 over an IPv6 socket, is the same as `10.0.0.1`. In
   * effect when it is fulfilled. A client's is forgotten when its connection has ended; that
   * of a server, to which this program connects, holds for all connections to it. An iterator of
   * samples that is made later knows the latest 1,024 ports and peers.
   * @throws KQTimeError `E_PEER` (also for null: the request is over), `E_PORT`, and as
   *   `registerPort`
   */
  async registerPeer(peer: Peer | null, name: string): Promise<void> {
    this.#check("registerPeer");
    const address = `peer ${peerText("registerPeer", peer)}`;
    await this.#registrations.addRule(address, plainName("registerPeer", name));
  }

  /**
   * Takes `registerPeer` back: bytes of later calls do not count.
   * @throws KQTimeError as `registerPeer`
   */
  async deregisterPeer(peer: Peer | null): Promise<void> {
    this.#check("deregisterPeer");
    await this.#registrations.removeRule(`peer ${peerText("deregisterPeer", peer)}`);
  }

  /**
   * The summary of what was measured so far, up to this call: docs/summary.schema.json; all times
   * in it are nanoseconds, all sizes bytes. Bytes that were called and have not left count as in
   * flight. Takes some milliseconds.
   * @throws KQTimeError `E_CLOSED`, `E_REFUSED`, `E_COLLECTOR_GONE`, `E_TIMEOUT`
   */
  async snapshot(): Promise<Summary> {
    this.#check("snapshot");
    return this.#summaryOf(this.#handle);
  }

  /**
   * Samples as they are taken: one for each call that moved bytes on a registered socket, in the
   * directions that `open` asked for. Nothing is read or parsed unless this is called. What comes
   * while `capacity` samples wait for the reader is dropped and counted: `dropped` and `lost()`
   * tell.
   * @throws KQTimeError `E_CAPACITY`, `E_ARGUMENT`, `E_CLOSED`; the iterator throws what `open` throws
   */
  samples(options: SampleOptions = {}): Samples {
    this.#check("samples");
    const samples: Samples = new Samples(checkCapacity(options), this.#openSource(), () => {
      this.#readers.delete(samples);
    });
    this.#readers.add(samples);
    return samples;
  }

  /** `samples()`, for `for await (const sample of kq)`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Sample, undefined> {
    return this.samples();
  }

  /**
   * Ends the measurement: waits for bytes that are still in send queues (a second at most), writes
   * the books to the log and closes it, and ends the iterators of samples. Calling it again has no
   * effect but to wait for the same end. A program that exits without it leaves a complete log too.
   *
   * It is fulfilled also where the collector was killed or does not answer: a service must end all
   * the same. A warning of the process tells then (`process.on("warning")`, by default a line on
   * stderr): `name` is `KQTimeWarning`, `code` `E_COLLECTOR_GONE` or `E_TIMEOUT`. `E_INCOMPLETE`:
   * lines of the log could not be written, or sockets not be measured.
   */
  close(): Promise<void> {
    return (this.#closing ??= endSession(this.#preload, async () => {
      const asked = { type: MessageType.Free, handle: this.#handle };
      const free = request(this.#preload, "close", asked);
      // Handled below, and not before the readers have ended.
      free.catch(() => {});
      const readers = Array.from(this.#readers, (samples) => samples.close());
      await Promise.allSettled(readers);
      const answer = await free.catch(warn);
      if (answer !== undefined && answer.text !== "") {
        const options = { type: "KQTimeWarning", code: "E_INCOMPLETE" };
        process.emitWarning(`close: the measurement is not complete: ${answer.text}`, options);
      }
    }));
  }

  /** `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(op: string): void {
    if (this.#closing === null) return;
    throw new KQTimeError("E_CLOSED", op, `${op}: this KQTime is closed; open another one`);
  }

  async #summaryOf(handle: number): Promise<Summary> {
    const fd = makeMemory("kqtime-snapshot");
    try {
      await request(this.#preload, "snapshot", { type: MessageType.Snapshot, handle, fd });
      const bytes = new Uint8Array(new ArrayBuffer(fstatSync(fd).size));
      for (let at = 0; at < bytes.length; ) {
        at += readSync(fd, bytes, at, bytes.length - at, at);
      }
      return JSON.parse(new TextDecoder().decode(bytes)) as Summary;
    } finally {
      closeSync(fd);
    }
  }

  /** A handle of its own at the collector, whose log is a pipe. */
  async #openSource(): Promise<SampleSource> {
    const preload = this.#preload;
    const pipe = makePipe(PIPE_BYTES);
    let handle = 0;
    try {
      const type = MessageType.Open;
      const flags = this.#flags | OpenFlag.Pipe;
      const asked = { type, handle: 0, flags, fd: pipe.write, text: "samples" };
      handle = (await request(preload, "samples", asked)).handle;
      await this.#registrations.follow(handle);
    } catch (error) {
      closeSync(pipe.read);
      throw error;
    } finally {
      closeSync(pipe.write);
    }
    return {
      fd: pipe.read,
      linesLost: async () => (await this.#summaryOf(handle)).losses.logLines,
      free: async () => {
        this.#registrations.unfollow(handle);
        await request(preload, "samples", { type: MessageType.Free, handle });
      },
    };
  }
}

/** Tells what a program that ends its measurement can do nothing about. */
function warn(error: unknown): void {
  if (!(error instanceof KQTimeError)) throw error;
  process.emitWarning(error.message, { type: "KQTimeWarning", code: error.code });
}

/** @throws KQTimeError `E_LOG` */
function openLog(path: string): number {
  try {
    return openPrivate(path, { append: true }).fd;
  } catch (error) {
    const why = `log "${path}" cannot be opened: ${reasonOf(error)}`;
    throw new KQTimeError("E_LOG", "open", why, undefined, { cause: error });
  }
}
