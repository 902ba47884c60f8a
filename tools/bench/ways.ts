// The ways in which the benchmarks of whole programs run one: alone, beside a `tcpdump -w` alone, and
// measured by kqtime, without a log and with one. They take turns in an order that the seed decides;
// each ratio is of a turn's own plain run.

import { rmSync } from "node:fs";
import { processorNs } from "../../src/ffi/clocks.ts";
import type { Lab, Node } from "../../test/lib/network.ts";
import type { Running } from "../../test/lib/process.ts";
import {
  type Bench, gapsOf, kqtimeRun, lossOf, memoryOf, readSummary, requireCalls,
} from "./bench.ts";
import type { Target } from "./report.ts";
import { geometricMean, median, shuffled, spread } from "./stats.ts";

export type Way = "plain" | "tcpdump" | "kqtime" | "logged";
export const WAYS: readonly Way[] = ["plain", "tcpdump", "kqtime", "logged"];

export const WAY_NAMES: Record<Way, string> = {
  plain: "without kqtime",
  tcpdump: "beside a tcpdump -w alone",
  kqtime: "kqtime",
  logged: "kqtime with a log",
};

/** Of the plain throughput. */
const TARGET_RATIO = 0.95;
const TARGET_CPU_PERCENT = 100;
const SAMPLE_EVERY_MS = 100;

/** What a session has cost, and whether it was whole. */
interface Session {
  readonly lost: number;
  readonly balanced: boolean;
  /** Of the bytes that the kernel did not throw away unsent. */
  readonly coverage: number;
  readonly gaps: string;
  readonly peakBytes: number;
  /** Of the collector, all threads, between `began` and the end; percent of a core. */
  readonly cpuPercent: number;
}

/** A program under way. */
export class Started {
  #cpu = { fromMs: 0, fromNs: 0, percent: 0 };
  #peakBytes = 0;

  constructor(
    readonly running: Running,
    readonly way: Way,
    readonly json: string,
    readonly tap: Running | null,
  ) {}

  /** From now on the collector's time counts. */
  begin(): void {
    this.#cpu = { fromMs: performance.now(), fromNs: processorNs(this.running.pid), percent: 0 };
  }

  sample(): void {
    const memory = memoryOf(this.running.pid);
    const nowNs = processorNs(this.running.pid);
    if (memory === null || nowNs === 0) return;
    this.#peakBytes = Math.max(this.#peakBytes, memory.peak);
    const { fromMs, fromNs } = this.#cpu;
    if (fromMs === 0) this.begin();
    else this.#cpu.percent = ((nowNs - fromNs) / (performance.now() - fromMs) / 1e6) * 100;
  }

  /** @throws Error if nothing was measured */
  session(name: string, expected: readonly string[]): Session {
    const summary = readSummary(this.json);
    requireCalls(summary, `${name}, ${this.way}`);
    const { out, in: inbound } = summary.directions;
    const excused = expected.reduce((sum, reason) => sum + (out.bytesUnmatched[reason] ?? 0), 0);
    const due = out.bytesCalled - (out.bytesInFlight ?? 0) - excused;
    return {
      lost: lossOf(summary),
      balanced: summary.booksBalance,
      coverage: Math.min(due > 0 ? out.bytesMatched / due : 0, inbound.coverage ?? 0),
      gaps: gapsOf(summary, expected),
      peakBytes: this.#peakBytes,
      cpuPercent: this.#cpu.percent,
    };
  }
}

/** A comparison of the ways: runs what it is given, and keeps what each run measured. */
export class Comparison {
  readonly #sessions: Session[] = [];
  readonly #figures = new Map<string, Record<Way, number[]>>();
  #runs = 0;
  #droppedByTcpdump = 0;

  /**
   * @param bench Its report's rows are named by `name`.
   * @param expected Reasons that the program itself gives for bytes that cannot be matched.
   */
  constructor(
    readonly bench: Bench,
    readonly lab: Lab,
    readonly name: string,
    readonly expected: readonly string[] = [],
  ) {}

  /** Takes turns; `trial` runs a program in one way and tells its figures by their names. */
  async run(
    turns: number, trial: (way: Way) => Promise<Record<string, number>>,
  ): Promise<void> {
    for (let turn = 0; turn < turns; turn++) {
      for (const way of shuffled(WAYS, this.bench.random)) {
        for (const [figure, value] of Object.entries(await trial(way))) {
          let figures = this.#figures.get(figure);
          if (figures === undefined) {
            figures = { plain: [], tcpdump: [], kqtime: [], logged: [] };
            this.#figures.set(figure, figures);
          }
          figures[way].push(value);
        }
      }
    }
  }

