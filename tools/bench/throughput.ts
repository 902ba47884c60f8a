// What kqtime costs an unshaped transfer: iperf3 between two namespaces, its sender measured, with one
// stream and with many, with the devices' offloads (packets of up to 64 KiB) and without.

import { type Lab, withLab } from "../../test/lib/network.ts";
import { type Bench, iperfRate, iperfServer } from "./bench.ts";
import { Comparison, type Way, WHOLE_TARGET } from "./ways.ts";

const STREAMS = [1, 16];
/** The connection's start, and the collector's, are not what is compared. */
const OMIT_SECONDS = 1;

/**
 * iperf3's server resets the connection at its end while the client has bytes in its send buffer:
 * those are never sent, and booked so.
 */
const UNSENT = "closed unsent";

/** Switches the offloads of both ends' devices. */
export async function setOffloads({ scope, left, right }: Lab, on: boolean): Promise<void> {
  const state = on ? "on" : "off";
  for (const { prefix, device } of [left, right]) {
    await scope.run(["ethtool", "-K", device, "tso", state, "gso", state, "gro", state], { prefix });
  }
}

let runs = 0;

/** Gbit/s as the receiving end of iperf3 counted. */
async function transfer(
  comparison: Comparison, way: Way, streams: number, seconds: number,
): Promise<Record<string, number>> {
  const { lab, bench } = comparison;
  const report = lab.scope.path(`iperf-${runs++}.json`);
  const started = await comparison.start(way, lab.left, [
    "iperf3", "--client", lab.right.v4, "--congestion", bench.congestion, "--parallel", `${streams}`,
    "--omit", `${OMIT_SECONDS}`, "--time", `${seconds}`, "--json", "--logfile", report,
  ]);
  await comparison.observe(started, () => started.running.exited);
  await comparison.end(started, null);
  return { rate: iperfRate(report, `throughput, ${way}`) };
}

export async function benchThroughput(bench: Bench): Promise<void> {
  const turns = bench.pairs ?? (bench.quick ? 2 : 10);
  const seconds = bench.quick ? 1 : 2;
  await withLab({}, async (lab) => {
    await iperfServer(lab.scope, lab.right.prefix);
    for (const offloads of [true, false]) {
      await setOffloads(lab, offloads);
      for (const streams of STREAMS) {
        const comparison = new Comparison(bench, lab, "throughput", [UNSENT]);
        // One that does not count: routes, buffers and the processor's clock settle.
        await transfer(comparison, "plain", streams, 1);
        await comparison.run(turns, (way) => transfer(comparison, way, streams, seconds));
        const what =
          `iperf3, ${streams} stream${streams === 1 ? "" : "s"}, ` +
          `${offloads ? "with" : "without"} offloads`;
        comparison.tell("rate", what, "Gbit/s", WHOLE_TARGET);
        comparison.judge(what);
      }
    }
  });
}
