// 64 threads that open, use, share and close sockets at each other, while children are forked and
// signal handlers write: the program ends well, and what was recorded is what was moved. Then the
// same with the library built into the program for the compiler's sanitizers, and under valgrind.

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import {
  BUILD_MS, Bench, canCompile, ENTRY, isContiguous, ofKind, transfers, type Run,
} from "../preload/ringdump.ts";

const PRELOAD = join(import.meta.dir, "../../preload");
const STORM = join(import.meta.dir, "storm.c");
const STORM_MS = 120_000;
const SECONDS = "1";
/** So that a collector which prints each record keeps up, and no slot is filled a second time: what
    orders that is in another process, where a race detector cannot see it. */
const OPTIONS = ["--slots", "1048576"];

/** The library is in the program: none is preloaded. */
const BUILT_IN = "";

/** The library's sources and the program in one, where a sanitizer sees both. */
function build(output: string, sanitizer: string, source: readonly string[]): string {
  const built = Bun.spawnSync([
    process.env.CC ?? "cc", "-std=gnu11", "-O1", "-g", "-w", "-U_FORTIFY_SOURCE", "-fexceptions",
    "-fno-stack-protector", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=undefined", "-pthread",
    ...source, "-o", output, "-ldl", "-rdynamic",
  ], { stderr: "pipe" });
  return built.exitCode === 0 ? "" : built.stderr.toString();
}

/** Why there is no such build on this machine, or false. */
function lacksSanitizer(sanitizer: string): string | false {
  if (!canCompile) return "needs cc";
  const folder = mkdtempSync(join(tmpdir(), "kqtime-sanitizer-"));
  try {
    const source = join(folder, "empty.c");
    writeFileSync(source, "int main(void) { return 0; }\n");
    const program = join(folder, "empty");
    const built = build(program, sanitizer, [source]) === "";
    const works = built && Bun.spawnSync([program]).exitCode === 0;
    return !works && `needs a compiler with -fsanitize=${sanitizer}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Told {
  own: number;
  shared: number;
  handled: number;
  received: number;
  forks: number;
  sharedFd: number;
  handledFd: number;
}

function told(run: Run): Told {
  const found = run.stdout.match(
    /^own (\d+) shared (\d+) handled (\d+) received (\d+) storm \d+ forks (\d+) fds (\d+) (\d+)$/m,
  );
  expect({ stdout: run.stdout, stderr: run.stderr, found: found !== null })
    .toEqual({ stdout: run.stdout, stderr: "", found: true });
  const [own, shared, handled, received, forks, sharedFd, handledFd] =
    found!.slice(1).map(Number) as [number, number, number, number, number, number, number];
  return { own, shared, handled, received, forks, sharedFd, handledFd };
}

function expectBalanced(run: Run, { forking = true } = {}): void {
  const truth = told(run);
  expect(run.code).toBe(0);
  expect(truth.own).toBeGreaterThan(1000);
  expect(truth.shared).toBeGreaterThan(1000);
  expect(truth.handled).toBeGreaterThan(0);
  expect(truth.forks > 0).toBe(forking);
  // One ring a process; valgrind's launcher is one too.
  expect(run.rings.length).toBeGreaterThanOrEqual(truth.forks + 1);
  expect(run.losses.every((count) => count === 0)).toBe(true);
  expect(run.entries.every((entry) => entry.out.active === 0 && entry.in.active === 0)).toBe(true);
  expect(isContiguous(transfers(run))).toBe(true);
  for (const [fd, bytes] of [[truth.sharedFd, truth.shared], [truth.handledFd, truth.handled]]) {
    const sent = run.entries.find((entry) => entry.fd === fd && (entry.flags & ENTRY.connected) !== 0)!;
    const taken = run.entries.find(
      (entry) => entry.lport === sent.rport && entry.rport === sent.lport,
    )!;
    expect([sent.out.off, taken.in.off]).toEqual([bytes!, bytes!]);
    const records = ofKind(run, "OUT").filter((record) => record.entry === sent.entry);
    expect(records.reduce((sum, record) => sum + record.bytes, 0)).toBe(bytes!);
  }
  // The storm's own sockets have some more.
  const sum = run.entries.reduce((total, entry) => total + entry.out.off, 0);
  expect(sum).toBeGreaterThanOrEqual(truth.own + truth.shared + truth.handled);
}

describe("a storm of threads", () => {
  let bench: Bench;
  beforeAll(() => {
    if (!canCompile) return;
    bench = new Bench();
    bench.compile("ringdump");
    bench.compile("../transparency/storm", "storm");
  }, BUILD_MS);
  afterAll(() => bench?.remove());

  testUnless(reason(!canCompile && "needs cc"), "no crash, and the books balance", () => {
    expectBalanced(bench.run(OPTIONS, ["./storm", SECONDS]));
  }, STORM_MS);

  const sanitized = (sanitizer: string): string => {
    const sources = readdirSync(PRELOAD)
      .filter((name) => /\.[cS]$/.test(name)).map((name) => join(PRELOAD, name));
    const errors = build(join(bench.folder, `storm-${sanitizer}`), sanitizer, [...sources, STORM]);
    if (errors !== "") throw new Error(errors);
    return `./storm-${sanitizer}`;
  };

  for (const sanitizer of ["address", "undefined"]) {
    testUnless(reason(lacksSanitizer(sanitizer)), `clean with -fsanitize=${sanitizer}`, () => {
      expectBalanced(bench.run(OPTIONS, [sanitized(sanitizer), SECONDS], {}, BUILT_IN));
    }, STORM_MS);
  }

  testUnless(reason(lacksSanitizer("thread")), "no data race", () => {
    // io_sync=0: that bytes were passed from a thread to another is not taken as an order of theirs.
    const env = { TSAN_OPTIONS: "io_sync=0 exitcode=0" };
    const run = bench.run(OPTIONS, [sanitized("thread"), SECONDS], env, BUILT_IN);
    // That threads close each other's descriptors is what the storm is about.
    const reports = run.stderr.split("==================\n")
      .filter((part) => part.includes("WARNING") && !part.includes("Location is file descriptor"));
    expect(reports).toEqual([]);
    expectBalanced({ ...run, stderr: "" });
  }, STORM_MS);

  testUnless(reason(!canCompile && "needs cc", lacks("valgrind")), "clean under valgrind", () => {
    const valgrind = ["valgrind", "-q", "--error-exitcode=9", "--fair-sched=yes"];
    const run = bench.run(OPTIONS, [...valgrind, "./storm", "3"]);
    // By an operation that does not exist the library asks the kernel whether memory can be read.
    const errors = run.stderr.split("\n")
      .filter((line) => !line.includes("sigprocmask: unknown 'how'"));
    expect(errors.join("\n")).toBe("");
    expectBalanced({ ...run, stderr: "" });
  }, STORM_MS);
});
