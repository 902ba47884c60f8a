// The test driver behind `npm test`: the type check, the check of the generated layout, then every
// test/**/*.test.ts in a `bun test` process of its own, so that a crash in native code or a hang
// costs one file. Files of test/e2e and test/faults run one at a time: they shape links and measure time;
// the others a few at a time.
//
//     bun tools/test.ts [part of a path…]     only the files whose path contains one of the parts
//
// The last line is `N passed, N failed, N skipped`. Exits 1 on a failure, and with CI set also on
// a skipped test. KQTIME_TEST_JOBS sets how many files run at a time, KQTIME_TEST_TIMEOUT_S shortens
// what one file may take.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseJunit, skipReason, type TestCase } from "./junit.ts";

const root = join(import.meta.dir, "..");
const inCi = ![undefined, "", "0", "false"].includes(process.env["CI"]);

const askedTimeoutS = Number(process.env["KQTIME_TEST_TIMEOUT_S"]) || Infinity;
const fileTimeoutMs = Math.min(300, askedTimeoutS) * 1000;
const serialFileTimeoutMs = Math.min(600, askedTimeoutS) * 1000;
/** What a test may take that sets no time of its own. */
const testTimeoutMs = 30_000;
const serialTestTimeoutMs = 120_000;
/** In CI a whole run ends before this, by failing what has not run. */
const runTimeoutMs = 19 * 60_000;

const nobody = 65534;

interface Job {
  name: string;
  argv: string[];
  timeoutMs: number;
  /** Where `bun test` leaves its report; null for a check, which is one test by itself. */
  report: string | null;
}

interface JobResult {
  cases: TestCase[];
  output: string;
  seconds: number;
}

const startedMs = Date.now();
const running = new Map<number, () => void>();

/** The environment of a test: whoever called sudo is not to change what is tested. */
function testEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [key, value] of Object.entries(process.env)) {
    const ofCaller = /^(SUDO_|npm_|KQTIME_(SESSION|TOKEN|SLOTS|NOFILE)$|LD_PRELOAD$)/.test(key);
    if (value !== undefined && !ofCaller) environment[key] = value;
  }
  // The programs of the system that tests start live in sbin, which a user's PATH often lacks, and
  // PostgreSQL's where Debian keeps them.
  const folders = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
  const postgresql = "/usr/lib/postgresql";
  for (const version of existsSync(postgresql) ? readdirSync(postgresql) : []) {
    folders.push(join(postgresql, version, "bin"));
  }
  environment["PATH"] = [process.env["PATH"] ?? "", ...folders].join(":");
  return environment;
}

async function runJob(job: Job): Promise<JobResult> {
  const began = Date.now();
  const leftMs = inCi ? startedMs + runTimeoutMs - began : Infinity;
  const timeoutMs = Math.min(job.timeoutMs, leftMs);
  const failed = (name: string, output: string): JobResult => ({
    cases: [{ name, outcome: "failed", seconds: 0, reason: "" }],
    output,
    seconds: (Date.now() - began) / 1000,
  });
  if (timeoutMs <= 0) return failed("not run: the time for the whole run is over", "");

  // A session of its own, so that what a hanging test has started ends with it.
  const child = Bun.spawn(job.argv, {
    cwd: root,
    env: testEnvironment(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  let late = false;
  const killGroup = (): void => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // The group has ended.
    }
  };
  const timer = setTimeout(() => {
    late = true;
    killGroup();
  }, timeoutMs);
  running.set(child.pid, killGroup);
  const outputs = Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  clearTimeout(timer);
  running.delete(child.pid);
  // A process that a test left behind may hold the pipes open; it does not get to hold the run.
  const texts = await Promise.race([outputs, Bun.sleep(3000).then(() => null)]);
  if (texts === null) killGroup();
  const output = (texts ?? (await Promise.race([outputs, Bun.sleep(1000).then(() => ["", ""])])))
    .filter(Boolean)
    .join("\n");
  const seconds = (Date.now() - began) / 1000;

  if (late) return failed(`not finished after ${Math.round(timeoutMs / 1000)} s, killed`, output);
  if (job.report === null) {
    if (code !== 0) return failed(`exit code ${code}`, output);
    return { cases: [{ name: job.name, outcome: "passed", seconds, reason: "" }], output, seconds };
  }
  let cases: TestCase[] = [];
  try {
    cases = parseJunit(readFileSync(job.report, "utf8"));
  } catch {
    // A process that crashed leaves no report.
  }
  const anyFailed = cases.some((each) => each.outcome === "failed");
  const end = child.signalCode === null ? `exit code ${code}` : `ended by ${child.signalCode}`;
  if (code !== 0 && !anyFailed) {
    cases.push({ name: `the file as a whole: ${end}`, outcome: "failed", seconds, reason: "" });
  } else if (cases.length === 0) {
    cases.push({ name: "the file holds no test", outcome: "failed", seconds, reason: "" });
  }
  return { cases, output, seconds };
}

class Tally {
  passed = 0;
  failed = 0;
  readonly skipped: string[] = [];

  add(job: Job, result: JobResult): void {
    let failed = 0;
    for (const each of result.cases) {
      if (each.outcome === "passed") this.passed++;
      else if (each.outcome === "failed") failed++;
      else {
        const name = each.name.replace(skipReason, "");
        this.skipped.push(`${job.name}: ${name}: ${each.reason || "no reason given"}`);
      }
    }
    this.failed += failed;
    const skipped = result.cases.filter((each) => each.outcome === "skipped").length;
    const counts = job.report === null ? "" : ` ${result.cases.length - failed - skipped} passed`;
    console.log(
      `${failed > 0 ? "FAIL" : "ok  "} ${job.name}${counts}` +
        `${failed > 0 ? `, ${failed} failed` : ""}${skipped > 0 ? `, ${skipped} skipped` : ""}` +
        ` (${result.seconds.toFixed(1)} s)`,
    );
    if (failed === 0) return;
    for (const each of result.cases) if (each.outcome === "failed") console.log(`     ${each.name}`);
    console.log(result.output.trimEnd().replace(/^/gm, "     | "));
  }
}

async function runAll(jobs: Job[], atATime: number, tally: Tally): Promise<void> {
  const waiting = [...jobs];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      tally.add(job, await runJob(job));
    }
  };
  await Promise.all(Array.from({ length: atATime }, worker));
}

