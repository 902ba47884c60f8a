// Made-up measurements for the tests of the summary and the table.

import { Reason } from "../../src/output/reasons.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import type { SocketInput, SummaryInput } from "../../src/output/summary.ts";

/** `calls` calls of 1000 bytes, whose times are 1, 2, 3 … times `stepNs`; the books balance. */
export function traffic(calls: number, stepNs: number): DirectionStats {
  const stats = new DirectionStats();
  stats.sockets = calls > 0 ? 3 : 0;
  for (let call = 1; call <= calls; call++) {
    stats.calls++;
    stats.bytesCalled += 1000;
    stats.bytesMatched += 1000;
    stats.callNs.record(call * stepNs, 1);
    stats.byteNs.record(call * stepNs, 1000);
  }
  return stats;
}

/** Adds bytes without a time. */
export function missed(stats: DirectionStats, reason: Reason, bytes: number): DirectionStats {
  stats.bytesCalled += bytes;
  stats.unmatched[reason]! += bytes;
  return stats;
}

export function socketInput(
  sock: number,
  out: DirectionStats,
  inbound: DirectionStats,
): SocketInput {
  return { sock, pid: 77, fd: 5, lport: 40000, rport: 443, label: "out:443", out, in: inbound };
}

export function summaryInput(changes: Partial<SummaryInput> = {}): SummaryInput {
  return {
    version: "1.0.0",
    command: ["curl", "-s", "https://example.com/"],
    exitCode: 0,
    signal: null,
    pids: [4321],
    baseSec: 1732345678,
    startNs: -500,
    endNs: 12.5e9,
    labels: [],
    sockets: [],
    socketsRest: { count: 0, out: new DirectionStats(), in: new DirectionStats() },
    datagram: { sockets: 0, calls: 0, bytes: 0 },
    losses: {
      ringRecords: 0,
      capturePackets: 0,
      interfacePackets: 0,
      badRecords: 0,
      badPackets: 0,
      logLines: 0,
    },
    warnings: [],
    ...changes,
  };
}

/** Two labels with something of everything. */
export function busyInput(): SummaryInput {
  const web = { label: "out:443", out: traffic(10000, 12345), in: traffic(500, 999) };
  missed(web.out, Reason.captureDrop, 4);
  missed(web.in, Reason.concurrent, 120000);
  web.out.bytesInFlight = 1234;
  web.out.bytesCalled += 1234;
  web.out.bytesRetransmitted = 123456;
  web.in.bytesUnread = 77;
  web.in.bytesUnexplained = 1500;
  const relay = { label: "relay=AB;CD port\n9001", out: traffic(3, 1.5e9), in: traffic(2000, 12) };
  relay.in.reassemblyNs.record(0, 1900000);
  relay.in.reassemblyNs.record(23456789, 100000);
  return summaryInput({
    pids: Array.from({ length: 12 }, (_, i) => 4321 + i),
    exitCode: null,
    signal: "SIGTERM",
    labels: [relay, web],
    sockets: [
      socketInput(1, web.out, web.in),
      { ...socketInput(2, relay.out, relay.in), peer: "::1" },
    ],
    datagram: { sockets: 1, calls: 20, bytes: 3000 },
    losses: {
      ringRecords: 3,
      capturePackets: 1234567,
      interfacePackets: 0,
      badRecords: 0,
      badPackets: 0,
      logLines: 12,
      fragments: 2,
    },
    warnings: ["the capture lost packets: bytes that they carried have no time"],
  });
}
