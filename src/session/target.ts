// The measured command: started through the C launcher, which puts back what Bun changed and drops
// privileges; its signals and its end.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { constants } from "node:os";
import { ExitCode, KQTimeError } from "../errors.ts";
import { inForeground, openFlags } from "../ffi/libc.ts";
import { errnoOf } from "../output/open-file.ts";
import { originalEnvironment } from "./environment.ts";
import { findCommand, whyNoInterpreter } from "./executable.ts";
import type { User } from "./user.ts";

/** Signals that kqtime passes on; the terminal's own ones reach the target without help. */
const FORWARDED = ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const;
const FROM_TERMINAL = ["SIGINT", "SIGQUIT"] as const;
const SIGHUP_BIT = 1n << 0n;
const SIGPIPE_BIT = 1n << 12n;
const SIGXFSZ_BIT = 1n << 24n;
/** Descriptors beyond 2 that the launcher places; see c/launch.c. */
const FDS_MOST = 64;

export interface Launch {
  readonly launcher: string;
  /** The preload library; null to run the command without it. */
  readonly preload: string | null;
  readonly command: readonly string[];
  readonly user: User | null;
  readonly environment: Record<string, string>;
}

/** Sends a signal to a process that may have ended, or become another user's. */
export function passOn(
  signal: NodeJS.Signals,
  pid: number,
  send: () => void,
  warn: (message: string) => void,
): void {
  try {
    send();
  } catch (error) {
    if (errnoOf(error) !== "EPERM") return;
    warn(
      `${signal} cannot be passed on to process ${pid}, which another user runs (EPERM): send it ` +
        "yourself, or give kqtime CAP_KILL",
    );
  }
}

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

export class Target {
  exit: Exit | null = null;
  readonly ended: Promise<Exit>;
  readonly #child: Bun.Subprocess;
  readonly #user: User | null;
  readonly #undo: (() => void)[] = [];

  constructor(launch: Launch, ignored = ignoredSignals()) {
    const { user } = launch;
    this.#user = user;
    const argv = [launch.launcher];
    // Bun ignores SIGPIPE.
    if ((ignored & SIGPIPE_BIT) === 0n) argv.push("--sigdfl", "PIPE");
    if (ignored !== 0n) argv.push("--sigign", numbersOf(ignored).join(","));
    const fds = inheritedDescriptors().passed;
    if (fds.length > 0) argv.push("--fds", fds.join(","));
    const limits = openFileLimits();
    if (limits !== null) argv.push("--nofile", limits);
    if (user !== null) {
      argv.push("--uid", String(user.uid), "--gid", String(user.gid), "--user", user.name);
    }
    if (launch.preload !== null) argv.push("--preload", launch.preload);
    argv.push("--", ...launch.command);
    this.#child = Bun.spawn(argv, {
      env: { ...originalEnvironment(), ...launch.environment },
      stdio: ["inherit", "inherit", "inherit", "pipe", ...fds],
    });
    // A reader at the other end waits for the command alone.
    for (const fd of fds) closeSync(fd);
    this.ended = this.#child.exited.then(() => this.#end());
    // A command that was started with SIGHUP ignored (nohup) keeps it ignored.
    const hup = (ignored & SIGHUP_BIT) === 0n;
    for (const signal of FORWARDED) {
      if (signal !== "SIGHUP" || hup) this.#on(signal, () => this.#forward(signal));
    }
    for (const signal of FROM_TERMINAL) {
      this.#on(signal, () => {
        // Once the command has ended, a Ctrl-C is meant for kqtime.
        if (this.exit !== null || !isFromTerminal()) this.#forward(signal);
      });
    }
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** What to do with a signal once the command has ended, but other processes of it have not. */
  onLateSignal: (signal: NodeJS.Signals) => void = () => {};

  /** Told of a signal that did not reach the command. */
  onWarning: (message: string) => void = () => {};

  /** Signals are no longer caught. */
  release(): void {
    for (const undo of this.#undo) undo();
    this.#undo.length = 0;
  }

  #on(signal: NodeJS.Signals, handler: () => void): void {
    process.on(signal, handler);
    this.#undo.push(() => process.off(signal, handler));
  }

  #forward(signal: NodeJS.Signals): void {
    if (this.exit !== null) this.onLateSignal(signal);
    else passOn(signal, this.pid, () => this.#child.kill(signal), this.onWarning);
  }

  #end(): Exit {
    const failure = this.#launchFailure();
    if (failure !== null) throw failure;
    const { exitCode, signalCode } = this.#child;
    const exit: Exit = { code: exitCode, signal: signalCode === null ? null : String(signalCode) };
    this.exit = exit;
    return exit;
  }

  /** The launcher writes `errno operation path` to descriptor 3 if it did not get to the command. */
  #launchFailure(): KQTimeError | null {
    const fd = this.#child.stdio[3];
    if (typeof fd !== "number") return null;
    const bytes = new Uint8Array(new ArrayBuffer(4096));
    let length = 0;
    try {
      length = readSync(fd, bytes);
    } catch {
      return null;
    } finally {
      closeSync(fd);
    }
    if (length <= 0) return null;
    const [errno = "", op = "", ...rest] = new TextDecoder()
      .decode(bytes.subarray(0, length))
      .trim()
      .split(" ");
    const path = rest.join(" ");
    const name = errnoName(Number(errno));
    if (op === "preload") {
      return new KQTimeError(
        "E_PRELOAD",
        op,
        `the command's user cannot read ${path} (${name}): install kqtime where all users can read`,
      );
    }
    if (name === "EMFILE") {
      const why = "the command cannot be started with its open files: raise `ulimit -n`";
      return new KQTimeError("E_LAUNCH", op, `${why} (${name})`);
    }
    if (op === "exec") {
      const refusal = whyNotRun(path, name, this.#user);
      if (refusal !== null) return refusal;
    }
    const code = op !== "exec" ? ExitCode.Own : name === "ENOENT" ? ExitCode.NotFound : ExitCode.CannotRun;
    return new KQTimeError("E_LAUNCH", op, `${path}: ${op} failed (${name})`, code);
  }
}

