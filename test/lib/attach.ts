// A program under measurement whose collector is killed, and `kqtime attach` on it.

import { readFileSync } from "node:fs";
import { readCallLog } from "./calllog.ts";
import { fixture } from "./fixtures.ts";
import type { End } from "./flow.ts";
import { readLog, type KQTimeLog } from "./kqlog.ts";
import { BASE_SEC, kqtime, Measurement, type Summary } from "./kqtime.ts";
import type { Lab, Node } from "./network.ts";
import { childrenOf, until, type Running, type Scope } from "./process.ts";
import { Witness } from "./tcpdump.ts";

/** `kqtime attach`, with its log and its summary in the scope's folder. */
export class Attachment {
  readonly logPath: string;
  readonly jsonPath: string;
  readonly running: Running;
  static #count = 0;

  constructor(scope: Scope, pid: number, node: Node | null, options: readonly string[] = []) {
    const number = Attachment.#count++;
    this.logPath = scope.path(`attach-${number}.log`);
    this.jsonPath = scope.path(`attach-${number}.json`);
    this.running = kqtime(
      scope,
      ["attach", `${pid}`, "--quiet", "--log", this.logPath, "--json", this.jsonPath, ...options],
      node === null ? {} : { prefix: node.prefix },
    );
  }

  summary(): Summary {
    return JSON.parse(readFileSync(this.jsonPath, "utf8")) as Summary;
  }

  log(): KQTimeLog {
    return readLog(this.logPath, BASE_SEC);
  }
}

/** Starts a command under `kqtime run`, waits until it has a ring, and returns its pid. */
export async function measured(
  scope: Scope, command: readonly string[], node: Node, options: readonly string[] = [],
): Promise<{ measurement: Measurement; pid: number }> {
  const measurement = new Measurement(scope, command, { prefix: node.prefix, options });
  const pid = await until("ring", () => {
    for (const child of childrenOf(measurement.running.pid)) {
      if (readFileSync(`/proc/${child}/maps`, "latin1").includes("/memfd:kqtime")) return child;
    }
    return null;
  });
  return { measurement, pid };
}

/** A client whose collector is killed in the middle of a transfer, as seen from then on. */
export async function interruptedTransfer(
  lab: Lab, flow: readonly string[], options: readonly string[],
  meanwhile: (pid: number) => Promise<void>,
): Promise<{ end: End; attachment: Attachment; killedLog: string }> {
  const { scope, left, right } = lab;
  const program = await fixture("flow");
  const log = scope.path("flow");
  const words = ["--address", right.v4, "--port", "7000", "--log", log, ...flow];
  const witness = await Witness.start(scope, left);
  const far = await Witness.start(scope, right);
  const server = scope.start([program, "server", ...words], { prefix: right.prefix });
  await server.says(/ready/);
  const { measurement, pid } = await measured(scope, [program, "client", ...words], left, options);
  await until("lines of the first log", () => linesOf(measurement.logPath) > 100);
  measurement.running.kill("SIGKILL");
  await measurement.running.exited;
  await meanwhile(pid);
  const attachment = new Attachment(scope, pid, left);
  await attachment.running.success();
  // What the program checks itself: each byte that it receives.
  await server.success();
  const seen = await witness.finish(BASE_SEC, right.v4, left);
  const end: End = {
    node: left, seen, stdout: "", calls: readCallLog(`${log}.client`, BASE_SEC),
    far: await far.finish(BASE_SEC, right.v4, left),
  };
  return { end, attachment, killedLog: measurement.logPath };
}

function linesOf(path: string): number {
  try {
    return readFileSync(path, "utf8").split("\n").length;
  } catch {
    return 0;
  }
}