function testJob(file: string, reports: string): Job {
  const report = join(reports, `${file.replaceAll("/", "-")}.xml`);
  const serial = isSerial(file);
  return {
    name: file,
    argv: [
      process.execPath,
      "test",
      "--timeout",
      String(serial ? serialTestTimeoutMs : testTimeoutMs),
      "--reporter=junit",
      "--reporter-outfile",
      report,
      `./${file}`,
    ],
    timeoutMs: serial ? serialFileTimeoutMs : fileTimeoutMs,
    report,
  };
}

function isSerial(file: string): boolean {
  return file.startsWith("test/e2e/") || file.startsWith("test/faults/");
}

function jobsAtATime(): number {
  const asked = Number(process.env["KQTIME_TEST_JOBS"]);
  if (Number.isInteger(asked) && asked > 0) return asked;
  return Math.max(1, Math.min(3, availableParallelism() - 1));
}

async function main(): Promise<number> {
  const filters = process.argv.slice(2);
  const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(root)].sort();
  const chosen =
    filters.length === 0
      ? files
      : files.filter((file) => filters.some((part) => file.includes(part.replace(/^\.\//, ""))));
  if (chosen.length === 0) {
    console.error(`no test file matches ${filters.join(" ")}`);
    return 2;
  }
  const check = (name: string, ...argv: string[]): Job => ({
    name,
    argv: [process.execPath, ...argv],
    timeoutMs: fileTimeoutMs,
    report: null,
  });
  const checks = [
    check("type check", "node_modules/typescript/bin/tsc", "-p", "."),
    check("layout is generated", "tools/gen-layout.ts", "--check"),
  ];

  const tally = new Tally();
  const reports = mkdtempSync(join(tmpdir(), "kqtime-test-"));
  try {
    if (filters.length === 0) await runAll(checks, 2, tally);
    const parallel = chosen.filter((file) => !isSerial(file));
    await runAll(parallel.map((file) => testJob(file, reports)), jobsAtATime(), tally);
    await runAll(chosen.filter(isSerial).map((file) => testJob(file, reports)), 1, tally);
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }

  for (const line of tally.skipped) console.log(`skipped ${line}`);
  const strict = inCi && tally.skipped.length > 0;
  if (strict) console.log("CI is set: a skipped test counts as a failure of the run.");
  console.log(`in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`);
  console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped.length} skipped`);
  return tally.failed > 0 || strict ? 1 : 0;
}

/** Whether any user can run kqtime from this folder: tests drop root and do so. */
function isOpenToAll(): boolean {
  const words = ["test", "-r", "build/libkqtime-preload.so", "-a", "-x", "build/kqtime-launch"];
  for (const argv of [words, [process.execPath, "--version"]]) {
    try {
      const ids = { uid: nobody, gid: nobody };
      const child = Bun.spawnSync(argv, { cwd: root, stdout: "ignore", stderr: "ignore", ...ids });
      if (child.exitCode !== 0) return false;
    } catch {
      return false;
    }
  }
  return true;
}

/** Runs this driver in a copy of the package that every user can read. */
async function testCopy(): Promise<number> {
  const copy = mkdtempSync(join(tmpdir(), "kqtime-copy-"));
  console.log(`other users cannot read ${root}: testing a copy of it, ${copy}`);
  try {
    // -a keeps the times that tell the native build that it is fresh.
    const copying = Bun.spawnSync(["cp", "-a", `${root}/.`, copy], { stderr: "inherit" });
    if (copying.exitCode !== 0) return 1;
    rmSync(join(copy, ".git"), { recursive: true, force: true });
    Bun.spawnSync(["chmod", "-R", "a+rX", copy]);
    const child = Bun.spawn(
      [join(copy, "node_modules", ".bin", "bun"), "tools/test.ts", ...process.argv.slice(2)],
      {
        cwd: copy,
        env: { ...process.env, KQTIME_TEST_COPY: "1" },
        stdio: ["ignore", "inherit", "inherit"],
      },
    );
    // The copy is removed when the driver in it has ended, also by a signal.
    running.set(child.pid, () => child.kill());
    leaveOnSignal = false;
    return await child.exited;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

let leaveOnSignal = true;
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const) {
  process.on(signal, () => {
    for (const kill of running.values()) kill();
    if (leaveOnSignal) process.exit(128 + number);
  });
}

const needsCopy =
  process.getuid?.() === 0 &&
  process.env["KQTIME_TEST_COPY"] === undefined &&
  existsSync(join(root, "build")) &&
  !isOpenToAll();
process.exit(await (needsCopy ? testCopy() : main()));