/** Why execvp(3) refused a command, and what to do; null if there is no more to say than that. */
function whyNotRun(command: string, errno: string, user: User | null): KQTimeError | null {
  if (errno === "ENOENT") {
    const why = whyNoInterpreter(findCommand(command, originalEnvironment().PATH));
    return why === null ? null : new KQTimeError("E_LAUNCH", "exec", why, ExitCode.NotFound);
  }
  if (errno !== "EACCES") return null;
  const why =
    user === null
      ? `${command} cannot be run: permission denied (EACCES): is its interpreter executable, and its file system not mounted noexec?`
      : `${command} cannot be run by ${user.name}: permission denied (EACCES): that user needs the right to ` +
        "execute it and all folders above it (chmod, or a copy in /usr/local/bin)";
  return new KQTimeError("E_LAUNCH", "exec", why, ExitCode.CannotRun);
}

/** The exit code that stands for an end: the command's, or 128 + n for signal n. */
export function exitCodeOf(exit: Exit): number {
  if (exit.signal === null) return exit.code ?? ExitCode.Own;
  return 128 + (constants.signals[exit.signal as NodeJS.Signals] ?? 0);
}

/**
 * "soft:hard" as kqtime was started with, null if that is not known: Bun has raised its own soft limit
 * since. The hard one it has left as it was; what stands for the soft one may be beyond it, where it is
 * that of the process which started kqtime with less.
 */
function openFileLimits(): string | null {
  const own = limitsOf("self");
  const known = /^(\d+|unlimited):/.exec(process.env.KQTIME_NOFILE ?? "");
  const soft = known?.[1] ?? limitsOf(process.ppid)?.soft;
  if (own === null || soft === undefined) return null;
  const { hard } = own;
  const isBeyond = hard !== "unlimited" && !(Number(soft) <= Number(hard));
  return `${isBeyond ? hard : soft}:${hard}`;
}

/** A process's limits of open files, as the kernel writes them: a number or "unlimited". */
function limitsOf(pid: number | "self"): { soft: string; hard: string } | null {
  try {
    const limits = readFileSync(`/proc/${pid}/limits`, "latin1");
    const found = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(limits);
    return found === null ? null : { soft: found[1]!, hard: found[2]! };
  } catch {
    // Another user's process, for example under su.
    return null;
  }
}

/** Ignored signals, bit n - 1 for signal n; asked before any handler is installed. */
export function ignoredSignals(): bigint {
  const known = process.env.KQTIME_SIGIGN;
  if (known !== undefined && /^[0-9a-f]{1,16}$/.test(known)) return BigInt(`0x${known}`);
  const found = /^SigIgn:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "latin1"));
  // These two Bun ignores itself.
  return found === null ? 0n : BigInt(`0x${found[1]}`) & ~(SIGPIPE_BIT | SIGXFSZ_BIT);
}

function numbersOf(signals: bigint): number[] {
  return Array.from({ length: 64 }, (_, i) => i + 1).filter(
    (number) => (signals & (1n << BigInt(number - 1))) !== 0n,
  );
}

/** Which of the descriptors that kqtime was started with the command does not get; null: none. */
export function whyWithheld(): string | null {
  const { withheld } = inheritedDescriptors();
  if (withheld.length === 0) return null;
  const [which, are] = withheld.length === 1 ? ["descriptor", "is"] : ["descriptors", "are"];
  const limit = openFileLimits()?.split(":")[1];
  return (
    `${which} ${withheld.join(", ")} ${are} not handed on to the command: kqtime passes ${FDS_MOST} at the ` +
    `most, with numbers below the limit of open files (\`ulimit -n\`: ${limit})`
  );
}

/**
 * Descriptors beyond 2 that kqtime was started with and that are still open. One may have a number
 * beyond the limit, if that was lowered since it was opened: nobody can put it there again.
 */
function inheritedDescriptors(): { passed: number[]; withheld: number[] } {
  const known = process.env.KQTIME_FDS ?? "";
  if (!/^\d+(,\d+)*$/.test(known)) return { passed: [], withheld: [] };
  const open = known.split(",").map(Number).filter((fd) => fd > 2 && openFlags(fd) !== null);
  // "unlimited": no number is beyond it.
  const limit = Number(openFileLimits()?.split(":")[1]);
  const passed = open.filter((fd) => !(fd >= limit)).slice(0, FDS_MOST);
  return { passed, withheld: open.filter((fd) => !passed.includes(fd)) };
}

/** Ctrl-C in our terminal reaches the whole foreground group, the target included. */
function isFromTerminal(): boolean {
  let fd: number;
  try {
    fd = openSync("/dev/tty", "r");
  } catch {
    return false;
  }
  try {
    return inForeground(fd);
  } finally {
    closeSync(fd);
  }
}

function errnoName(number: number): string {
  for (const [name, value] of Object.entries(constants.errno)) if (value === number) return name;
  return `errno ${number}`;
}
