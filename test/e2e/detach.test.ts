// A measurement that ends while the processes live on: what they called up to then is matched, what
// they do afterwards is not of it, and nothing gets a reason that is not so.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { e2e } from "../lib/e2e.ts";
import { kqtime, Measurement } from "../lib/kqtime.ts";
import { withLoopback } from "../lib/network.ts";

/** A daemon with two connections to itself, over which 1 kB goes to and fro, busily. */
const DAEMON = `
import os, socket, sys, threading, time
if os.fork(): os._exit(0)
os.setsid()
def take(c, n):
    while n > 0: n -= len(c.recv(65536))
def echo(c):
    while True:
        take(c, 1000)
        c.sendall(b"y" * 1000)
def play(s):
    for n in range(1 << 30):
        s.sendall(b"x" * 1000)
        take(s, 1000)
        time.sleep(0.002)
        if n == 100: print("busy", os.getpid(), flush=True)
l = socket.create_server(("127.0.0.1", 0))
for n in range(2):
    s = socket.create_connection(l.getsockname())
    c, _ = l.accept()
    threading.Thread(target=echo, args=(c,), daemon=True).start()
    threading.Thread(target=play, args=(s,), daemon=True).start()
time.sleep(60)
`;

for (const turn of [1, 2, 3]) {
  e2e(`between two calls of a daemon (${turn})`, () =>
    withLoopback(async (node, scope) => {
      const recording = scope.path("recording");
      const measurement = new Measurement(
        scope, ["python3", "-c", DAEMON], { prefix: node.prefix, options: ["--record", recording] },
      );
      const { running } = measurement;
      const pid = Number((await running.says(/busy (\d+)/))[1]);
      running.kill("SIGINT");
      await running.exit();
      process.kill(pid, "SIGKILL");
      const { directions, booksBalance, losses } = measurement.summary();
      const { out, in: inbound } = directions;
      expect(booksBalance).toBe(true);
      expect(Object.values(losses).every((count) => count === 0)).toBe(true);
      expect([out.bytesUnmatched, inbound.bytesUnmatched]).toEqual([{}, {}]);
      expect([out.bytesUnexplained, inbound.bytesUnexplained]).toEqual([0, 0]);
      expect(out.bytesMatched).toBeGreaterThan(100_000);
      expect(out.bytesMatched + out.bytesInFlight!).toBe(out.bytesCalled);
      // No more than was on its way at that moment, and not for long.
      expect(out.bytesInFlight! + inbound.bytesUnread!).toBeLessThanOrEqual(4000);
      for (const ageNs of [out.oldestUnsentNs, inbound.oldestUnreadNs]) {
        expect(ageNs ?? 0).toBeLessThan(20e6);
      }
      const [log, json] = [scope.path("again.log"), scope.path("again.json")];
      await kqtime(scope, ["replay", recording, "--log", log, "--json", json, "--quiet"]).success();
      expect(readFileSync(log, "utf8")).toBe(readFileSync(measurement.logPath, "utf8"));
      expect(readFileSync(json, "utf8")).toBe(readFileSync(measurement.jsonPath, "utf8"));
    }), 60_000, ["python3"]);
}
