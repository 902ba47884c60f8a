// Real programs under kqtime: started unmodified, ended politely, and held to full coverage.

import { expect } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { BARE, flaws, Measurement, type CompleteOptions } from "./kqtime.ts";
import type { Node } from "./network.ts";
import type { Exit, Scope } from "./process.ts";

export interface ProgramOptions {
  /** Runs as this user: by kqtime's own --user, or by setpriv where kqtime is left out. */
  user?: string;
  kqtime?: readonly string[];
  env?: Record<string, string | undefined>;
  cwd?: string;
}

/** A program in a node's namespace, measured from its first instruction to its last byte. */
export class Program {
  readonly measurement: Measurement;

  constructor(
    scope: Scope, node: Node, command: readonly string[], options: ProgramOptions = {},
  ) {
    const { user } = options;
    const drop = BARE && user
      ? ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--init-groups"]
      : [];
    this.measurement = new Measurement(scope, [...drop, ...command], {
      prefix: node.prefix,
      options: [...(user ? ["--user", user] : []), ...(options.kqtime ?? [])],
      ...(options.env && { env: { ...process.env, ...options.env } }),
      // The working folder of kqtime is the target's; a program's own stays where it was told.
      ...(options.cwd && BARE && { cwd: options.cwd }),
    });
  }

  get running() {
    return this.measurement.running;
  }

  says(pattern: RegExp, timeoutMs?: number) {
    return this.running.says(pattern, timeoutMs);
  }

  /** Ends by itself with exit code 0, and every byte is accounted for. */
  async completes(least: CompleteOptions = {}, timeoutMs = 60_000): Promise<Exit> {
    const exit = await this.running.success(timeoutMs);
    this.#expectFlawless(least);
    return exit;
  }

  /** Ends by itself with one of these exit codes. */
  async ends(codes: readonly number[], least: CompleteOptions = {}): Promise<Exit> {
    const exit = await this.running.exit(30_000);
    if (!codes.includes(exit.code)) {
      throw new Error(`exit ${exit.code}: ${this.running.describe()}`);
    }
    this.#expectFlawless(least);
    return exit;
  }

  /** Is asked to end; its exit code is what it makes of the signal: 0, or 128 + n by default. */
  async stops(
    signal: NodeJS.Signals, codes: readonly number[], least: CompleteOptions = {},
  ): Promise<Exit> {
    this.running.kill(signal);
    return this.ends(codes, least);
  }

  #expectFlawless(least: CompleteOptions): void {
    if (BARE) return;
    expect({ of: this.running.argv.slice(-4), flaws: flaws(this.measurement, least) })
      .toEqual({ of: this.running.argv.slice(-4), flaws: [] });
  }
}

/** A file of random bytes; gives its checksum. */
export function randomFile(path: string, bytes: number): string {
  const data = randomBytes(bytes);
  writeFileSync(path, data);
  return createHash("sha256").update(data).digest("hex");
}

export function checksum(path: string): string {
  if (!existsSync(path)) return "no such file";
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
