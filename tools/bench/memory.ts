// The collector's memory beside a flood of packets that are none of its target's: it must not keep
// what nobody will ask for.

import { withLab } from "../../test/lib/network.ts";
import {
  type Bench, compileHook, iperfRate, iperfServer, kqtimeRun, memoryOf,
} from "./bench.ts";
import { spread } from "./stats.ts";

const MIB = 2 ** 20;
/** Growth over the second half of the flood; what is read once and kept shows in the first. */
const TARGET_MIB = 16;

export async function benchMemory(bench: Bench): Promise<void> {
  const seconds = bench.quick ? 6 : 60;
  await withLab({}, async (lab) => {
    const { scope, left, right } = lab;
    const program = await compileHook(scope);
    await iperfServer(scope, right.prefix);
    const collector = scope.start(
      kqtimeRun(scope.path("memory.json"), [program, "idle", "1"]),
      { prefix: left.prefix },
    );
    await collector.says(/ready/);
    const before = memoryOf(collector.pid)!.now;
    const report = scope.path("flood.json");
    const flood = scope.start(
      [
        "iperf3", "--client", right.v4, "--time", `${seconds}`, "--parallel", "4",
        "--congestion", bench.congestion, "--json", "--logfile", report,
      ],
      { prefix: left.prefix },
    );
    await Bun.sleep((seconds * 1000) / 2);
    const half = memoryOf(collector.pid)!.peak;
    await flood.success((seconds + 30) * 1000);
    const { peak } = memoryOf(collector.pid)!;
    const rate = iperfRate(report, "memory");
    await collector.stop("SIGTERM");
    const one = (bytes: number) => spread([bytes / MIB]);
    const add = bench.report.add.bind(bench.report);
    add("memory", "the flood", "Gbit/s", spread([rate]));
    add("memory", "collector before the flood", "MiB", one(before), { digits: 0 });
    add("memory", `at its highest in a flood of ${seconds} s`, "MiB", one(peak), { digits: 0 });
    add("memory", "growth in the second half", "MiB", one(peak - half), {
      digits: 0, target: { sign: "<=", value: TARGET_MIB },
    });
  });
}
