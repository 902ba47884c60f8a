// Every byte, exactly: the log of kqtime against the calls that the fixture logged itself and the
// packets that an independent tcpdump saw, on a shaped link, for every combination of connections,
// size of the writes, content, kind of reader and direction of the traffic.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { transfer, type FlowOptions } from "../lib/flow.ts";
import { expectExact } from "../lib/judge.ts";
import { withLab, type LabOptions } from "../lib/network.ts";

const RATE = "20mbit";

async function measure(lab: LabOptions, options: FlowOptions): Promise<{ longestNs: number }> {
  return withLab(lab, async (made) => {
    const result = await transfer(made, options);
    const longest = [result.client, result.server].map((end) => expectExact(end).longestNs);
    return { longestNs: Math.max(...longest) };
  });
}

// Bytes a connection, so that each case is about two seconds of traffic or less.
const TOTALS: Record<number, number> = { 1: 2_000_000, 10: 200_000, 100: 25_000 };

let number = 0;
for (const conns of [1, 10, 100]) {
  for (const size of [512, 16384]) {
    for (const content of ["random", "zero", "same"]) {
      for (const reader of ["prompt", "sleeping"]) {
        for (const way of ["one way", "both ways"]) {
          // What the matrix does not name is spread over it: blocking threads or one thread with
          // poll, the family of calls, and the congestion control (the host's or cubic).
          const mode = number % 2 ? "threads" : "poll";
          const calls = ["send", "write", "writev", "sendmsg"][(number >> 1) % 4];
          number++;
          const words = [
            "--conns", `${conns}`, "--size", `${size}`, "--content", content,
            "--total", `${TOTALS[conns]}`, "--mode", mode, "--calls", calls,
            ...(reader === "sleeping" ? ["--read-sleep", "50"] : []),
            ...(way === "both ways" ? ["--both"] : []),
            ...((number >> 3) % 2 ? ["--congestion", "cubic"] : []),
          ];
          e2e(
            `${conns} × ${size} B, ${content}, reader ${reader}, ${way} (${mode}, ${calls})`,
            async () => {
              await measure({ shape: { rate: RATE }, shapeBack: { rate: RATE } }, { flow: words });
            },
            60_000,
          );
        }
      }
    }
  }
}

e2e("a delay of more than ten seconds", async () => {
  const { longestNs } = await measure(
    { shape: { rate: "2mbit" } },
    { flow: ["--total", "3200000", "--sndbuf", "4000000"] },
  );
  expect(longestNs).toBeGreaterThan(10e9);
}, 60_000);

e2e("data that waits before accept", async () => {
  await measure(
    { shape: { rate: RATE } },
    {
      flow: ["--conns", "10", "--total", "60000", "--mode", "threads"],
      server: ["--accept-sleep", "100"],
    },
  );
}, 60_000);
