// The measured transfer that most end-to-end tests are made of: the flow fixture on both ends of
// a lab, each end under kqtime or not, with a witness on the device of each end.

import { readCallLog, type CallStream } from "./calllog.ts";
import { fixture } from "./fixtures.ts";
import { BARE, BASE_SEC, Measurement } from "./kqtime.ts";
import type { Lab, Node } from "./network.ts";
import type { Seen } from "./pcap.ts";
import type { Running, Scope } from "./process.ts";
import { Witness } from "./tcpdump.ts";
import { compare, perfectLog, type Comparison, type CompareOptions } from "./truth.ts";

export interface FlowOptions {
  /** Options of both fixtures, such as ["--conns", "10"]. */
  flow?: readonly string[];
  client?: readonly string[];
  server?: readonly string[];
  /** Options of kqtime. */
  kqtime?: readonly string[];
  measure?: "client" | "server" | "both";
  v6?: boolean;
  port?: number;
  /** Called when the client has been started. */
  meanwhile?: (client: Running, measurement: Measurement | undefined) => Promise<void>;
  timeoutMs?: number;
}

/** One end of the transfer, as it was. */
export interface End {
  node: Node;
  calls: CallStream[];
  seen: Seen;
  /** What the device at the other end of the cable showed: the other node's, or the router's. */
  far?: Seen;
  loopback?: boolean;
  measurement?: Measurement;
  stdout: string;
}

export interface FlowResult {
  client: End;
  server: End;
}

let transfers = 0;

export async function transfer(lab: Lab, options: FlowOptions = {}): Promise<FlowResult> {
  const { scope, left, right } = lab;
  const program = await fixture("flow");
  const log = scope.path(`flow-${transfers++}`);
  const measure = options.measure ?? "both";
  const address = options.v6 ? right.v6 : right.v4;
  const port = options.port ?? 7000;
  const words = ["--address", address, "--port", `${port}`, "--log", log, ...(options.flow ?? [])];
  const { middle } = lab;
  const witnesses = await Promise.all([
    Witness.start(scope, left),
    Witness.start(scope, right),
    ...(middle ? [Witness.start(scope, middle, "right0"), Witness.start(scope, middle, "left0")] : []),
  ]);
  const begin = (role: "client" | "server", node: Node) => {
    const command = [program, role, ...words, ...(options[role] ?? [])];
    if (BARE || (measure !== "both" && measure !== role)) {
      return { running: scope.start(command, { prefix: node.prefix }) };
    }
    const measurement = new Measurement(scope, command, {
      prefix: node.prefix, options: options.kqtime ?? [],
    });
    return { running: measurement.running, measurement };
  };
  const server = begin("server", right);
  await server.running.says(/ready/);
  const client = begin("client", left);
  await options.meanwhile?.(client.running, client.measurement);
  const [clientExit, serverExit] = await Promise.all([
    client.running.success(options.timeoutMs), server.running.success(options.timeoutMs),
  ]);
  const seen = await Promise.all(
    witnesses.map((witness) => witness.finish(BASE_SEC, right.v4, left)),
  );
  const [fromServer, fromClient] = middle ? [seen[3], seen[2]] : [seen[1], seen[0]];
  const end = (
    role: "client" | "server", node: Node, sight: Seen, far: Seen, stdout: string,
    measurement: Measurement | undefined,
  ): End => ({
    node, seen: sight, far, stdout, calls: readCallLog(`${log}.${role}`, BASE_SEC),
    ...(measurement && { measurement }),
  });
  return {
    client: end("client", left, seen[0], fromServer, clientExit.stdout, client.measurement),
    server: end("server", right, seen[1], fromClient, serverExit.stdout, server.measurement),
  };
}

/** Both ends on one loopback device: under one kqtime together, or one of them alone. */
export async function transferOnLoopback(
  node: Node, scope: Scope, options: FlowOptions = {},
): Promise<FlowResult> {
  const program = await fixture("flow");
  const log = scope.path(`flow-${transfers++}`);
  const address = options.v6 ? node.v6 : node.v4;
  const port = `${options.port ?? 7000}`;
  const words = ["--address", address, "--port", port, "--log", log, ...(options.flow ?? [])];
  const measure = options.measure ?? "both";
  const start = { prefix: node.prefix, options: options.kqtime ?? [] };
  const witness = await Witness.start(scope, node);
  const measured: { client?: Measurement; server?: Measurement } = {};
  if (measure === "both") {
    const measurement = new Measurement(scope, [program, "pair", ...words], start);
    if (!BARE) measured.client = measured.server = measurement;
    await measurement.running.success(options.timeoutMs);
  } else {
    const begin = (role: "client" | "server"): Running => {
      const command = [program, role, ...words, ...(options[role] ?? [])];
      if (BARE || measure !== role) return scope.start(command, { prefix: node.prefix });
      return (measured[role] = new Measurement(scope, command, start)).running;
    };
    const server = begin("server");
    await server.says(/ready/);
    const client = begin("client");
    await options.meanwhile?.(client, measured.client);
    await Promise.all([client.success(options.timeoutMs), server.success(options.timeoutMs)]);
  }
  const seen = await witness.finish(BASE_SEC, node.v4);
  const end = (role: "client" | "server"): End => {
    const measurement = measured[role];
    return {
      node, seen, loopback: true, stdout: "", calls: readCallLog(`${log}.${role}`, BASE_SEC),
      ...(measurement && { measurement }),
    };
  };
  return { client: end("client"), server: end("server") };
}

/** The two ends as one, for a session that measured both. */
export function joined({ client, server }: FlowResult): End {
  return { ...client, calls: [...client.calls, ...server.calls] };
}

/** Holds what kqtime wrote about one end against the truth; without kqtime, the truth itself. */
export function judge(end: End, options: CompareOptions = {}): Comparison {
  const log = end.measurement ? end.measurement.log() : perfectLog(end);
  return compare(log, end, options);
}
