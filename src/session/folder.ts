// The session's folder: it holds nothing but the socket through which processes of the target hand
// over their rings, and is gone with the session.

import { accessSync, chmodSync, constants, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageListener, processExists } from "../ffi/libc.ts";
import { KQTimeError } from "../errors.ts";

const PREFIX = "kqtime-";

export class SessionFolder {
  readonly path: string;
  readonly listener: MessageListener;
  /** Sent back by every process of the target; it is in their environment, which is private. */
  readonly token = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex");

  /** @throws KQTimeError `E_SESSION` */
  constructor() {
    const base = baseFolder();
    sweep(base);
    try {
      this.path = mkdtempSync(join(base, `${PREFIX}${process.pid}-`));
      // Processes of the target may become other users: they may pass through, but not look. The
      // socket's name is the secret that lets only them find it.
      chmodSync(this.path, 0o711);
      const socket = join(this.path, Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("hex"));
      this.listener = new MessageListener(socket);
      chmodSync(socket, 0o666);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new KQTimeError("E_SESSION", "mkdtemp", `no session can be made in ${base}: ${why}`);
    }
  }

  /** Path of the socket. */
  get socket(): string {
    return this.listener.path;
  }

  close(): void {
    this.listener.close();
    rmSync(this.path, { recursive: true, force: true });
  }
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
    const pid = /^kqtime-(\d+)-\w{6}$/.exec(name)?.[1];
    if (pid === undefined || processExists(Number(pid))) continue;
    const path = join(base, name);
    try {
      if (statSync(path).uid === process.getuid?.()) rmSync(path, { recursive: true, force: true });
    } catch {
      // Another's, or gone already.
    }
  }
}
