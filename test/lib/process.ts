// Starting and ending the programs of the end-to-end tests. Everything started here belongs to a
// Scope, which ends it by its pid when the test is over, however it ended: a test that fails must
// not leave servers, captures or namespaces behind. Waiting is for events (a line, an exit), never
// for a time that is hoped to be long enough.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface StartOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  /** Words that come first, such as those that enter a namespace. */
  prefix?: readonly string[];
  stdin?: string;
}

export interface Exit {
  code: number;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** A running program whose output is collected. */
export class Running {
  readonly argv: readonly string[];
  readonly pid: number;
  readonly exited: Promise<Exit>;
  stdout = "";
  stderr = "";
  ended = false;
  #child: Bun.Subprocess<"pipe" | "ignore", "pipe", "pipe">;
  #waiting = new Set<() => void>();

  constructor(argv: readonly string[], options: StartOptions = {}) {
    this.argv = [...(options.prefix ?? []), ...argv];
    this.#child = Bun.spawn([...this.argv], {
      cwd: options.cwd ?? tmpdir(),
      env: options.env ?? process.env,
      stdin: options.stdin === undefined ? "ignore" : "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.pid = this.#child.pid;
    if (options.stdin !== undefined) {
      const sink = this.#child.stdin as import("bun").FileSink;
      sink.write(options.stdin);
      void sink.end();
    }
    const readers = [
      this.#collect(this.#child.stdout, (text) => (this.stdout += text)),
      this.#collect(this.#child.stderr, (text) => (this.stderr += text)),
    ];
    this.exited = this.#child.exited.then(async (code): Promise<Exit> => {
      this.ended = true;
      this.#wake();
      // A child that stays behind may hold the pipes; the program's own words are there by now.
      await Promise.race([Promise.all(readers), Bun.sleep(2000)]);
      return {
        code,
        signal: this.#child.signalCode as string | null,
        stdout: this.stdout,
        stderr: this.stderr,
      };
    });
  }

  async #collect(stream: ReadableStream<Uint8Array>, add: (text: string) => void) {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      add(decoder.decode(chunk, { stream: true }));
      this.#wake();
    }
  }

  #wake() {
    for (const waiting of [...this.#waiting]) waiting();
  }

  /** Waits for words in what it prints; throws when it ends, or the time is over, without them. */
  async says(pattern: RegExp, timeoutMs = 15_000): Promise<RegExpMatchArray> {
    const look = () => this.stdout.match(pattern) ?? this.stderr.match(pattern);
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = look();
      if (found) return found;
      const left = deadline - Date.now();
      if (this.ended || left <= 0) {
        // What it said last may still be in the pipe when its exit is known.
        if (this.ended) await this.exited;
        const last = look();
        if (last) return last;
        throw new Error(
          `${this.ended ? "ended" : "silent"} before it said ${pattern}: ${this.describe()}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, left);
        const waiting = this.#waiting;
        function done() {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        }
        waiting.add(done);
      });
    }
  }

  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    if (!this.ended) this.#child.kill(signal);
  }

  /** Waits for the end; throws when it takes too long. */
  async exit(timeoutMs = 60_000): Promise<Exit> {
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`still running after ${timeoutMs} ms: ${this.describe()}`)),
        timeoutMs,
      );
    });
    try {
      return await Promise.race([this.exited, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for the end and throws unless the exit code is 0. */
  async success(timeoutMs = 60_000): Promise<Exit> {
    const exit = await this.exit(timeoutMs);
    if (exit.code !== 0) throw new Error(`exit ${exit.code}: ${this.describe()}`);
    return exit;
  }

  /** Asks, and after three seconds does not ask any more. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Exit> {
    this.kill(signal);
    const timer = setTimeout(() => this.kill("SIGKILL"), 3000);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  describe(): string {
    return `${this.argv.join(" ")}\n--- stdout\n${tail(this.stdout)}\n--- stderr\n${tail(this.stderr)}`;
  }
}

function tail(text: string): string {
  return text.length > 3000 ? `…${text.slice(-3000)}` : text;
}

/** Owns what a test has started, and a folder of its own. */
export class Scope {
  readonly folder: string;
  #running: Running[] = [];
  #ends: (() => Promise<void> | void)[] = [];
  #ended: Promise<void> | null = null;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "kqtime-e2e-"));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Nothing new belongs to a scope that has ended, or is about to: nobody would end it. */
  requireOpen(): void {
    if (this.#ended !== null) throw new Error("the scope has ended");
  }

  start(argv: readonly string[], options: StartOptions = {}): Running {
    this.requireOpen();
    const running = new Running(argv, { cwd: this.folder, ...options });
    this.#running.push(running);
    return running;
  }

  /** Runs to the end; throws unless the exit code is 0. */
  run(argv: readonly string[], options: StartOptions = {}, timeoutMs = 60_000): Promise<Exit> {
    return this.start(argv, options).success(timeoutMs);
  }

  /** Something to do at the end, the last one first. */
  finally(end: () => Promise<void> | void): void {
    this.#ends.push(end);
  }

  /** However often it is asked for, also meanwhile. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    await Promise.all(
      this.#running.filter((running) => !running.ended).map((running) => running.stop()),
    );
    try {
      // One after the other, also those that are added meanwhile.
      for (let end = this.#ends.pop(); end !== undefined; end = this.#ends.pop()) await end();
    } finally {
      if (!process.env.KQTIME_E2E_KEEP) rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

export async function withScope<T>(body: (scope: Scope) => Promise<T>): Promise<T> {
  const scope = new Scope();
  try {
    return await body(scope);
  } finally {
    await scope.end();
  }
}

/** Asks again and again, for what tells nobody when it is there (a file of another program). */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | null | Promise<T | undefined | false | null>,
  timeoutMs = 15_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`in ${timeoutMs} ms there was no ${what}`);
    await Bun.sleep(10);
  }
}

/** The children of a process, such as the target of a kqtime. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .split(" ").filter(Boolean).map(Number);
}
