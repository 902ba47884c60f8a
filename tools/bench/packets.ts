// As many packets a second as this machine makes, the sender measured: iperf3 with small segments and
// without offloads. None may be lost.

import { processorNs } from "../../src/ffi/clocks.ts";
import { withLab } from "../../test/lib/network.ts";
import {
  type Bench, gapsOf, iperfServer, kqtimeRun, lossOf, memoryOf, readSummary, requireCalls, requireLoad,
} from "./bench.ts";
import { spread } from "./stats.ts";
import { setOffloads } from "./throughput.ts";

const TARGET_PACKETS = 500_000;
const STREAMS = 4;
/** The least that Linux sends as is (tcp_min_snd_mss allows less). */
const SEGMENT_BYTES = 88;

export async function benchPackets(bench: Bench): Promise<void> {
  const runs = bench.pairs ?? (bench.quick ? 1 : 10);
  const seconds = bench.quick ? 3 : 6;
  await withLab({}, async (lab) => {
    const { scope, left, right } = lab;
    await setOffloads(lab, false);
    await iperfServer(scope, right.prefix);
    const counted = async () => {
      const { stdout } = await scope.run(["cat", "/proc/net/dev"], { prefix: left.prefix });
      const fields = new RegExp(`${left.device}:(.*)$`, "m").exec(stdout)![1]!.trim().split(/\s+/);
      // Received, and sent.
      return Number(fields[1]) + Number(fields[9]);
    };
    const rates: number[] = [];
    const cores: number[] = [];
    const peaks: number[] = [];
    let lost = 0;
    for (let run = 0; run < runs; run++) {
      const json = scope.path(`packets-${run}.json`);
      const running = scope.start(
        kqtimeRun(json, [
          "iperf3", "--client", right.v4, "--congestion", bench.congestion, "--time", `${seconds}`,
          "--parallel", `${STREAMS}`, "--forceflush", "--set-mss", `${SEGMENT_BYTES}`,
        ]),
        { prefix: left.prefix },
      );
      await running.says(/0\.00-/);
      const [fromMs, fromNs, from] = [performance.now(), processorNs(running.pid), await counted()];
      await Bun.sleep((seconds - 2) * 1000);
      const [ms, ns] = [performance.now() - fromMs, processorNs(running.pid) - fromNs];
      const to = await counted();
      rates.push(requireLoad((to - from) / (ms / 1000), "packets"));
      cores.push((ns / ms / 1e6) * 100);
      peaks.push(memoryOf(running.pid)!.peak / 2 ** 20);
      await running.success();
      const summary = readSummary(json);
      requireCalls(summary, "packets");
      lost += lossOf(summary);
      const gaps = gapsOf(summary, ["closed unsent"]);
      if (gaps !== "") bench.report.notes.push(`packets: ${gaps}`);
    }
    const add = bench.report.add.bind(bench.report);
    add("packets", "sent and received by the measured end", "packets/s", spread(rates), {
      digits: 0, target: { sign: ">=", value: TARGET_PACKETS },
    });
    add("packets", "records and packets lost", "", spread([lost]), {
      digits: 0, target: { sign: "=", value: 0 },
    });
    add("packets", "the collector", "% of a core", spread(cores), {
      digits: 0, target: { sign: "<=", value: 100 },
    });
    add("packets", "its memory at the highest", "MiB", spread(peaks), { digits: 0 });
  });
}
