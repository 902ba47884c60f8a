// What the hooks themselves take of a call, without the kernel's part: hook-own.c calls a library that
// returns at once, with nothing in front of it, with the preload library and no session, and in a
// session whose rings a small collector empties each millisecond. The three take turns; what is added
// is the difference to the same turn without the library. Instructions are counted by callgrind,
// which the machine's other work does not disturb: there reading the clock is one instruction.

import { join } from "node:path";
import { withScope, type Scope } from "../../test/lib/process.ts";
import { type Bench, compile, PRELOAD, ROOT } from "./bench.ts";
import { shuffled, spread } from "./stats.ts";

const WAYS = ["absent", "idle", "session"] as const;
type Way = (typeof WAYS)[number];

const CALLS = ["send", "write", "writev", "recv", "read"];
const KINDS = { tcp: "a TCP socket", other: "another socket", file: "a file" } as const;
const WHEN = { session: "in a session", idle: "without a session" } as const;
const THREADS = [1, 8];
const CLOCK = "clock none";
/** The most that a hook may add beyond reading the clock, on an otherwise idle core, ns. */
const TARGET_NS = 15;
/** The most on what is not measured: it costs a branch. */
const NOTHING_NS = 5;
const COUNTED_CALLS = 1000;

class OwnCost {
  constructor(
    readonly scope: Scope,
    readonly program: string,
    readonly stub: string,
    readonly collector: string,
  ) {}

  async run(way: Way, words: readonly string[]): Promise<string> {
    const { scope, stub } = this;
    if (way !== "session") {
      const LD_PRELOAD = way === "absent" ? stub : `${PRELOAD}:${stub}`;
      return (await scope.run(words, { env: { ...process.env, LD_PRELOAD } })).stdout;
    }
    const output = scope.path("collected");
    const command = [this.collector, "--quiet", PRELOAD, output, ...words];
    const env = { ...process.env, RINGDUMP_PRELOAD: stub };
    const { stdout } = await scope.run(command, { env });
    const lost = /"losses":\[([^\]]+)\]/.exec(await Bun.file(output).text())?.[1] ?? "?";
    if (!/^[0,]+$/.test(lost)) throw new Error(`the bench's collector lost records: ${lost}`);
    return stdout;
  }

  /** Nanoseconds by "CALL KIND". */
  async times(way: Way, threads: number, repeats: number): Promise<Map<string, number>> {
    const text = await this.run(way, [this.program, "times", `${threads}`, `${repeats}`]);
    const lines = text.trim().split("\n").map((line) => /^(\w+ \w+) ([\d.]+)$/.exec(line)!);
    return new Map(lines.map(([, name, ns]) => [name!, Number(ns)]));
  }

  /** Instructions a call, by "CALL KIND". */
  async instructions(way: Way): Promise<Map<string, number>> {
    const file = this.scope.path(`callgrind-${way}`);
    const valgrind = ["valgrind", "--tool=callgrind", `--callgrind-out-file=${file}`];
    await this.run(way, [...valgrind, this.program, "calls", `${COUNTED_CALLS}`]);
    const annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file];
    const { stdout } = await this.scope.run(annotate);
    const counts = new Map<string, number>();
    for (const [, count, call, kind] of stdout.matchAll(/^\s*([\d,]+) .*:(\w+)_(\w+) \[/gm)) {
      if (![...CALLS, "clock"].includes(call!)) continue;
      counts.set(`${call} ${kind}`, Number(count!.replaceAll(",", "")) / (COUNTED_CALLS + 1));
    }
    return counts;
  }
}

async function compareTimes(bench: Bench, own: OwnCost, threads: number): Promise<void> {
  const { report, random, quick } = bench;
  const turns = bench.pairs ?? (quick ? 3 : 12);
  const runs: Record<Way, Map<string, number>[]> = { absent: [], idle: [], session: [] };
  for (let turn = 0; turn < turns; turn++) {
    for (const way of shuffled(WAYS, random)) {
      runs[way].push(await own.times(way, threads, quick ? 11 : 31));
    }
  }
  const addedIn = (way: Way, turn: number, name: string) =>
    runs[way][turn]!.get(name)! - runs.absent[turn]!.get(name)!;
  const of = threads === 1 ? "1 thread" : `${threads} threads`;
  const clocks = runs.session.map((run) => run.get(CLOCK)!);
  report.add("hook", `reading the clock, ${of}`, "ns", spread(clocks));
  for (const call of CALLS) {
    report.add(
      "hook", `own: ${call} on ${KINDS.tcp}, beyond one reading of the clock, ${of}`, "ns",
      spread(clocks.map((clock, turn) => addedIn("session", turn, `${call} tcp`) - clock)),
      threads === 1 ? { target: { sign: "<=", value: TARGET_NS } } : {},
    );
  }
  for (const way of ["session", "idle"] as const) {
    for (const kind of ["tcp", "other", "file"] as const) {
      if (way === "session" && kind === "tcp") continue;
      const most = (turn: number) =>
        Math.max(...CALLS.map((call) => addedIn(way, turn, `${call} ${kind}`)));
      report.add(
        "hook", `own: the dearest call on ${KINDS[kind]}, ${WHEN[way]}, ${of}`, "ns",
        spread(clocks.map((_, turn) => most(turn))),
        threads === 1 ? { target: { sign: "<=", value: NOTHING_NS } } : {},
      );
    }
  }
}

async function compareInstructions({ report }: Bench, own: OwnCost): Promise<void> {
  const absent = await own.instructions("absent");
  for (const way of ["session", "idle"] as const) {
    const counts = await own.instructions(way);
    for (const kind of ["tcp", "other", "file"] as const) {
      const added = (call: string) =>
        counts.get(`${call} ${kind}`)! - absent.get(`${call} ${kind}`)!;
      const add = (what: string, instructions: number) =>
        report.add(
          "hook", `own: ${what} on ${KINDS[kind]}, ${WHEN[way]}`, "instructions",
          spread([instructions]), { digits: 0 },
        );
      if (way === "idle" || kind !== "tcp") {
        add("the dearest call", Math.max(...CALLS.map(added)));
        continue;
      }
      for (const call of CALLS) {
        add(`${call}, but for the clock,`, added(call) - counts.get(CLOCK)!);
      }
    }
  }
}

export async function benchOwn(bench: Bench): Promise<void> {
  await withScope(async (scope) => {
    const source = join(import.meta.dir, "hook-own.c");
    const collector = join(ROOT, "test", "preload", "ringdump.c");
    const own = new OwnCost(
      scope,
      await compile(scope, source, "hook-own", ["-pthread"]),
      await compile(scope, source, "stub.so", ["-DSTUB", "-shared", "-fPIC"]),
      await compile(scope, collector, "ringdump", ["-w", "-ldl"]),
    );
    for (const threads of THREADS) await compareTimes(bench, own, threads);
    if (Bun.which("valgrind") !== null) await compareInstructions(bench, own);
    else bench.report.notes.push("hook: without valgrind no instructions are counted");
  });
}
