// wrk, a load of HTTP requests, and the figures that it ends with. It runs for a second at a time: the
// machine's bad moments then spoil the quantiles of some seconds, not those of the whole load.

import { writeFileSync } from "node:fs";
import type { Lab, Node } from "../../test/lib/network.ts";
import { requireLoad } from "./bench.ts";
import { geometricMean } from "./stats.ts";

export interface Served {
  /** Milliseconds; geometric means of the single seconds' quantiles. */
  readonly p50: number;
  readonly p99: number;
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

const MICRO_PER_MILLI = 1000;

/** wrk's own table rounds; here it prints what it has. */
function script({ pauseMostMs, close }: WrkLoad): string {
  return `
${close ? `wrk.headers["Connection"] = "close"` : ""}
${pauseMostMs > 0 ? `function delay() return math.random(1, ${pauseMostMs}) end` : ""}
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("served %d %d %d %d %d\\n", latency:percentile(50), latency:percentile(99),
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
`;
}

/** @throws Error if a request failed, or none was served */
export async function wrk(lab: Lab, from: Node, url: string, load: WrkLoad): Promise<Served> {
  const seconds: Served[] = [];
  while (seconds.length < load.seconds) seconds.push(await second(lab, from, url, load));
  const mean = (of: "p50" | "p99") => geometricMean(seconds.map((each) => each[of]));
  const rate = seconds.reduce((sum, each) => sum + each.rate, 0) / seconds.length;
  return { p50: mean("p50"), p99: mean("p99"), rate };
}

async function second(lab: Lab, from: Node, url: string, load: WrkLoad): Promise<Served> {
  const { scope } = lab;
  const lua = scope.path(`${load.name}.lua`);
  writeFileSync(lua, script(load));
  const words = [
    "wrk", "--threads", "1", "--connections", `${load.connections}`,
    "--duration", "1s", "--script", lua, url,
  ];
  const { stdout } = await scope.run(words, { prefix: from.prefix });
  const numbers = /^served (\d+) (\d+) (\d+) (\d+) (\d+)$/m.exec(stdout);
  if (numbers === null) throw new Error(`wrk printed no figures: ${stdout}`);
  const [p50 = 0, p99 = 0, requests = 0, durationUs = 1, errors = 0] = numbers.slice(1).map(Number);
  if (errors > 0) throw new Error(`wrk, ${load.name}: ${errors} errors`);
  requireLoad(requests, `wrk, ${load.name}`);
  return {
    p50: p50 / MICRO_PER_MILLI, p99: p99 / MICRO_PER_MILLI, rate: requests / (durationUs / 1e6),
  };
}
