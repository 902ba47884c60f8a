// The session's folder: it holds nothing but the socket through which processes of the target hand
// over their rings, and the FIFO in which those leave a word that cannot reach it. It is gone with the
// session.

import {
  accessSync,
  chmodSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { CountedFifo } from "../ffi/fifo.ts";
import { MessageListener, processExists, unixSocketAnswers } from "../ffi/libc.ts";
import { KQTimeError } from "../errors.ts";
import { Constant } from "../ring/layout.ts";

const PREFIX = "kqtime-";
const FOLDER = /^kqtime-(\d+)-\w{6}$/;

export class SessionFolder {
  #closed = false;
  readonly #fifo: CountedFifo;

  private constructor(
    readonly path: string,
    readonly listener: MessageListener,
    /** Sent back by every process of the target; it is in their environment, which is private. */
    readonly token: string,
    fifo: CountedFifo,
  ) {
    this.#fifo = fifo;
  }

  /** @throws KQTimeError `E_SESSION` */
  static make(): SessionFolder {
    const base = baseFolder();
    sweep(base);
    try {
      const path = mkdtempSync(join(base, `${PREFIX}${process.pid}-`));
      return SessionFolder.#listen(path, randomHex(12), randomHex(16));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new KQTimeError("E_SESSION", "mkdtemp", `no session can be made in ${base}: ${why}`);
    }
  }

  /**
   * Makes the folder and the socket again that processes of an earlier session look for; null if
   * they are not where this user's sessions are, for what a process says of a path is its own word.
   */
  static again(socket: string, token: string): SessionFolder | null {
    const path = dirname(socket);
    if (!isExpected(socket) || token.length !== 32) return null;
    try {
      const there = lstatSync(path, { throwIfNoEntry: false });
      if (there === undefined) mkdirSync(path, { mode: 0o700 });
      else if (!there.isDirectory() || there.uid !== process.getuid?.()) return null;
      // Somebody has come in between.
      if (unixSocketAnswers(socket)) return null;
      rmSync(socket, { force: true });
      rmSync(fifoPath(path, token), { force: true });
      return SessionFolder.#listen(path, basename(socket), token);
    } catch {
      return null;
    }
  }

  static #listen(path: string, name: string, token: string): SessionFolder {
    // Processes of the target may become other users: they may pass through, but not look. The
    // socket's name is the secret that lets only them find it.
    chmodSync(path, 0o711);
    const socket = join(path, name);
    const listener = new MessageListener(socket);
    chmodSync(socket, 0o666);
    try {
      return new SessionFolder(path, listener, token, new CountedFifo(fifoPath(path, token)));
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** Whether a collector of this user listens there; what is no path of ours is not touched. */
  static answers(socket: string): boolean {
    return isExpected(socket) && unixSocketAnswers(socket);
  }

  /** Path of the socket. */
  get socket(): string {
    return this.listener.path;
  }

  /** Processes that could not reach the socket, as far as they could say so. */
  get unheard(): number {
    return this.#fifo.count();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const path of [this.#fifo.path, this.socket]) {
      try {
        // While it listens: as soon as it does not, another collector may make all again.
        rmSync(path, { force: true });
      } catch {
        // A process of the same user has put something else there.
      }
    }
    this.#fifo.close();
    this.listener.close();
    try {
      rmdirSync(this.path);
    } catch {
      // Another collector has made it again, or the folder is gone.
    }
  }
}

/** Not named in /proc/net/unix, as the socket is: only who has the token finds it. */
function fifoPath(folder: string, token: string): string {
  return join(folder, token.slice(0, Constant.unheardDigits));
}

/** Whether a path is one that a session of this user has. */
function isExpected(socket: string): boolean {
  const path = dirname(socket);
  const isOurs = dirname(path) === baseFolder() && FOLDER.test(basename(path));
  return isOurs && /^[0-9a-f]{24}$/.test(basename(socket));
}

/** Debian's unit hardening hides /tmp from services, but not /run. */
function baseFolder(): string {
  if (process.getuid?.() === 0) {
    try {
      // Not so for the root of a user namespace.
      accessSync("/run", constants.W_OK);
      return "/run";
    } catch {
      return tmpdir();
    }
  }
  return process.env.XDG_RUNTIME_DIR ?? tmpdir();
}

/** Removes what collectors left that were killed. */
function sweep(base: string): void {
  let names: string[];
  try {
    names = readdirSync(base);
  } catch {
    return;
  }
  for (const name of names) {
    const pid = FOLDER.exec(name)?.[1];
    if (pid === undefined || processExists(Number(pid))) continue;
    const path = join(base, name);
    try {
      // In a folder that is shared the name proves nothing: others' are not even looked into.
      const found = lstatSync(path);
      if (!found.isDirectory() || found.uid !== process.getuid?.()) continue;
      // Another collector may have taken that session over.
      if (readdirSync(path).some((socket) => unixSocketAnswers(join(path, socket)))) continue;
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Another's, or gone already.
    }
  }
}

function randomHex(bytes: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");
}
