// A live measurement: capture, rings, join and outputs, from opening to the summary, whatever it is
// that is measured (a command, a program that asks for it itself).

import { readlinkSync, rmSync } from "node:fs";
import { Capture } from "../ffi/libpcap.ts";
import type { LabelMode } from "../match/label-modes.ts";
import { IntervalLog } from "../output/interval-log.ts";
import { Log } from "../output/log.ts";
import { Patience } from "../output/patience.ts";
import type { Rotation } from "../output/rotation.ts";
import { EVERY_LINE, type LineSelection, writeMeta } from "../output/selection.ts";
import type { Summary } from "../output/summary.ts";
import { Env, Loss } from "../ring/layout.ts";
import type { Ring } from "../ring/ring.ts";
import { VERSION } from "../version.ts";
import { ClockWatch } from "./clock-watch.ts";
import { Collector } from "./collector.ts";
import { CAPTURE_TIMEOUT_MS } from "./delivery.ts";
import { SessionFolder } from "./folder.ts";
import { Join, type JoinEnd, type JoinSetup } from "./join.ts";
import { expectAllDifferent, identityOfPath, JSON_SUMMARY, makePrivateFolder, PrivateFile } from "./private-file.ts";
import { filterKind, picksPackets } from "./partial-filter.ts";
import { Requests } from "./requests.ts";
import { PacketDigest } from "../capture/digest.ts";
import { Frame, makeHeadersFile, TapeWriter } from "./tape.ts";
import { Warnings } from "./warnings.ts";

/** What bounds a log, and what is told while a measurement goes on. */
export interface LongRunOptions {
  /** How long an interval is; 0: there are none. */
  readonly intervalMs: number;
  /** Where the lines of the intervals go; null: to `onInterval`. */
  readonly intervalLog: string | null;
  readonly logMinNs: number;
  readonly logSample: number;
  readonly rotation: Rotation | null;
}

export interface SessionOptions extends LongRunOptions {
  readonly command: readonly string[];
  readonly log: string | null;
  readonly json: string | null;
  readonly record: string | null;
  readonly interface: string;
  readonly filter: string;
  readonly direction: "in" | "out" | "both";
  readonly label: LabelMode;
  readonly bufferBytes: number;
  readonly slots: number;
  /** How often queue lengths are read; 0: never. */
  readonly statsEveryMs: number;
  /** How many sockets the summary lists one by one; default 100. */
  readonly socketsListed?: number | undefined;
  /** Measure all sockets; else only those that programs register. */
  readonly everything: boolean;
  /** The session to go on with: what its processes have in their environment. */
  readonly earlier?: { readonly socket: string; readonly token: string };
  /** A sentence for the user, not the end of the measurement. */
  readonly onWarning: (message: string) => void;
  /** The summary of an interval, a line of JSON. */
  readonly onInterval: (line: string) => void;
}

/** How what was measured ended, as far as it is known. */
export interface TargetEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

/** Sessions have numbers up to this. */
const SESSIONS = 2 ** 52;

/** Processes that are told apart, the first ones; a long run may have any number. */
const PIDS_MOST = 1000;

export class Session {
  readonly collector: Collector;
  readonly requests: Requests;
  /** Processes that are started find the session by what they have in their environment. */
  readonly isFound: boolean;
  /** They end in the summary. */
  readonly #warnings = new Warnings();
  readonly #told = new Set<string>();
  readonly #options: SessionOptions;
  readonly #capture: Capture;
  readonly #folder: SessionFolder;
  readonly #json: PrivateFile | null = null;
  readonly #patience = new Patience();
  readonly #intervalLog: IntervalLog | null = null;
  readonly #tape: TapeWriter | null = null;
  readonly #join: Join;
  /** What takes the outputs away again that were made, the last one first. */
  readonly #unmake: (() => void)[] = [];
  readonly #pids = new Set<number>();
  readonly #netns = ownNamespace();
  /** Those that ran in another network namespace than the capture. */
  readonly #elsewhere = new Set<number>();

