// What kqtime costs an unshaped transfer: iperf3 with one stream between two namespaces, without
// kqtime, with the sender or the receiver measured, and beside a tcpdump alone, in turns.

import { readFileSync } from "node:fs";
import { withLab, type Lab } from "../../test/lib/network.ts";
import {
  type Bench, cpuNs, gapsOf, iperfServer, kqtimeRun, lossOf, memoryOf, readSummary,
} from "./bench.ts";
import { shuffled, spread } from "./stats.ts";

const WAYS = ["plain", "sender", "receiver", "tcpdump"] as const;
type Way = (typeof WAYS)[number];

const TARGET_RATIO = 0.9;
/** The connection's start, and the collector's, are not what is compared. */
const OMIT_SECONDS = 2;
const GIGA = 1e9;

/**
 * iperf3's server resets the connection at its end while the client has bytes in its send buffer:
 * those are never sent, and booked so.
 */
const UNSENT = "closed unsent";

interface Measured {
  lost: number;
  /** Of the bytes that the kernel did not throw away unsent. */
  coverage: number;
  unsentBytes: number;
  balanced: boolean;
  /** Why it is not whole, if it is not. */
  gaps: string;
  peakBytes: number;
  /** Of the collector, all threads, during the transfer; percent of a core. */
  cpuPercent: number;
}

let runs = 0;

/** Gbit/s as the receiving end of iperf3 counted. */
async function transfer(
  lab: Lab, way: Way, congestion: string, seconds: number, measured: Measured[],
): Promise<number> {
  const { scope, left, right } = lab;
  const number = runs++;
  const report = scope.path(`iperf-${number}.json`);
  const iperf = [
    "iperf3", "--client", right.v4, "--congestion", congestion, "--omit", `${OMIT_SECONDS}`,
    "--time", `${seconds}`, "--json", "--logfile", report,
    ...(way === "receiver" ? ["--reverse"] : []),
  ];
  const prefix = left.prefix;
  if (way === "plain") {
    await scope.run(iperf, { prefix });
  } else if (way === "tcpdump") {
    const capture = scope.start(
      [
        "tcpdump", "-i", "any", "-s", "128", "-B", "65536", "-n", "-Z", "root",
        "-w", scope.path("tcpdump.pcap"), "tcp and not port 22",
      ],
      { prefix },
    );
    await capture.says(/listening on/);
    await scope.run(iperf, { prefix });
    await capture.stop("SIGINT");
  } else {
    const json = scope.path(`kqtime-${number}.json`);
    const running = scope.start(kqtimeRun(json, iperf), { prefix });
    let peakBytes = 0;
    const cpu = { fromMs: 0, fromNs: 0, percent: 0 };
    const sampler = setInterval(() => {
      const memory = memoryOf(running.pid);
      if (memory === null) return;
      peakBytes = Math.max(peakBytes, memory.peak);
      const [nowMs, nowNs] = [performance.now(), cpuNs(running.pid)];
      if (cpu.fromMs === 0) [cpu.fromMs, cpu.fromNs] = [nowMs, nowNs];
      else if (nowNs > 0) cpu.percent = ((nowNs - cpu.fromNs) / (nowMs - cpu.fromMs) / 1e6) * 100;
    }, 200);
    try {
      await running.success();
    } finally {
      clearInterval(sampler);
    }
    const summary = readSummary(json);
    // A sender reads a little too, and a receiver writes: both directions must be whole.
    const { out, in: inbound } = summary.directions;
    const unsentBytes = out.bytesUnmatched[UNSENT] ?? 0;
    const due = out.bytesCalled - (out.bytesInFlight ?? 0) - unsentBytes;
    measured.push({
      lost: lossOf(summary),
      coverage: Math.min(out.bytesMatched / due, inbound.coverage ?? 0),
      unsentBytes,
      balanced: summary.booksBalance,
      gaps: gapsOf(summary, [UNSENT]).replace(/^(?=.)/, `${way} measured, run ${number}: `),
      peakBytes,
      cpuPercent: cpu.percent,
    });
  }
  const { end } = JSON.parse(readFileSync(report, "utf8")) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return end.sum_received.bits_per_second / GIGA;
}

export async function benchThroughput(bench: Bench): Promise<void> {
  const { report, random, quick, congestion } = bench;
  const turns = bench.pairs ?? (quick ? 4 : 10);
  const seconds = quick ? 1 : 4;
  await withLab({}, async (lab) => {
    await iperfServer(lab.scope, lab.right.prefix);
    const measured: Measured[] = [];
    const rates: Record<Way, number[]> = { plain: [], sender: [], receiver: [], tcpdump: [] };
    // One that does not count: routes, buffers and the processor's clock settle.
    await transfer(lab, "plain", congestion, 1, measured);
    for (let turn = 0; turn < turns; turn++) {
      for (const way of shuffled(WAYS, random)) {
        rates[way].push(await transfer(lab, way, congestion, seconds, measured));
      }
    }
    const ratio = (way: Way) => spread(rates[way].map((rate, turn) => rate / rates.plain[turn]!));
    report.add("throughput", `iperf3 (${congestion}) without kqtime`, "Gbit/s", spread(rates.plain));
    for (const way of ["sender", "receiver"] as const) {
      report.add("throughput", `${way} measured`, "Gbit/s", spread(rates[way]));
      report.add("throughput", `${way} measured, ratio`, "", ratio(way), {
        digits: 3, target: { sign: ">=", value: TARGET_RATIO },
      });
    }
    report.add("throughput", "beside a tcpdump alone, ratio", "", ratio("tcpdump"), { digits: 3 });
    const one = (value: number) => spread([value]);
    report.add(
      "throughput", "records and packets lost", "",
      one(measured.reduce((sum, each) => sum + each.lost, 0)),
      { digits: 0, target: { sign: "=", value: 0 } },
    );
    report.add(
      "throughput", "least coverage of what was sent", "",
      one(Math.min(...measured.map((each) => each.coverage))),
      { digits: 4, target: { sign: "=", value: 1 } },
    );
    const unsent = measured.filter((each) => each.unsentBytes > 0).length;
    if (unsent > 0) {
      report.notes.push(
        `throughput: in ${unsent} of ${measured.length} sessions iperf3's server ended the ` +
          `connection over bytes not sent yet, booked as "${UNSENT}" and not due`,
      );
    }
    report.notes.push(...measured.map((each) => each.gaps).filter((gaps) => gaps !== ""));
    report.add(
      "throughput", "runs whose books do not balance", "",
      one(measured.filter((each) => !each.balanced).length),
      { digits: 0, target: { sign: "=", value: 0 } },
    );
    report.add(
      "throughput", "collector during the transfer", "% of a core",
      spread(measured.map((each) => each.cpuPercent)), { digits: 0 },
    );
    report.add(
      "throughput", "collector's memory at its highest", "MiB",
      spread(measured.map((each) => each.peakBytes / 2 ** 20)), { digits: 0 },
    );
  });
}
