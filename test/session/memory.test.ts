// A long run needs no more memory than a short one: whatever sockets and processes have ended, little
// of them is kept.

import { expect, test } from "bun:test";
import { heapStats } from "bun:jsc";
import { PacketBatch, TcpFlag } from "../../src/capture/packets.ts";
import { Kind } from "../../src/ring/layout.ts";
import { nativeParts } from "../../src/session/paths.ts";
import { Session } from "../../src/session/session.ts";
import { fixture } from "../lib/fixtures.ts";
import { isRoot, reason, testUnless } from "../lib/requires.ts";
import { CLIENT, MS } from "../match/bench.ts";
import { ipv4, putRow } from "../match/words.ts";
import { FedJoin } from "./fed-join.ts";

const MIB = 2 ** 20;
const GENERATIONS = 2 ** 20;

/** Bytes of the heap that are in use. */
function heapBytes(): number {
  for (let n = 0; n < 3; n++) Bun.gc(true);
  return heapStats().heapSize;
}

/** Connections of many programs to many peers, each with one call a direction. */
class ShortLives {
  readonly fed = new FedJoin({ label: "peer", intervalNs: 1000 * MS });
  readonly #batch = new PacketBatch(1);
  #lives = 0;

  live(count: number): void {
    const { bench } = this.fed;
    for (let n = 0; n < count; n++) {
      this.#one(this.#lives++);
      if (this.#lives % 200 === 0) bench.engine.tick(this.#lives * 2 * MS);
    }
    bench.engine.tick(this.#lives * 2 * MS + 900 * MS);
    bench.engine.tick(this.#lives * 2 * MS + 2000 * MS);
  }

  #one(life: number): void {
    const { bench } = this.fed;
    const atNs = life * 2 * MS;
    const entry = life % 1000;
    const generation = 1 + (Math.floor(life / 1000) % GENERATIONS);
    const lport = 20_000 + (life % 30_011);
    const remote = ipv4(10, 1, (life >> 8) & 255, life & 255);
    const inode = 1000 + life;
    const packet = (ns: number, out: boolean, off: number, bytes: number, ack: number, flags: number) => {
      this.#batch.count = 0;
      putRow(this.#batch, {
        timeNs: ns,
        source: out ? CLIENT : remote,
        sourcePort: out ? lport : 443,
        destination: out ? remote : CLIENT,
        destinationPort: out ? 443 : lport,
        sequence: (1000 + life * 7 + off) >>> 0,
        acknowledgment: (1000 + life * 7 + ack) >>> 0,
        bytes,
        flags,
      });
      bench.engine.packets(this.#batch);
    };
    bench.show(entry, { birthNs: atNs, generation, lport, rport: 443, remote, inode });
    packet(atNs + 100, true, 0, 0, 0, TcpFlag.SYN);
    packet(atNs + 200, false, 0, 0, 0, TcpFlag.SYN | TcpFlag.ACK);
    bench.record(Kind.Out, entry, atNs + 300, { generation, off: 0, bytes: 100 });
    packet(atNs + 400 + (life % 977), true, 0, 100, 0, TcpFlag.ACK);
    packet(atNs + 5000, false, 0, 50, 100, TcpFlag.ACK);
    bench.record(Kind.In, entry, atNs + 6000 + (life % 977), { generation, off: 0, bytes: 50 });
    bench.record(Kind.Unbind, entry, atNs + 9000, { generation });
    packet(atNs + 10_000, true, 100, 0, 50, TcpFlag.RST);
    bench.engine.flush();
  }
}

test("200,000 connections that have ended leave nothing", () => {
  const lives = new ShortLives();
  // As many connections are remembered as the peers' ends are, which nobody measures.
  lives.live(70_000);
  const before = heapBytes();
  lives.fed.intervals.length = 0;
  for (let n = 0; n < 20; n++) {
    lives.live(10_000);
    lives.fed.intervals.length = 0;
  }
  const grown = heapBytes() - before;
  const { engine } = lives.fed.bench;
  expect(engine.live.size).toBe(0);
  expect(grown).toBeLessThan(2 * MIB);
  const { directions, socketsRest } = lives.fed.finish(2e12);
  expect(directions.out).toMatchObject({ sockets: 270_000, calls: 270_000, bytesMatched: 27_000_000 });
  expect(directions.in).toMatchObject({ calls: 270_000, bytesMatched: 13_500_000 });
  expect(socketsRest.count).toBe(270_000 - 100);
}, 120_000);

const ECHO = `
const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: (s, d) => void s.write(d) } });
console.log(server.port);
process.stdin.on("end", () => process.exit(0)).resume();
`;

testUnless(
  reason(!isRoot && "needs root"),
  "a thousand processes that have ended leave nothing",
  async () => {
    const program = await fixture("short");
    const { preload } = nativeParts();
    const echo = Bun.spawn([process.execPath, "-e", ECHO], { stdin: "pipe", stdout: "pipe" });
    const port = new TextDecoder().decode((await echo.stdout.getReader().read()).value).trim();
    const warnings: string[] = [];
    let intervals = 0;
    const session = new Session({
      command: ["short"], log: null, json: null, record: null, interface: "lo",
      filter: `tcp port ${port}`, direction: "both", label: "port", bufferBytes: 8 * MIB, slots: 4096,
      statsEveryMs: 0, everything: true, intervalMs: 1000, intervalLog: null, logMinNs: 0, logSample: 1,
      rotation: null, onInterval: () => void intervals++, onWarning: (message) => void warnings.push(message),
    });
    try {
      const { collector } = session;
      const lives = async (count: number) => {
        const script = `i=0; while [ $i -lt ${count} ]; do ${program} ${port} $i; i=$((i+1)); done 2>/dev/null`;
        const child = Bun.spawn(["sh", "-c", script], {
          env: { ...process.env, ...session.environment, LD_PRELOAD: preload },
          stderr: "ignore",
        });
        await collector.run(() => child.exitCode !== null && collector.rings.open === 0);
        // Sockets of killed processes are let go when the kernel has been asked about them.
        await collector.run(() => collector.liveSockets === 0);
        // What the collector had at hand last is dropped with the next interval.
        const told = intervals + 2;
        await collector.run(() => intervals >= told);
        return { heap: heapBytes(), rss: process.memoryUsage().rss };
      };
      const before = await lives(200);
      const after = await lives(1000);
      // The echo's ends are nobody's: 65,536 such are remembered, of some 1.5 KiB.
      expect(after.heap - before.heap).toBeLessThan(3 * MIB);
      expect(after.rss - before.rss).toBeLessThan(40 * MIB);
      const summary = session.finish({ code: 0, signal: null });
      expect(summary.directions.out).toMatchObject({ sockets: 1200, calls: 1200, bytesMatched: 1_200_000 });
      expect(summary.directions.in).toMatchObject({ calls: 1200, bytesMatched: 1_200_000 });
      expect(summary.target.pids.length).toBe(1000);
      expect([summary.warnings, warnings]).toEqual([[], []]);
    } finally {
      session.close();
      echo.stdin.end();
      await echo.exited;
    }
  },
  180_000,
);
