// What the hooks cost a call: the same fixture (hook.c) without the preload library, with it and no
// session, and in a session whose collector drains the ring, in turns.
//
// First what the hooks take themselves (hook-own.ts), then real calls, which a hook also slows by what
// it does to the caches and to the processor's pipeline in front of a system call.
//
// Inside the fixture each hooked call is compared with libc's own entry, so that the run without
// the library shows what the comparison itself cannot tell from nothing.

import { makeNamespace, enter } from "../../test/lib/network.ts";
import { withScope, type Scope } from "../../test/lib/process.ts";
import {
  type Bench, compileHook, kqtimeRun, lossOf, PRELOAD, readSummary,
} from "./bench.ts";
import { benchOwn } from "./hook-own.ts";
import { median, shuffled, spread } from "./stats.ts";

const WAYS = ["plain", "preload", "session"] as const;
type Way = (typeof WAYS)[number];

const MEASURED = ["send", "write", "writev", "recv", "read"];
const UNMEASURED = ["pipe-write", "pipe-read"];
/** Moves no bytes: nothing is recorded, but the call may have had to wait, so it is noted. */
const NOTHING = "recv-nothing";

/** What a call without a session may differ by, ns: below what the comparison resolves. */
const NOTHING_NS = 5;

/** Medians of one run, ns a call. */
interface Run {
  clock: number;
  plain: Map<string, number>;
  clocked: Map<string, number>;
  added: Map<string, number>;
}

function parseRun(text: string): Run {
  const rounds = new Map<string, number[][]>();
  for (const line of text.split("\n")) {
    const [name, ...values] = line.split(" ");
    if (values.length !== 3) continue;
    const list = rounds.get(name!) ?? [];
    rounds.set(name!, list);
    list.push(values.map(Number));
  }
  const run: Run = { clock: 0, plain: new Map(), clocked: new Map(), added: new Map() };
  for (const [name, list] of rounds) {
    if (name === "clock") run.clock = median(list.map((round) => round[2]!));
    run.plain.set(name, median(list.map((round) => round[0]!)));
    run.clocked.set(name, median(list.map((round) => round[1]! - round[0]!)));
    run.added.set(name, median(list.map((round) => round[2]! - round[0]!)));
  }
  return run;
}

class HookBench {
  #sessions = 0;
  #lost = 0;
  #coverage = 1;

  constructor(
    readonly bench: Bench,
    readonly scope: Scope,
    readonly program: string,
    readonly prefix: readonly string[],
  ) {}

  /** Runs the fixture in one of the ways; returns what it printed. */
  async run(way: Way | "tcpdump", words: readonly string[]): Promise<string> {
    const command = [this.program, ...words];
    const { scope, prefix } = this;
    if (way === "plain") return (await scope.run(command, { prefix })).stdout;
    if (way === "preload") {
      const env = { ...process.env, LD_PRELOAD: PRELOAD };
      return (await scope.run(command, { prefix, env })).stdout;
    }
    if (way === "tcpdump") {
      const capture = scope.start(
        [
          "tcpdump", "-i", "any", "-s", "128", "-B", "65536", "-n", "-Z", "root", "-w", "/dev/null",
          "tcp and not port 22",
        ],
        { prefix },
      );
      await capture.says(/listening on/);
      const { stdout } = await scope.run(command, { prefix });
      await capture.stop("SIGINT");
      return stdout;
    }
    const json = scope.path(`hook-${this.#sessions++}.json`);
    const { stdout } = await scope.run(kqtimeRun(json, command), { prefix });
    const summary = readSummary(json);
    this.#lost += lossOf(summary);
    const { out, in: inbound } = summary.directions;
    this.#coverage = Math.min(this.#coverage, out.coverage ?? 0, inbound.coverage ?? 0);
    return stdout;
  }

