// wrk, a load of HTTP requests, and what it ends with: all latencies, and how many it served.

import { writeFileSync } from "node:fs";
import type { Lab, Node } from "../../test/lib/network.ts";
import { requireLoad } from "./bench.ts";
import type { Latencies } from "./pooled.ts";

export interface Served {
  readonly latencies: Latencies;
  /** Requests a second. */
  readonly rate: number;
}

export interface WrkLoad {
  readonly name: string;
  readonly connections: number;
  readonly seconds: number;
  /**
   * A connection asks again after 1 ms to this, evenly (after the same time always, all would ask at
   * once); 0: at once.
   */
  readonly pauseMostMs: number;
  readonly close?: boolean;
}

/** wrk's own table rounds; here it prints what it has: each latency in µs, and how often. */
function script({ pauseMostMs, close }: WrkLoad): string {
  return `
${close ? `wrk.headers["Connection"] = "close"` : ""}
${pauseMostMs > 0 ? `function delay() return math.random(1, ${pauseMostMs}) end` : ""}
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("served %d %d %d\\n", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
  for i = 1, #latency do io.write(string.format("latency %d %d\\n", latency(i))) end
end
`;
}

/** @throws Error if a request failed, or none was served */
export async function wrk(lab: Lab, from: Node, url: string, load: WrkLoad): Promise<Served> {
  const { scope } = lab;
  const lua = scope.path(`${load.name}.lua`);
  writeFileSync(lua, script(load));
  const words = [
    "wrk", "--threads", "1", "--connections", `${load.connections}`,
    "--duration", `${load.seconds}s`, "--script", lua, url,
  ];
  const { stdout } = await scope.run(words, { prefix: from.prefix });
  const numbers = /^served (\d+) (\d+) (\d+)$/m.exec(stdout);
  if (numbers === null) throw new Error(`wrk printed no figures: ${stdout}`);
  const [requests = 0, durationUs = 1, errors = 0] = numbers.slice(1).map(Number);
  if (errors > 0) throw new Error(`wrk counted ${errors} errors, ${load.name}`);
  requireLoad(requests, `wrk, ${load.name}`);
  const found = [...stdout.matchAll(/^latency (\d+) (\d+)$/gm)];
  const column = (at: number) => found.map((match) => Number(match[at]));
  return { latencies: { us: column(1), counts: column(2) }, rate: requests / (durationUs / 1e6) };
}