  async start(way: Way, node: Node, command: readonly string[]): Promise<Started> {
    const { scope } = this.lab;
    const number = this.#runs++;
    const { prefix } = node;
    const json = scope.path(`${way}-${number}.json`);
    if (way === "plain" || way === "tcpdump") {
      let tap: Running | null = null;
      if (way === "tcpdump") {
        tap = scope.start(
          [
            "tcpdump", "-i", "any", "-s", "128", "-B", "65536", "-n", "-Z", "root",
            "-w", scope.path("tcpdump.pcap"), "tcp and not port 22",
          ],
          { prefix },
        );
        await tap.says(/listening on/);
      }
      return new Started(scope.start(command, { prefix }), way, json, tap);
    }
    const words = kqtimeRun(json, command);
    if (way === "logged") words.splice(2, 0, "--log", scope.path("kqtime.log"));
    return new Started(scope.start(words, { prefix }), way, json, null);
  }

  /** Runs `body` while the collector's processor time and memory are looked at. */
  async observe<T>(started: Started, body: () => Promise<T>): Promise<T> {
    const measured = started.way === "kqtime" || started.way === "logged";
    if (!measured) return await body();
    const sampler = setInterval(() => started.sample(), SAMPLE_EVERY_MS);
    try {
      return await body();
    } finally {
      clearInterval(sampler);
    }
  }

  /** The program has ended, or ends by this signal. */
  async end(started: Started, signal: NodeJS.Signals | null): Promise<void> {
    if (signal === null) await started.running.success();
    else await started.running.stop(signal);
    if (started.tap !== null) {
      const { stderr } = await started.tap.stop("SIGINT");
      this.#droppedByTcpdump += Number(/(\d+) packets? dropped by kernel/.exec(stderr)?.[1] ?? 0);
    }
    if (started.way === "kqtime" || started.way === "logged") {
      this.#sessions.push(started.session(this.name, this.expected));
    }
    // The disk must not fill.
    for (const name of ["kqtime.log", "tcpdump.pcap"]) rmSync(this.lab.scope.path(name), { force: true });
  }

  /** Rows of a figure; the ratios of kqtime's ways are judged where there is a target. */
  tell(figure: string, what: string, unit: string, target: Target | null, digits = 2): void {
    const { report } = this.bench;
    const figures = this.#figures.get(figure)!;
    // Latencies, that is.
    const of = unit === "ms" ? geometricMean : median;
    report.add(this.name, `${what}, without kqtime`, unit, spread(figures.plain, of), { digits });
    for (const way of ["tcpdump", "kqtime", "logged"] as const) {
      const ratios = figures[way].map((value, turn) => value / figures.plain[turn]!);
      report.add(this.name, `${what}, ${WAY_NAMES[way]}: ratio`, "", spread(ratios, of), {
        digits: 3, ...(target !== null && way !== "tcpdump" ? { target } : {}),
      });
    }
    if (target?.sign !== ">=") return;
    for (const way of ["kqtime", "logged"] as const) {
      const ratios = figures[way].map((value, turn) => value / figures.tcpdump[turn]!);
      const text = `${what}, ${WAY_NAMES[way]}: ratio to tcpdump's`;
      report.add(this.name, text, "", spread(ratios), { digits: 3 });
    }
  }

  /** Rows of what all sessions together have lost and cost. */
  judge(what: string): void {
    const { report } = this.bench;
    const sessions = this.#sessions;
    const none = { digits: 0, target: { sign: "=", value: 0 } } as const;
    const lost = sessions.reduce((sum, each) => sum + each.lost, 0);
    report.add(this.name, `${what}: records and packets lost`, "", spread([lost]), none);
    const unbalanced = sessions.filter(({ balanced }) => !balanced).length;
    report.add(this.name, `${what}: sessions out of balance`, "", spread([unbalanced]), none);
    const coverage = Math.min(...sessions.map((each) => each.coverage));
    report.add(this.name, `${what}: least coverage`, "", spread([coverage]), {
      digits: 4, target: { sign: "=", value: 1 },
    });
    const cpu = spread(sessions.map((each) => each.cpuPercent));
    report.add(this.name, `${what}: the collector`, "% of a core", cpu, {
      digits: 0, target: { sign: "<=", value: TARGET_CPU_PERCENT },
    });
    const peak = spread(sessions.map((each) => each.peakBytes / 2 ** 20));
    report.add(this.name, `${what}: its memory at the highest`, "MiB", peak, { digits: 0 });
    const gaps = sessions.map((each) => each.gaps).filter((text) => text !== "");
    report.notes.push(...new Set(gaps.map((text) => `${this.name}, ${what}: ${text}`)));
    if (this.#droppedByTcpdump > 0) {
      report.notes.push(
        `${this.name}, ${what}: tcpdump itself lost ${this.#droppedByTcpdump} packets`,
      );
    }
  }
}

export const WHOLE_TARGET: Target = { sign: ">=", value: TARGET_RATIO };
