// What a handle has registered, so that a reader of samples who comes later gets the same sockets:
// for the collector it is a handle of its own.

import { fstatSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { isListening } from "../ffi/descriptors.ts";
import { MessageType, type Preload } from "../ffi/preload.ts";
import { RuleFlag } from "../ring/layout.ts";
import { COMMAND } from "./collector-start.ts";
import { errorName } from "./errno.ts";
import { request } from "./request.ts";

/** Rules that a later reader is given; of more, the oldest are forgotten: peers come and go. */
const RULES_KEPT = 1024;
/** Asked for at once. */
const RULES_AT_ONCE = 64;
const ENOBUFS = 105;
const EPROTONOSUPPORT = 93;

interface Descriptor {
  /** Tells whether the descriptor still is that socket. */
  readonly inode: number;
  readonly name: string | null;
}

export class Registrations {
  readonly #preload: Preload;
  /** Handles at the collector: the main one, and one for each reader of samples. */
  readonly #handles = new Set<number>();
  readonly #descriptors = new Map<number, Descriptor>();
  /** The collector's text of a socket's address → name. */
  readonly #rules = new Map<string, string>();

  constructor(preload: Preload, handle: number) {
    this.#preload = preload;
    this.#handles.add(handle);
  }

  /** @throws KQTimeError `E_FD`, `E_UNSUPPORTED`, `E_RING_FULL` */
  register(fd: number, name: string | null): void {
    if (isListening(fd)) {
      throw new KQTimeError(
        "E_FD",
        "register",
        `register: descriptor ${fd} listens, and exchanges no bytes itself: \`registerPort\` ` +
          "measures the connections on its port",
      );
    }
    for (const handle of this.#handles) {
      const errno = this.#preload.register(handle, fd, name);
      if (errno !== 0) throw registerError(fd, errno);
    }
    this.#descriptors.set(fd, { inode: inodeOf(fd), name });
  }

  /** @throws KQTimeError `E_RING_FULL` */
  deregister(fd: number): void {
    this.#descriptors.delete(fd);
    for (const handle of this.#handles) {
      const errno = this.#preload.deregister(handle, fd);
      // A descriptor that is closed has nothing left to take back.
      if (errno === ENOBUFS) throw registerError(fd, errno);
    }
  }

  /** @throws KQTimeError as `request` */
  async addRule(address: string, name: string): Promise<void> {
    const before = this.#rules.get(address);
    // Known before the answer: a reader that comes meanwhile is given it too.
    this.#rules.delete(address);
    this.#rules.set(address, name);
    if (this.#rules.size > RULES_KEPT) this.#rules.delete(this.#rules.keys().next().value!);
    try {
      await this.#rule(address, name, 0);
    } catch (error) {
      if (before === undefined) this.#rules.delete(address);
      else this.#rules.set(address, before);
      throw error;
    }
  }

  /** @throws KQTimeError as `request` */
  async removeRule(address: string): Promise<void> {
    this.#rules.delete(address);
    await this.#rule(address, "", RuleFlag.Remove);
  }

  /** From now on another handle gets the same sockets. @throws KQTimeError as `request` */
  async follow(handle: number): Promise<void> {
    this.#handles.add(handle);
    for (const [fd, { inode, name }] of this.#descriptors) {
      if (inodeOf(fd) === inode) this.#preload.register(handle, fd, name);
      else this.#descriptors.delete(fd);
    }
    const type = MessageType.Rule;
    const texts = Array.from(this.#rules, ([address, name]) => `${address} ${name}`);
    for (let at = 0; at < texts.length; at += RULES_AT_ONCE) {
      const some = texts.slice(at, at + RULES_AT_ONCE);
      const asked = some.map((text) => request(this.#preload, "samples", { type, handle, text }));
      await Promise.all(asked);
    }
  }

  unfollow(handle: number): void {
    this.#handles.delete(handle);
  }

  async #rule(address: string, name: string, flags: number): Promise<void> {
    const type = MessageType.Rule;
    const text = `${address} ${name}`;
    const asked = Array.from(this.#handles, (handle) =>
      request(this.#preload, "register", { type, handle, flags, text }),
    );
    await Promise.all(asked);
  }
}

function registerError(fd: number, errno: number): KQTimeError {
  const why = errorName(errno);
  if (errno === ENOBUFS) {
    return new KQTimeError(
      "E_RING_FULL",
      "register",
      "the ring between this process and its collector is full: is the collector stopped? " +
        `A larger one (\`${COMMAND} run --ring\`) holds longer`,
    );
  }
  if (errno === EPROTONOSUPPORT) {
    const text = `descriptor ${fd} is no TCP socket over IP, and only those are measured`;
    return new KQTimeError("E_UNSUPPORTED", "register", text);
  }
  return new KQTimeError("E_FD", "register", `descriptor ${fd} cannot be registered: ${why}`);
}

function inodeOf(fd: number): number {
  try {
    return fstatSync(fd).ino;
  } catch {
    return 0;
  }
}
