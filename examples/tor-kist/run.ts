// One run of one variant: relay r1, under kqtime, with the variant's torrc, between the exit and
// clients that fetch as much as they get; all that r1 sends goes through one shaped device.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { until, type Running, type Scope } from "../../test/lib/process.ts";
import { TorNetwork } from "../../test/lib/tor.ts";
import { gapsOf, kqtimeRun, readSummary } from "../../tools/bench/bench.ts";
import { quantile } from "../../tools/bench/stats.ts";

export interface Setup {
  clients: number;
  /** Of all clients together. */
  streams: number;
  /** Of each client, for its bulk streams. */
  circuits: number;
  /** What r1's device carries away, for tc(8): "40mbit". */
  rate: string;
  /** How much may wait at that device, bytes. */
  limitBytes: number;
  congestion: string;
  seconds: number;
}

export interface Variant {
  name: string;
  /** Lines of r1's torrc. */
  torrc: string[];
}

export interface Result {
  variant: string;
  /** Which scheduler Tor says it uses, or how it came to use another one. */
  scheduler: string;
  /** Outbound kernel queue time of r1, weighted by byte, ns. */
  queueNs: { p50: number; p90: number; p99: number };
  /** What all bulk streams got, Mbit/s. */
  throughputMbit: number;
  /** Time of a byte to the exit's network and back, ms. */
  roundTripMs: { p50: number; p99: number };
  outBytes: number;
  coverage: number | null;
  /** What keeps the measurement from being whole; empty. */
  gaps: string;
}

interface Got {
  bytes: number;
  ms: number;
  roundTripsMs: number[];
}

const BULK_PORT = 8000;
const ECHO_PORT = 8001;
const HERE = import.meta.dir;

/** The network, started once; r1 and the clients end again, to be started for each run. */
export async function prepare(scope: Scope, setup: Setup): Promise<TorNetwork> {
  const tor = await TorNetwork.make(scope, {
    clients: setup.clients,
    shape: { r1: { rate: setup.rate, limitBytes: setup.limitBytes, burstBytes: 15_000 } },
    // A circuit of two legs would not keep to the path.
    torrc: ["ConfluxEnabled 0"],
  });
  // By the route: as the default of a namespace not every algorithm is allowed.
  for (const { name, v4, device } of Object.values(tor.nodes)) {
    await scope.run([
      "ip", "-n", name, "route", "replace", v4.replace(/\d+$/, "0/24"), "dev", device,
      "scope", "link", "src", v4, "congctl", setup.congestion,
    ]);
  }
  const exit = tor.nodes.r2;
  const source = scope.start(
    [process.execPath, join(HERE, "source.ts"), exit.v4, `${BULK_PORT}`, `${ECHO_PORT}`],
    { prefix: exit.prefix },
  );
  const [running] = await Promise.all([tor.start(), source.says(/ready/)]);
  await Promise.all(["r1", ...tor.clients].map((name) => running[name].stop()));
  return tor;
}

export async function runOnce(
  scope: Scope, tor: TorNetwork, setup: Setup, variant: Variant, number: number,
): Promise<Result> {
  const json = scope.path(`run-${number}.json`);
  const relay = await startRelay(scope, tor, variant, json, number);
  const running = await tor.start(tor.plain, tor.clients);
  const loads = tor.clients.map((name, i) => {
    const share = Math.floor((setup.streams + i) / setup.clients);
    return scope.start(
      [process.execPath, join(HERE, "load.ts"), tor.socks.split(":")[1], tor.nodes.r2.v4,
        `${BULK_PORT}`, `${ECHO_PORT}`, `${share}`, `${setup.circuits}`],
      { prefix: tor.nodes[name].prefix },
    );
  });
  await Promise.all(loads.map((load) => load.says(/connected/, 60_000)));
  await Promise.all(loads.map((load) => report(load, 1)));
  // A load that ends before it is asked to says why.
  await Promise.race([Bun.sleep(setup.seconds * 1000), ...loads.map(ended)]);
  const got = await Promise.all(loads.map((load) => report(load, 2)));
  await Promise.all(loads.map((load) => load.stop()));
  await Promise.all(tor.clients.map((name) => running[name].stop()));
  await tor.end("r1", relay.running);
  await relay.running.success();
  return judge(json, schedulerOf(readFileSync(relay.log, "utf8")), variant, got);
}

/**
 * Tor tells which scheduler it uses only when that changes while it logs. So it starts with another
 * one, and is given the variant's own lines before the first byte comes.
 */
async function startRelay(
  scope: Scope, tor: TorNetwork, variant: Variant, json: string, number: number,
): Promise<{ running: Running; log: string }> {
  const log = join(tor.folder("r1"), `scheduler-${number}.log`);
  const lines = [`Log [config,sched]info file ${log}`, ...variant.torrc];
  const vanilla = variant.torrc.some((line) => /^Schedulers\s+Vanilla/i.test(line));
  tor.configure("r1", ...lines, `Schedulers ${vanilla ? "KISTLite" : "Vanilla"}`);
  const { r1 } = await tor.start(
    () => scope.start(kqtimeRun(json, tor.command("r1")), { prefix: tor.nodes.r1.prefix }), ["r1"],
  );
  tor.configure("r1", ...lines);
  process.kill(tor.pid("r1"), "SIGHUP");
  await until("scheduler in the log of r1", () => /Scheduler type/.test(readFileSync(log, "utf8")));
  return { running: r1, log };
}

async function ended(load: Running): Promise<never> {
  await load.exited;
  throw new Error(`ended in mid-run: ${load.describe()}`);
}

/** Asks a load for its line number `count`. */
async function report(load: Running, count: number): Promise<Got> {
  load.kill("SIGUSR1");
  const found = await load.says(new RegExp(`(?:[^]*?^(\\{.*\\})$){${count}}`, "m"), 30_000);
  return JSON.parse(found[1]) as Got;
}

function judge(json: string, scheduler: string, variant: Variant, got: readonly Got[]): Result {
  const summary = readSummary(json);
  const { coverage, bytesCalled } = summary.directions.out;
  const whole = JSON.parse(readFileSync(json, "utf8")) as {
    directions: { out: { byteNs: Result["queueNs"] } };
  };
  const { p50, p90, p99 } = whole.directions.out.byteNs;
  const roundTripsMs = got.flatMap((each) => each.roundTripsMs).sort((a, b) => a - b);
  return {
    variant: variant.name,
    scheduler,
    queueNs: { p50, p90, p99 },
    throughputMbit: got.reduce((sum, each) => sum + (each.bytes * 8) / each.ms / 1000, 0),
    roundTripMs: { p50: quantile(roundTripsMs, 0.5), p99: quantile(roundTripsMs, 0.99) },
    outBytes: bytesCalled,
    coverage,
    // The clients leave in the middle of their downloads.
    gaps: gapsOf(summary, ["closed unsent"]),
  };
}

/** What Tor says, and whether KIST had to do without what it asks the kernel. */
function schedulerOf(log: string): string {
  const enabled = [...log.matchAll(/Scheduler type (\w+) has been enabled/g)].at(-1)?.[1] ?? "none";
  const lost = /kernel doesn't have the support|no kernel support\.$/m.test(log);
  return lost ? `${enabled}, without the kernel's help` : enabled;
}
