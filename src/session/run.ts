// `kqtime run`: capture first, then the command, then the wait for its last bytes.

import { KQTimeError } from "../errors.ts";
import type { Summary } from "../output/summary.ts";
import { Env } from "../ring/layout.ts";
import { Bystanders } from "./bystanders.ts";
import { originalEnvironment, whyAltered } from "./environment.ts";
import { findCommand, whyUnmeasurable } from "./executable.ts";
import { type NativeParts, nativeParts } from "./paths.ts";
import { Session, type SessionOptions } from "./session.ts";
import { type Exit, exitCodeOf, passOn, Target, whyWithheld } from "./target.ts";
import { findUser, type User } from "./user.ts";

export interface RunOptions extends Omit<SessionOptions, "everything"> {
  readonly user: string | null;
  readonly drainMs: number;
  /** Run the command even if it cannot be measured. */
  readonly anyway: boolean;
}

export interface RunResult {
  readonly exitCode: number;
  /** Null if the command ran without being measured. */
  readonly summary: Summary | null;
  /** What it says of the session that was not told during the run. */
  readonly untold: readonly string[];
}

/** How long processes may outlive the command before the user is told what is waited for. */
const OUTLIVED_MS = 500;
const PIDS_NAMED = 8;

/** How often the command's descendants are looked over for such that are not measured. */
const LOOK_EVERY_MS = 100;

/** @throws KQTimeError before the command is started, if it cannot be measured or run */
export async function run(options: RunOptions): Promise<RunResult> {
  const user = options.user === null ? null : findUser(options.user);
  const path = originalEnvironment().PATH;
  const program = findCommand(options.command[0]!, path);
  const uid = user?.uid ?? process.geteuid?.() ?? 0;
  const gid = user?.gid ?? process.getegid?.() ?? 0;
  const why = whyUnmeasurable(program, { uid, gid, path });
  refuse(options, "E_UNMEASURABLE", why, "and measures what it starts");
  refuse(options, "E_ENCODING", whyAltered(), "with other bytes in their place");
  const withheld = whyWithheld();
  if (withheld !== null) options.onWarning(withheld);
  if (originalEnvironment()[Env.socket] !== undefined) {
    options.onWarning("kqtime runs within a session of another kqtime: this one measures the command, that one does not");
  }
  let native: NativeParts;
  let session: Session;
  try {
    native = nativeParts();
    session = new Session({ ...options, everything: true });
  } catch (error) {
    if (!options.anyway || !(error instanceof KQTimeError)) throw error;
    options.onWarning(`${error.message}; running the command without measuring it`);
    return { exitCode: exitCodeOf(await runUnmeasured(options, user)), summary: null, untold: [] };
  }
  return new Run(options, user, session, native).run();
}

/** Ends a run for a reason, if there is one, unless the user wants it anyway. */
function refuse(options: RunOptions, code: string, why: string | null, anyway: string): void {
  if (why === null) return;
  if (!options.anyway) {
    throw new KQTimeError(code, "exec", `${why} (--anyway runs it, ${anyway})`);
  }
  options.onWarning(why);
}

async function runUnmeasured(options: RunOptions, user: User | null): Promise<Exit> {
  const target = new Target({
    launcher: nativeParts().launcher,
    preload: null,
    command: options.command,
    user,
    environment: {},
  });
  target.onWarning = options.onWarning;
  try {
    return await target.ended;
  } finally {
    target.release();
  }
}

/** A command under measurement. */
class Run {
  readonly #options: RunOptions;
  readonly #user: User | null;
  readonly #session: Session;
  readonly #native: NativeParts;
  readonly #bystanders = new Bystanders();
  #lookedAtMs = performance.now();

  constructor(options: RunOptions, user: User | null, session: Session, native: NativeParts) {
    this.#native = native;
    this.#options = options;
    this.#user = user;
    this.#session = session;
  }

  async run(): Promise<RunResult> {
    const { collector } = this.#session;
    const target = new Target({
      launcher: this.#native.launcher,
      preload: this.#native.preload,
      command: this.#options.command,
      user: this.#user,
      environment: this.#session.environment,
    });
    let failure: unknown = null;
    let stop = false;
    target.ended
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => collector.hurry());
    target.onWarning = this.#options.onWarning;
    target.onLateSignal = (signal) => {
      // The command is gone; what it left behind is told to end, or left alone and let go.
      if (signal === "SIGINT" || signal === "SIGQUIT") stop = true;
      else this.#signalOthers(signal);
    };
    try {
      await collector.run(() => {
        this.#lookAround(target.pid);
        return target.exit !== null || failure !== null;
      });
      if (failure !== null) {
        this.#session.discard();
        throw failure;
      }
      collector.round();
      const sinceMs = performance.now();
      let told = false;
      await collector.run(() => {
        const waiting = collector.rings.open > 0 && !stop;
        if (waiting && !told && performance.now() - sinceMs > OUTLIVED_MS) {
          const pids = collector.rings.processes();
          // On a machine with many processes it takes a while to know that none has the memory.
          told = pids.length > 0;
          if (told) {
            this.#options.onWarning(
              `the command has ended, but ${whoRuns(pids)}: the measurement ` +
                "goes on (Ctrl-C ends it, SIGTERM the processes)",
            );
          }
        }
        return !waiting;
      });
      // Where processes live on, there is no end to wait for.
      await (stop ? collector.detach() : collector.drain(this.#options.drainMs));
      for (const sentence of this.#bystanders.warnings()) this.#session.warn(sentence);
      const summary = this.#session.finish(target.exit!);
      return { exitCode: exitCodeOf(target.exit!), summary, untold: this.#session.untold };
    } finally {
      target.release();
      this.#session.close();
    }
  }

  #lookAround(root: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#lookedAtMs < LOOK_EVERY_MS) return;
    this.#lookedAtMs = nowMs;
    this.#bystanders.look(root, nowMs);
  }

  #signalOthers(signal: NodeJS.Signals): void {
    for (const pid of this.#session.collector.rings.processes()) {
      passOn(signal, pid, () => process.kill(pid, signal), this.#options.onWarning);
    }
  }
}

/** "3 of its processes (1, 2, 3) run on". */
function whoRuns(pids: readonly number[]): string {
  const listed = pids.length > PIDS_NAMED ? [...pids.slice(0, PIDS_NAMED), "…"] : pids;
  if (pids.length === 1) return `one of its processes (pid ${listed[0]}) runs on`;
  return `${pids.length} of its processes (pids ${listed.join(", ")}) run on`;
}
