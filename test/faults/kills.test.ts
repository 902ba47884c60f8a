// Kills at random moments, of kqtime, of its target, or of both: what stands in the log is whole and
// true, up to the last second of a killed kqtime and up to the last call of a killed target; nobody
// is left behind, and no file of the session after the next start.
//
// The moments come from a seed (KQTIME_KILLS_SEED), KQTIME_KILLS sets how many there are:
//
//     KQTIME_KILLS=1000 KQTIME_KILLS_SEED=7 bun test test/faults/kills.test.ts

import { expect } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { OUT, readTicks, type CallStream } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, BASE_SEC, booksFlaws, kqtime, Measurement, timeFlaws } from "../lib/kqtime.ts";
import { parseLog, type KQTimeLog } from "../lib/kqlog.ts";
import { withLoopback, type Node } from "../lib/network.ts";
import { childrenOf, until, type Scope } from "../lib/process.ts";
import { Random } from "../match/random.ts";
import { readable } from "./readable.ts";

const KILLS = Number(process.env["KQTIME_KILLS"] ?? 200);
const SEED = Number(process.env["KQTIME_KILLS_SEED"] ?? 1);
/** Each in a namespace of its own, with a log of its own that all its rounds append to: few, … */
const LANES = 32;
/** … because each round reads the whole log; and most of a round's time is waiting. */
const LANES_AT_ONCE = 16;
/** Some are killed while they start, most in the middle. */
const LATEST_MS = 3000;
/** What a killed kqtime may owe its log, and the time that it waited for a processor besides, … */
const OWED_NS = 1.1e9;
/** … since this long before. */
const WATCHED_MS = 2500;
/** Much fills a buffer that is then written; little waits for its time. */
const PERIODS_US = [1000, 20_000] as const;
const MOST_CALLS = 40_000;

const VICTIMS = ["kqtime", "target", "both", "both, the target first"] as const;
type Victim = (typeof VICTIMS)[number];

interface Round {
  name: string;
  victim: Victim;
  logPath: string;
  killedNs: number;
  owedNs: number;
  kqtimePid: number;
  calls: CallStream[];
  measurement: Measurement;
}

const nowNs = () => (performance.timeOrigin + performance.now() - BASE_SEC * 1000) * 1e6;

/** Processes that have these words in their environment. */
function marked(mark: string): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark)) return false;
      return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
    } catch {
      return false;
    }
  });
}

function kill(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

function ticks(path: string): CallStream[] {
  return [0, 1].flatMap((n) => (existsSync(`${path}.${n}`) ? readTicks(`${path}.${n}`, BASE_SEC) : []));
}

/** How long a process, ready to run, has not been let to, by now: schedstat of proc(5). */
function runDelayNs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, "latin1").split(" ")[1]);
  } catch {
    return 0;
  }
}

const callsOf = (streams: readonly CallStream[]) =>
  streams.reduce((sum, stream) => sum + stream.calls.length, 0);

/** One start, one kill; gives what is to be found in the log. */
async function round(
  node: Node, scope: Scope, name: string, logPath: string, victim: Victim, afterMs: number,
  periodUs: number,
): Promise<Round> {
  const path = scope.path(name);
  const mark = `KQTIME_TEST_MARK=${process.pid}-${name}`;
  const command = [await fixture("ticker"), node.v4, `${periodUs}`, `${MOST_CALLS}`, path];
  const measurement = new Measurement(scope, command, {
    prefix: node.prefix, options: ["--log", logPath], env: { ...process.env, ...Object.fromEntries([mark.split("=")]) },
  });
  const kqtimePid = measurement.running.pid;
  // The moment itself is what is drawn: there is no event to wait for.
  await Bun.sleep(Math.max(0, afterMs - WATCHED_MS));
  const waitedNs = runDelayNs(kqtimePid);
  await Bun.sleep(Math.min(afterMs, WATCHED_MS));
  const target = () => childrenOf(kqtimePid)[0];
  const targetPid = victim === "kqtime" || victim === "both"
    ? target()
    : await until(`target of ${name}`, target);
  const owedNs = OWED_NS + runDelayNs(kqtimePid) - waitedNs;
  const killedNs = nowNs();
  if (victim === "target" || victim === "both, the target first") kill(targetPid, "SIGKILL");
  if (victim !== "target") kill(kqtimePid, "SIGKILL");
  if (victim === "both") kill(targetPid, "SIGKILL");
  const exit = await measurement.finish(30_000);
  expect([name, victim, exit.code]).toEqual([name, victim, 137]);
  if (victim === "kqtime" && targetPid !== undefined && existsSync(`${path}.1`)) {
    const before = callsOf(ticks(path));
    await until(`calls after the kill of ${name}`, () => callsOf(ticks(path)) > before);
  }
  if (victim === "kqtime") for (const pid of marked(mark)) kill(pid, "SIGTERM");
  await until(`end of all of ${name}: ${marked(mark)}`, () => marked(mark).length === 0);
  return { name, victim, logPath, killedNs, owedNs, kqtimePid, calls: ticks(path), measurement };
}