  /** Whatever can fail does so here. @throws KQTimeError */
  constructor(options: SessionOptions) {
    this.#options = options;
    const baseSec = Math.floor(Date.now() / 1000);
    const clock = new ClockWatch(baseSec);
    const undo: (() => void)[] = [];
    const unmake = this.#unmake;
    const warn = (message: string) => this.warn(message);
    // An output that fails: somebody may be there to mend it.
    const failed = (message: string) => this.tell(message);
    try {
      // The capture first: what passes while the rest is made is seen.
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
        unmake.unshift(() => json.discard());
      }
      const startNs = clock.nowNs();
      const lines = selectionOf(options);
      let log: Log | null = null;
      if (options.log !== null) {
        const { rotation } = options;
        const head = writeMeta(lines, startNs, baseSec);
        const opened = Log.open(options.log, {
          baseSec, onError: failed, rotation, head, follow: true, patience: this.#patience,
        });
        log = opened;
        unmake.unshift(() => opened.discard());
      }
      if (options.intervalLog !== null) {
        const opened = new IntervalLog(options.intervalLog, failed, this.#patience);
        this.#intervalLog = opened;
        unmake.unshift(() => opened.discard());
      }
      expectAllDifferent([
        { option: "--log", identity: log?.identity ?? null },
        { option: "--json", identity: this.#json?.identity ?? null },
        { option: "--interval-log", identity: this.#intervalLog?.identity ?? null },
        { option: "--record", identity: options.record === null ? null : identityOfPath(options.record) },
      ]);
      const { earlier } = options;
      const again = earlier === undefined ? null : SessionFolder.again(earlier.socket, earlier.token);
      const folder = again ?? SessionFolder.make();
      this.isFound = earlier === undefined || again !== null;
      this.#folder = folder;
      undo.push(() => folder.close());
      const setup: JoinSetup = {
        baseSec,
        startNs,
        direction: options.direction,
        label: options.label,
        command: [...options.command],
        version: VERSION,
        everything: options.everything,
        queues: options.statsEveryMs > 0 && (options.log ?? options.record) !== null,
        isPartial: picksPackets(options.filter),
        filter: filterKind(options.filter),
        isOneDevice: options.interface !== "any",
        socketsListed: options.socketsListed,
        lines,
        intervalNs: options.intervalMs * 1e6,
        session: 1 + Math.floor(Math.random() * SESSIONS),
      };
      if (options.record !== null) {
        unmake.unshift(makePrivateFolder(options.record));
        const tape = new TapeWriter(options.record, failed);
        this.#tape = tape;
        unmake.unshift(() => tape.abandon());
        tape.text(Frame.Setup, setup);
      }
      const join = new Join(setup, log, {
        write: (summary) => this.#tellInterval(summary),
        end: () => this.#end({ code: null, signal: null }),
      });
      this.#join = join;
      const collector = new Collector({
        engine: join.engine,
        capture,
        listener: folder.listener,
        token: folder.token,
        baseSec,
        clock,
        logs: () => join.logs,
        isIntervalDue: (capturedNs) => join.isIntervalDue(capturedNs),
        tape: this.#tape,
        statsEveryMs: options.statsEveryMs,
        anyInterface: options.interface === "any",
        onWarning: warn,
      });
      this.collector = collector;
      this.requests = new Requests({
        join,
        tape: this.#tape,
        listener: folder.listener,
        rings: collector.rings,
        baseSec,
        nowNs: () => collector.nowNs(),
        end: () => this.#end({ code: null, signal: null }),
        onWarning: warn,
      });
      if (options.record !== null) {
        const headers = makeHeadersFile(options.record);
        unmake.unshift(() => rmSync(headers, { force: true }));
        const dump = capture.dumpTo(headers);
        this.collector.source.dump = dump;
        this.collector.source.digest = new PacketDigest();
        this.#tape!.savefile = dump;
      }
      for (const warning of capture.warnings) warn(warning);
    } catch (error) {
      this.discard();
      for (const step of undo.reverse()) step();
      throw error;
    }
    const { collector, requests } = this;
    const { rings } = collector;
    rings.onAttach = (ring) => this.#attached(ring);
    rings.onReject = (message) => warn(message);
    rings.onAbandoned = (pid) => warn(
      `process ${pid} began records and never finished them, as when a signal handler jumps out of a ` +
        "call (siglongjmp, pthread_exit): they are lost",
    );
    rings.onRequest = (received) => requests.take(received);
    collector.onJoined = (capturedNs, failed) => {
      // As long as a word waits, programs that start do not wait for a place in a full queue.
      void this.#folder.unheard;
      requests.answer(capturedNs, failed);
    };
    collector.isAwaited = () => requests.pending;
  }

  /** What a process needs in its environment to be measured. */
  get environment(): Record<string, string> {
    return {
      [Env.socket]: this.#folder.socket,
      [Env.token]: this.#folder.token,
      [Env.slots]: String(this.#options.slots),
    };
  }

  warn(message: string): void {
    this.#warnings.add(message);
  }

  /** As `warn`, and at once. */
  tell(message: string): void {
    this.warn(message);
    this.#told.add(message);
    this.#options.onWarning(message);
  }

  /** What the summary says of the session that nobody was told at once. */
  get untold(): string[] {
    return this.#warnings.list().filter((message) => !this.#told.has(message));
  }

  /** Takes the outputs away again: nothing was measured, and there is nothing to finish. */
  discard(): void {
    for (const step of this.#unmake.splice(0)) step();
  }

  /** Settles the books, writes the outputs, and gives the summary. */
  finish(target: TargetEnd): Summary {
    const { collector } = this;
    const { rings, source } = collector;
    this.#look();
    const end = this.#end(target);
    this.requests.close();
    // In this order: once the rings are let go of, another collector may take them and the folder.
    this.#folder.close();
    rings.close();
    this.#tape?.text(Frame.End, end);
    this.#tape?.close();
    try {
      source.dump?.close();
    } catch (error) {
      this.#options.onWarning(error instanceof Error ? error.message : String(error));
    }
    const summary = this.#join.finish(end);
    this.#intervalLog?.close();
    try {
      this.#json?.write(`${JSON.stringify(summary, null, 2)}\n`, this.#patience);
    } catch (error) {
      this.#options.onWarning(error instanceof Error ? error.message : String(error));
    }
    return summary;
  }

  /** Lets go of what the session holds; after `finish`, or instead of it. */
  close(): void {
    this.collector.close();
    this.#capture.close();
    this.#folder.close();
  }

  #tellInterval(summary: Summary): void {
    if (this.#intervalLog !== null) this.#intervalLog.write(summary);
    else this.#options.onInterval(JSON.stringify(summary));
  }

  /** What the summary says besides the join, as it stands. */
  #end(target: TargetEnd): JoinEnd {
    const { rings, source } = this.collector;
    const stats = this.#capture.stats();
    const losses = {
      ringRecords: rings.losses(Loss.RingFull),
      capturePackets: stats.droppedKernel,
      interfacePackets: stats.droppedInterface,
      captureGaps: this.collector.captureWatch.gaps,
      badPackets: source.badPackets,
      memoryRecords: rings.losses(Loss.NoMemory),
      tableSockets: rings.losses(Loss.TableFull),
      descriptorSockets: rings.losses(Loss.FdRange),
      addressSockets: rings.losses(Loss.NoAddress),
      staleCalls: rings.losses(Loss.Stale),
      inheritedRings: rings.losses(Loss.NoRing),
      unheardProcesses: this.#folder.unheard,
      fragments: source.fragments,
    };
    return {
      endNs: this.collector.endNs,
      exitCode: target.code,
      signal: target.signal,
      pids: [...this.#pids],
      losses,
      badRecords: rings.badRecords,
      noClock: rings.losses(Loss.NoClock),
      isDetached: this.collector.isDetached,
      warnings: this.#warnings.list(),
    };
  }

  /** What kept processes from being measured. */
  #look(): void {
    const { rings } = this.collector;
    const without = rings.withoutMemory;
    if (without > 0) {
      this.warn(
        `${without} process${without === 1 ? "" : "es"} got no memory, or no descriptor, for a ring of ` +
          `${this.#options.slots} slots and ${without === 1 ? "was" : "were"} not measured: lower --ring, ` +
          "or raise the limits (ulimit -n, ulimit -f, the memory cgroup)",
      );
    } else if (rings.attached === 0 && this.#folder.unheard === 0) {
      this.warn(
        "no process loaded the preload library: nothing could be measured (does the command clear " +
          "its environment, or run as another user through sudo?)",
      );
    }
    const left = rings.losses(Loss.Left);
    if (left > 0) {
      this.warn(
        `${left} call${left === 1 ? " was" : "s were"} left by a jump (siglongjmp out of a signal handler): ` +
          "what they moved has no provable order",
      );
    }
    const timeless = rings.losses(Loss.NoClock);
    if (timeless > 0) {
      this.warn(
        `${timeless} call${timeless === 1 ? " has" : "s have"} no time: made by threads that may not read the ` +
          "clock (seccomp's strict mode, PR_TSC_SIGSEGV)",
      );
    }
    const elsewhere = this.#elsewhere.size;
    if (elsewhere > 0) {
      this.warn(
        `${elsewhere}${elsewhere < PIDS_MOST ? "" : " or more"} ` +
          `process${elsewhere === 1 ? "" : "es"} ran in another network ` +
          "namespace than the capture: run kqtime inside it (ip netns exec NAME kqtime run …)",
      );
    }
  }

  #attached(ring: Ring): void {
    const { pid, namespaceInode } = ring;
    if (this.#pids.size < PIDS_MOST) this.#pids.add(pid);
    if (this.#netns === 0n || namespaceInode === 0n || namespaceInode === this.#netns) return;
    if (this.#elsewhere.size < PIDS_MOST) this.#elsewhere.add(pid);
  }
}

/** Inode of the network namespace that this process captures in; 0 if /proc does not say. */
function ownNamespace(): bigint {
  try {
    return BigInt(/\[(\d+)\]/.exec(readlinkSync("/proc/self/ns/net"))?.[1] ?? 0);
  } catch {
    return 0n;
  }
}

/** Which calls have a line. */
function selectionOf({ logMinNs, logSample }: SessionOptions): LineSelection {
  if (logMinNs === 0 && logSample === 1) return EVERY_LINE;
  return { minNs: logMinNs, sample: logSample, seed: crypto.getRandomValues(new Uint32Array(1))[0]! };
}