  async calls(cpu: string): Promise<void> {
    const { report, random, quick } = this.bench;
    const turns = this.bench.pairs ?? (quick ? 3 : 10);
    const runs: Record<Way, Run[]> = { plain: [], preload: [], session: [] };
    for (let turn = 0; turn < turns; turn++) {
      const seed = `${1 + Math.floor(random() * 1e9)}`;
      for (const way of shuffled(WAYS, random)) {
        runs[way].push(parseRun(await this.run(way, ["calls", cpu, quick ? "60" : "120", seed])));
      }
    }
    const of = (way: Way, pick: (run: Run) => number) => spread(runs[way].map(pick));
    report.add("hook", "reading the clock", "ns", of("session", (run) => run.clock));
    for (const name of MEASURED) {
      const itself = of("plain", (run) => run.plain.get(name)!);
      const added = of("session", (run) => run.added.get(name)!);
      report.add("hook", `${name} 64 B, the call itself`, "ns", itself);
      report.add("hook", `${name}: added in a session`, "ns", added);
      report.add(
        "hook", `${name}: added beyond the clock read in its place`, "ns",
        of("session", (run) => run.added.get(name)! - run.clocked.get(name)!),
      );
    }
    for (const name of [NOTHING, ...UNMEASURED]) {
      const what = name === NOTHING ? "recv of nothing" : name.replace("-", " ");
      report.add(
        "hook", `${what}: added in a session`, "ns",
        of("session", (run) => run.added.get(name)!),
        name === NOTHING ? {} : { target: { sign: "<=", value: NOTHING_NS } },
      );
    }
    for (const name of [...MEASURED, ...UNMEASURED]) {
      report.add(
        "hook", `${name.replace("-", " ")}: added without a session`, "ns",
        of("preload", (run) => run.added.get(name)!),
        { target: { sign: "<=", value: NOTHING_NS } },
      );
    }
    const floor = spread(
      runs.plain.flatMap((run) => [...MEASURED, ...UNMEASURED].map((name) => run.added.get(name)!)),
    );
    report.add("hook", "control: libc against itself", "ns", floor);
  }

  /** One packet a call: what the capture costs the sender comes on top of the hook. */
  async packets(cpu: string): Promise<void> {
    const { report, random, quick } = this.bench;
    const turns = this.bench.pairs ?? (quick ? 3 : 10);
    const ways = ["plain", "tcpdump", "session"] as const;
    type PacketWay = (typeof ways)[number];
    const costs: Record<PacketWay, { send: number; recv: number }[]> = {
      plain: [], tcpdump: [], session: [],
    };
    for (let turn = 0; turn < turns; turn++) {
      for (const way of shuffled(ways, random)) {
        const text = await this.run(way, ["packets", cpu, quick ? "60" : "120", "1"]);
        const cost = (name: string) => {
          const found = [...text.matchAll(new RegExp(`^${name} (.+)$`, "gm"))];
          if (found.length === 0) throw new Error(`hook, ${way}: no figure of ${name} in "${text}"`);
          return median(found.map((match) => Number(match[1])));
        };
        costs[way].push({ send: cost("send"), recv: cost("recv") });
      }
    }
    for (const name of ["send", "recv"] as const) {
      const what = `${name} 64 B, one packet each`;
      const plain = spread(costs.plain.map((cost) => cost[name]));
      report.add("packet", `${what}, plain`, "ns", plain, { digits: 0 });
      for (const way of ["tcpdump", "session"] as const) {
        const by = way === "tcpdump" ? "a tcpdump" : "kqtime";
        report.add(
          "packet", `${what}, added by ${by}`, "ns",
          spread(costs[way].map((cost, turn) => cost[name] - costs.plain[turn]![name])),
          { digits: 0 },
        );
      }
    }
  }

  judgeSessions(): void {
    const one = (value: number) => spread([value]);
    this.bench.report.add("hook", "records and packets lost", "", one(this.#lost), {
      digits: 0, target: { sign: "=", value: 0 },
    });
    this.bench.report.add("hook", "coverage of every session", "", one(this.#coverage), {
      digits: 4, target: { sign: "=", value: 1 },
    });
  }
}

export async function benchHook(bench: Bench): Promise<void> {
  await benchOwn(bench);
  await withScope(async (scope) => {
    const program = await compileHook(scope);
    const prefix = enter(await makeNamespace(scope, "h"));
    // The last processor: interrupts of a virtual machine often go to the first.
    const cpu = `${navigator.hardwareConcurrency - 1}`;
    const hooks = new HookBench(bench, scope, program, prefix);
    await hooks.calls(cpu);
    await hooks.packets(cpu);
    hooks.judgeSessions();
  });
}