/** Lines that are to be there and are not, or are not true. */
function wrongs({ name, victim, killedNs, owedNs, calls }: Round, log: KQTimeLog): string[] {
  const lines = new Map(log.calls.map((line) =>
    [`${line.pid} ${line.direction} ${line.lport} ${line.rport} ${line.offset}`, line]));
  const wrong: string[] = [];
  for (const { connection: pid, direction, lport, rport, calls: list } of calls) {
    for (const call of list) {
      const line = lines.get(`${pid} ${direction} ${lport} ${rport} ${call.offset}`);
      const what = `${name} (${victim}): ${pid} ${direction} ${call.offset}`;
      if (line === undefined) {
        const isDue = victim === "target" || call.afterNs < killedNs - owedNs;
        if (isDue) wrong.push(`${what}, ${(killedNs - call.afterNs) / 1e6} ms before the kill: no line`);
        continue;
      }
      const stamp = direction === OUT ? line.startNs : line.endNs;
      if (line.bytes !== call.bytes || stamp < call.beforeNs || stamp > call.afterNs) {
        wrong.push(`${what}: ${line.text}`);
      }
    }
  }
  return wrong;
}

/** A kill in the middle of write(2) may cut the last line; the next run begins behind it. */
function parsed(text: string): KQTimeLog {
  return parseLog(text.replace(/^[^\n]*[^;\n]\n(?=KQTIME-META;)/gm, ""), BASE_SEC);
}

async function lane(number: number, kills: number): Promise<{ due: number; lines: number }> {
  return withLoopback(async (node, scope) => {
    const random = new Random(SEED * 1000 + number);
    const logPath = scope.path(number % 2 === 0 ? "kq.log" : "kq.log.gz");
    const rounds: Round[] = [];
    for (let n = 0; n < kills; n++) {
      const victim = random.pick(VICTIMS);
      const name = `${number}-${n}`;
      const [afterMs, periodUs] = [random.within(0, LATEST_MS), random.pick(PERIODS_US)];
      const one = await round(node, scope, name, logPath, victim, afterMs, periodUs);
      rounds.push(one);
      // As it was left: nobody has mended it.
      const text = await readable(logPath);
      const log = parsed(text.slice(0, text.lastIndexOf("\n") + 1));
      expect(wrongs(one, log)).toEqual([]);
      expect(timeFlaws(log)).toEqual([]);
      if (victim === "target") {
        const summary = one.measurement.summary();
        expect([name, summary.booksBalance, summary.target.signal]).toEqual([name, true, "SIGKILL"]);
      }
    }
    // The next start: it mends the log, sweeps the folders, and its own books are whole.
    const last = new Measurement(scope, ["true"], { prefix: node.prefix, options: ["--log", logPath] });
    await last.running.success();
    const folders = readdirSync("/run").filter((name) =>
      rounds.some(({ kqtimePid }) => name.startsWith(`kqtime-${kqtimePid}-`)));
    expect(folders).toEqual([]);
    if (logPath.endsWith(".gz")) await scope.run(["gzip", "-t", logPath]);
    const whole = parsed(await readable(logPath));
    for (const one of rounds) expect(wrongs(one, whole)).toEqual([]);
    expect(booksFlaws(last).filter((flaw) => !flaw.includes("KQTIME-BOOKS"))).toEqual([]);
    // Where each kill came before the first call there is nothing to report.
    if (whole.calls.length > 0) await kqtime(scope, ["report", logPath]).success();
    const inside = Bun.spawnSync(["ip", "netns", "pids", node.name]).stdout.toString();
    expect(inside.trim()).toBe("");
    return {
      due: rounds.reduce((sum, { calls }) => sum + callsOf(calls), 0),
      lines: whole.calls.length,
    };
  });
}

e2e(`${KILLS} kills at random moments (seed ${SEED})`, async () => {
  if (BARE) return;
  const shares = Array.from({ length: LANES }, (_, n) => Math.floor((KILLS + n) / LANES));
  const told: Awaited<ReturnType<typeof lane>>[] = [];
  const waiting = shares.entries();
  await Promise.all(Array.from({ length: LANES_AT_ONCE }, async () => {
    for (const [number, kills] of waiting) told.push(await lane(number, kills));
  }));
  const lines = told.reduce((sum, one) => sum + one.lines, 0);
  const calls = told.reduce((sum, one) => sum + one.due, 0);
  console.log(`${KILLS} kills: ${calls} calls were logged by the program, ${lines} by kqtime`);
  expect(lines).toBeGreaterThan(KILLS * 100);
}, 60_000 + KILLS * 3000);
