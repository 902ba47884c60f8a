// A transfer over connections that are older than their measurement: a process that nobody measures
// makes them, moves their first bytes, and gives them to a program under `kqtime run`.

import { OUT, readCallLog, type CallStream } from "./calllog.ts";
import { fixture } from "./fixtures.ts";
import type { End } from "./flow.ts";
import { BASE_SEC, Measurement } from "./kqtime.ts";
import type { KQTimeLog } from "./kqlog.ts";
import type { Node } from "./network.ts";
import type { Scope } from "./process.ts";
import { Witness } from "./tcpdump.ts";
import { compare, type CompareOptions, type Comparison } from "./truth.ts";

export interface OlderOptions {
  /** Options of both ends. */
  flow?: readonly string[];
  /** Bytes of each direction that pass before the measurement. */
  prelude: number;
  measure?: "client" | "server";
  v6?: boolean;
  kqtime?: readonly string[];
  timeoutMs?: number;
}

export interface OlderEnd extends End {
  measurement: Measurement;
  /** Offset in the stream of the first byte of each direction that was called. */
  base: { out: number; in: number };
}

let transfers = 0;

/** The measured end's side of such a transfer. `left` is the client, on one host both are one. */
export async function transferOlder(
  scope: Scope, left: Node, right: Node, options: OlderOptions,
): Promise<OlderEnd> {
  const program = await fixture("flow");
  const log = scope.path(`older-${transfers++}`);
  const measured = options.measure ?? "client";
  const address = options.v6 ? right.v6 : right.v4;
  const words = (options.flow ?? []).concat("--address", address, "--port", "7000");
  const node = measured === "client" ? left : right;
  const witness = await Witness.start(scope, node);
  const far = left === right ? null : await Witness.start(scope, node === left ? right : left);
  const path = scope.path(`given-${transfers}`);
  const serverWords = [program, "server", ...words, "--log", log];
  const clientWords = [program, "client", ...words, "--log", log];
  const give = ["--give", path, "--prelude", `${options.prelude}`];
  const isClient = measured === "client";
  const server = scope.start([...serverWords, ...(isClient ? [] : give)], { prefix: right.prefix });
  await server.says(/ready/);
  const client = scope.start([...clientWords, ...(isClient ? give : [])], { prefix: left.prefix });
  await (isClient ? client : server).says(/warm/);
  const measurement = new Measurement(
    scope, [...(isClient ? clientWords : serverWords), "--take", path],
    { prefix: node.prefix, options: options.kqtime ?? [] },
  );
  const { running } = measurement;
  await Promise.all([running, client, server].map((one) => one.success(options.timeoutMs)));
  const seen = await witness.finish(BASE_SEC, right.v4, left);
  const both = (options.flow ?? []).includes("--both");
  const writes = measured === "client" || both;
  const reads = measured === "server" || both;
  const base = { out: writes ? options.prelude : 0, in: reads ? options.prelude : 0 };
  return {
    node, seen, stdout: "", calls: readCallLog(`${log}.${measured}`, BASE_SEC),
    measurement, base, loopback: left === right,
    ...(far && { far: await far.finish(BASE_SEC, right.v4, left) }),
  };
}

/** Holds the log against the truth, both moved to where the stream stood. */
export function judgeOlder(end: OlderEnd, options: CompareOptions = {}): Comparison {
  const base = (direction: number) => (direction === OUT ? end.base.out : end.base.in);
  const log = end.measurement.log();
  const moved: KQTimeLog = {
    ...log,
    calls: log.calls.map((line) => ({ ...line, offset: line.offset + base(line.direction) })),
  };
  return compare(moved, { ...end, calls: end.calls.map((stream) => moveBy(stream, base(stream.direction))) }, options);
}

function moveBy(stream: CallStream, base: number): CallStream {
  return { ...stream, calls: stream.calls.map((call) => ({ ...call, offset: call.offset + base })) };
}
