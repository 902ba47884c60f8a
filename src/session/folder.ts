// The session's folder: it holds nothing but the socket through which processes of the target hand
// over their rings, and the FIFO in which those leave a word that cannot reach it. It is gone with the
// session.

import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  type Stats,
  statSync,
  unlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join } from "node:path";
import { CountedFifo } from "../ffi/fifo.ts";
import { MessageListener, processExists, unixSocketAnswers } from "../ffi/libc.ts";
import { KQTimeError } from "../errors.ts";
import { O_CLOEXEC, O_PATH, reasonOf } from "../output/open-file.ts";
import { Constant } from "../ring/layout.ts";

const PREFIX = "kqtime-";
const FOLDER = /^kqtime-(\d+)-\w{6}$/;
/** How long a collector may take from its folder to its socket. */
const GRACE_MS = 10_000;

export class SessionFolder {
  #closed = false;
  readonly #fifo: CountedFifo;

  private constructor(
    readonly path: string,
    /** The folder itself: its path may come to lead elsewhere, or to nothing. */
    private readonly fd: number,
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
      const why = error instanceof KQTimeError ? error.message : reasonOf(error);
      const where = process.getuid?.() === 0 ? "TMPDIR" : "XDG_RUNTIME_DIR or TMPDIR";
      throw new KQTimeError(
        "E_SESSION",
        "mkdtemp",
        `no session folder can be made in ${base}: ${why}; set ${where} to one that can be written to`,
        undefined,
        { cause: error },
      );
    }
  }

  /**
   * Makes the folder and the socket again that processes of an earlier session look for; null if
   * they are not where this user's sessions are, for what a process says of a path is its own word.
   */
  static again(socket: string, token: string): SessionFolder | null {
    const path = dirname(socket);
    if (!isExpected(socket) || !/^[0-9a-f]{32}$/.test(token)) return null;
    try {
      const there = lstatSync(path, { throwIfNoEntry: false });
      if (there === undefined) mkdirSync(path, { mode: 0o700 });
      else if (!there.isDirectory() || there.uid !== process.getuid?.()) return null;
      // Somebody has come in between.
      if (unixSocketAnswers(socket)) return null;
      return SessionFolder.#listen(path, basename(socket), token);
    } catch {
      return null;
    }
  }

  static #listen(path: string, name: string, token: string): SessionFolder {
    // Processes of the target may become other users: they may pass through, but not look. The
    // socket's name is the secret that lets only them find it.
    const { O_DIRECTORY, O_NOFOLLOW } = constants;
    const fd = openSync(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    let listener: MessageListener | undefined;
    try {
      chmodSync(within(fd, "."), 0o711);
      for (const each of [name, fifoName(token)]) rmSync(within(fd, each), { force: true });
      listener = new MessageListener(join(path, name));
      chmodSync(within(fd, name), 0o666);
      return new SessionFolder(path, fd, listener, token, new CountedFifo(within(fd, fifoName(token))));
    } catch (error) {
      listener?.close();
      closeSync(fd);
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
    for (const name of [fifoName(this.token), basename(this.socket)]) {
      try {
        // While it listens: as soon as it does not, another collector may make all again.
        unlinkSync(within(this.fd, name));
      } catch {
        // A process of the same user has put something else there, or taken it away.
      }
    }
    this.#fifo.close();
    this.listener.close();
    try {
      if (isSame(lstatSync(this.path), fstatSync(this.fd))) rmdirSync(this.path);
    } catch {
      // Another collector has made it again, or the folder is gone.
    }
    closeSync(this.fd);
  }
}

/** A name in the folder that a descriptor stands for, wherever it is by now. */
function within(fd: number, name: string): string {
  return `/proc/self/fd/${fd}/${name}`;
}

function isSame(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

/** Not listed in /proc/net/unix, as the socket is: only who has the token finds it. */
function fifoName(token: string): string {
  return token.slice(0, Constant.unheardDigits);
}

/** Whether a path is one that a session of this user has. */
function isExpected(socket: string): boolean {
  const path = dirname(socket);
  const isOurs = dirname(path) === baseFolder() && FOLDER.test(basename(path));
  return isOurs && /^[0-9a-f]{24}$/.test(basename(socket));
}

/** Debian's unit hardening hides /tmp from services, but not /run. */
function baseFolder(): string {
  const isRoot = process.getuid?.() === 0;
  const { XDG_RUNTIME_DIR: own = "" } = process.env;
  if (isRoot && isWritable("/run")) return "/run";
  if (!isRoot && isOurs(own) && isWritable(own)) return own;
  return isAbsolute(tmpdir()) ? tmpdir() : "/tmp";
}

/** Not so of /run for the root of a user namespace. */
function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A relative path counts for nothing, and one that su(1) left is another user's (XDG Base Directory). */
function isOurs(path: string): boolean {
  try {
    const found = statSync(path);
    return isAbsolute(path) && found.isDirectory() && found.uid === process.getuid?.();
  } catch {
    return false;
  }
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
    if (pid === undefined) continue;
    const path = join(base, name);
    try {
      // In a folder that is shared the name proves nothing: others' are not even looked into.
      const found = lstatSync(path);
      if (!found.isDirectory() || found.uid !== process.getuid?.()) continue;
      // Whoever it is by now: a pid comes again, and another collector may take a session over.
      if (readdirSync(path).some((socket) => unixSocketAnswers(join(path, socket)))) continue;
      if (mayBeStarting(Number(pid)) && Date.now() - found.mtimeMs < GRACE_MS) continue;
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Another's, or gone already.
    }
  }
}

/** Not this process: in a container each has the pid of the one before. */
function mayBeStarting(pid: number): boolean {
  return pid !== process.pid && processExists(pid);
}

function randomHex(bytes: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");
}
