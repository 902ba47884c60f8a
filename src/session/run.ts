// `kqtime run`: capture first, then the command, then the wait for its last bytes.

import { readlinkSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { Capture } from "../ffi/libpcap.ts";
import type { LabelMode } from "../match/label-modes.ts";
import { Log } from "../output/log.ts";
import type { Summary } from "../output/summary.ts";
import { Env, Loss } from "../ring/layout.ts";
import type { Ring } from "../ring/ring.ts";
import { VERSION } from "../version.ts";
import { Bystanders } from "./bystanders.ts";
import { CAPTURE_TIMEOUT_MS, Collector } from "./collector.ts";
import { originalEnvironment, whyAltered } from "./environment.ts";
import { findCommand, whyUnmeasurable } from "./executable.ts";
import { SessionFolder } from "./folder.ts";
import { Join, type JoinEnd, type JoinSetup } from "./join.ts";
import { nativeParts } from "./paths.ts";
import { expectDifferent, JSON_SUMMARY, makePrivateFolder, PrivateFile } from "./private-file.ts";
import { Frame, makeHeadersFile, TapeWriter } from "./tape.ts";
import { type Exit, exitCodeOf, Target } from "./target.ts";
import { findUser, type User } from "./user.ts";

export interface RunOptions {
  readonly command: readonly string[];
  readonly log: string | null;
  readonly json: string | null;
  readonly record: string | null;
  readonly interface: string;
  readonly filter: string;
  readonly direction: "in" | "out" | "both";
  readonly label: LabelMode;
  readonly user: string | null;
  readonly drainMs: number;
  readonly bufferBytes: number;
  readonly slots: number;
  /** Run the command even if it cannot be measured. */
  readonly anyway: boolean;
  /** A sentence for the user, not the end of the run. */
  readonly onWarning: (message: string) => void;
}

export interface RunResult {
  readonly exitCode: number;
  /** Null if the command ran without being measured. */
  readonly summary: Summary | null;
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
  let session: Session;
  try {
    session = new Session(options, user);
  } catch (error) {
    if (!options.anyway || !(error instanceof KQTimeError)) throw error;
    options.onWarning(`${error.message}; running the command without measuring it`);
    return { exitCode: exitCodeOf(await runUnmeasured(options, user)), summary: null };
  }
  return session.run();
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
  try {
    return await target.ended;
  } finally {
    target.release();
  }
}

class Session {
  readonly #options: RunOptions;
  readonly #user: User | null;
  readonly #native = nativeParts();
  readonly #capture: Capture;
  readonly #folder: SessionFolder;
  readonly #log: Log | null = null;
  readonly #json: PrivateFile | null = null;
  readonly #tape: TapeWriter | null = null;
  readonly #join: Join;
  readonly #collector: Collector;
  readonly #warnings: string[] = [];
  readonly #pids = new Set<number>();
  readonly #netns = ownNamespace();
  readonly #bystanders = new Bystanders();
  #lookedAtMs = performance.now();
  #foreignRings = 0;

  constructor(options: RunOptions, user: User | null) {
    this.#options = options;
    this.#user = user;
    const baseSec = Math.floor(Date.now() / 1000);
    const undo: (() => void)[] = [];
    const warn = (message: string) => this.#warn(message);
    try {
      // Whatever can fail does so before the command is started, the capture first.
      const capture = Capture.live({
        interface: options.interface,
        filter: options.filter,
        bufferBytes: options.bufferBytes,
        timeoutMs: CAPTURE_TIMEOUT_MS,
      });
      this.#capture = capture;
      undo.push(() => capture.close());
      if (options.json !== null) {
        const json = new PrivateFile(options.json, JSON_SUMMARY);
        this.#json = json;
        undo.push(() => json.close());
      }
      if (options.log !== null) {
        const log = Log.open(options.log, { baseSec, onError: warn });
        this.#log = log;
        undo.push(() => log.close());
        if (this.#json !== null) {
          expectDifferent(
            { option: "--log", identity: log.identity },
            { option: "--json", identity: this.#json.identity },
          );
        }
      }
      const folder = new SessionFolder();
      this.#folder = folder;
      undo.push(() => folder.close());
      const setup: JoinSetup = {
        baseSec,
        startNs: (Date.now() - baseSec * 1000) * 1e6,
        direction: options.direction,
        label: options.label,
        command: [...options.command],
        version: VERSION,
      };
      if (options.record !== null) {
        makePrivateFolder(options.record);
        const tape = new TapeWriter(options.record, warn);
        this.#tape = tape;
        undo.push(() => tape.abandon());
        tape.text(Frame.Setup, setup);
      }
      this.#join = new Join(setup, this.#log);
      this.#collector = new Collector({
        engine: this.#join.engine,
        capture,
        listener: folder.listener,
        token: folder.token,
        baseSec,
        log: this.#log,
        tape: this.#tape,
        anyInterface: options.interface === "any",
        onWarning: warn,
      });
      if (options.record !== null) {
        const dump = capture.dumpTo(makeHeadersFile(options.record));
        this.#collector.source.dump = dump;
        this.#tape!.beforeFlush = () => dump.flush();
      }
      for (const warning of capture.warnings) warn(warning);
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
    this.#collector.rings.onAttach = (ring) => this.#attached(ring);
    this.#collector.rings.onReject = (message) => warn(message);
  }

  async run(): Promise<RunResult> {
    const collector = this.#collector;
    const target = new Target({
      launcher: this.#native.launcher,
      preload: this.#native.preload,
      command: this.#options.command,
      user: this.#user,
      environment: {
        [Env.socket]: this.#folder.socket,
        [Env.token]: this.#folder.token,
        [Env.slots]: String(this.#options.slots),
      },
    });
    let failure: unknown = null;
    let stop = false;
    target.ended
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => collector.hurry());
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
      if (failure !== null) throw failure;
      collector.round();
      const sinceMs = performance.now();
      let told = false;
      await collector.run(() => {
        const waiting = collector.rings.open > 0 && !stop;
        if (waiting && !told && performance.now() - sinceMs > OUTLIVED_MS) {
          told = true;
          this.#options.onWarning(
            `the command has ended, but ${whoRuns(collector.rings.processes())}: the measurement ` +
              "goes on (Ctrl-C ends it, SIGTERM the processes)",
          );
        }
        return !waiting;
      });
      await collector.drain(this.#options.drainMs);
      return this.#finish(target.exit!);
    } finally {
      target.release();
      this.#capture.close();
      this.#folder.close();
    }
  }

  #finish(exit: Exit): RunResult {
    const collector = this.#collector;
    const { rings, source } = collector;
    const losses = {
      ringRecords: rings.losses(Loss.RingFull),
      capturePackets: 0,
      interfacePackets: 0,
      badPackets: source.badPackets,
      memoryRecords: rings.losses(Loss.NoMemory),
      tableSockets: rings.losses(Loss.TableFull),
      descriptorSockets: rings.losses(Loss.FdRange),
      addressSockets: rings.losses(Loss.NoAddress),
      staleCalls: rings.losses(Loss.Stale),
      inheritedRings: rings.losses(Loss.NoRing),
      fragments: source.fragments,
    };
    rings.close();
    const stats = this.#capture.stats();
    losses.capturePackets = stats.droppedKernel;
    losses.interfacePackets = stats.droppedInterface;
    if (rings.withoutMemory > 0) {
      const slots = this.#options.slots;
      this.#warn(
        `${rings.withoutMemory} process${rings.withoutMemory === 1 ? "" : "es"} got no memory for a ring ` +
          `of ${slots} slots and ${rings.withoutMemory === 1 ? "was" : "were"} not measured: lower --ring, ` +
          "or raise the limits (ulimit -f, the memory cgroup)",
      );
    } else if (rings.attached === 0) {
      this.#warn(
        "no process loaded the preload library: nothing could be measured (does the command clear " +
          "its environment, or run as another user through sudo?)",
      );
    }
    if (this.#foreignRings > 0) {
      this.#warn(
        `${this.#foreignRings} process${this.#foreignRings === 1 ? "" : "es"} ran in another network ` +
          "namespace than the capture: run kqtime inside it (ip netns exec NAME kqtime run …)",
      );
    }
    const bystanders = this.#bystanders.warning();
    if (bystanders !== null) this.#warn(bystanders);
    const end: JoinEnd = {
      endNs: collector.nowNs(),
      exitCode: exit.code,
      signal: exit.signal,
      pids: [...this.#pids],
      losses,
      badRecords: rings.badRecords,
      warnings: this.#warnings,
    };
    this.#tape?.text(Frame.End, end);
    this.#tape?.close();
    try {
      source.dump?.close();
    } catch (error) {
      this.#options.onWarning(error instanceof Error ? error.message : String(error));
    }
    const summary = this.#join.finish(end);
    try {
      this.#json?.write(`${JSON.stringify(summary, null, 2)}\n`);
    } catch (error) {
      this.#options.onWarning(error instanceof Error ? error.message : String(error));
    }
    return { exitCode: exitCodeOf(exit), summary };
  }

  #attached(ring: Ring): void {
    this.#pids.add(ring.pid);
    if (this.#netns !== 0n && ring.namespaceInode !== 0n && ring.namespaceInode !== this.#netns) {
      this.#foreignRings++;
    }
  }

  #lookAround(root: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#lookedAtMs < LOOK_EVERY_MS) return;
    this.#lookedAtMs = nowMs;
    this.#bystanders.look(root, nowMs);
  }

  #signalOthers(signal: NodeJS.Signals): void {
    for (const pid of this.#collector.rings.processes()) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
  }

  #warn(message: string): void {
    if (!this.#warnings.includes(message)) this.#warnings.push(message);
  }
}

/** "3 of its processes (1, 2, 3) run on". */
function whoRuns(pids: readonly number[]): string {
  const listed = pids.length > PIDS_NAMED ? [...pids.slice(0, PIDS_NAMED), "…"] : pids;
  const which = pids.length === 0 ? "" : ` (${pids.length === 1 ? "pid" : "pids"} ${listed.join(", ")})`;
  if (pids.length === 1) return `one of its processes${which} runs on`;
  return `${pids.length === 0 ? "some" : pids.length} of its processes${which} run on`;
}

/** Inode of the network namespace that this process captures in; 0 if /proc does not say. */
function ownNamespace(): bigint {
  try {
    return BigInt(/\[(\d+)\]/.exec(readlinkSync("/proc/self/ns/net"))?.[1] ?? 0);
  } catch {
    return 0n;
  }
}

