// Queue lengths: what a KQTIME-STATS line says of a socket, against `ss`, and how long its oldest
// byte has waited, against an independent tcpdump and the program's own clock.

import { expect } from "bun:test";
import { join } from "node:path";
import { e2e } from "../lib/e2e.ts";
import { IN } from "../lib/calllog.ts";
import { BASE_SEC, directionOf, Measurement, ROOT } from "../lib/kqtime.ts";
import { readLog, type StatsLine } from "../lib/kqlog.ts";
import { type Lab, withLab, withLoopback } from "../lib/network.ts";
import { Witness } from "../lib/tcpdump.ts";

const EVERY = ["--stats-interval", "0.25"];

/** Writes until the connection takes no more, and says when; ends once it is told to. */
const WRITER = `
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], 7000))
s.setblocking(False)
calls, total = [], 0
try:
    while True:
        at = time.time_ns()
        total += s.send(b"x" * 10000)
        calls.append((at, total))
except BlockingIOError:
    pass
print("full", total, flush=True)
path = sys.argv[2]
while not os.path.exists(path): time.sleep(0.02)
print("calls", " ".join(f"{at}:{end}" for at, end in calls), flush=True)
`;

/** Accepts, and reads nothing; ends once it is told to. */
const DEAF = `
import os, socket, sys, time
l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
c, _ = l.accept()
path = sys.argv[1]
while not os.path.exists(path): time.sleep(0.02)
if len(sys.argv) > 2: c.recv(1000)
`;

/** What ss(8) says of the connections of port 7000. */
async function ss(lab: Lab, side: "left" | "right") {
  const words = ["ss", "-tinmOH", "state", "established", "( sport = :7000 or dport = :7000 )"];
  const { stdout } = await lab.scope.run(words, { prefix: lab[side].prefix });
  const found = stdout.match(
    /^(\d+) +(\d+) .*skmem:\(r\d+,rb(\d+),t\d+,tb(\d+),.* mss:(\d+) .*cwnd:(\d+)/m,
  );
  if (found === null) throw new Error(`ss said: ${stdout}`);
  const [rcv_len, snd_len, rcv_sz, snd_sz, mss, cwnd] = found.slice(1).map(Number);
  const unsent = Number(stdout.match(/notsent:(\d+)/)?.[1] ?? 0);
  return { rcv_len, snd_len, rcv_sz, snd_sz, mss, cwnd, unsent };
}

/** The lines that were written while nothing moved. */
function still(lines: StatsLine[], { snd_len, rcv_len }: Record<string, number>): StatsLine[] {
  return lines.filter(({ sockets: [one] }) => one!.snd_len === snd_len && one!.rcv_len === rcv_len);
}

async function play(lab: Lab, measured: "writer" | "deaf", reads: boolean) {
  const { scope, left, right } = lab;
  const go = scope.path("go");
  const deafWords = ["python3", "-c", DEAF, go, ...(reads ? ["reads"] : [])];
  const writerWords = ["python3", "-c", WRITER, right.v4, go];
  const witness = await Witness.start(scope, measured === "deaf" ? right : left);
  const options = { options: EVERY };
  const first = measured === "deaf"
    ? new Measurement(scope, deafWords, { prefix: right.prefix, ...options })
    : null;
  const deaf = first?.running ?? scope.start(deafWords, { prefix: right.prefix });
  await deaf.says(/ready/);
  const second = measured === "writer"
    ? new Measurement(scope, writerWords, { prefix: left.prefix, ...options })
    : null;
  const writer = second?.running ?? scope.start(writerWords, { prefix: left.prefix });
  const full = Number((await writer.says(/full (\d+)/))[1]);
  // Zero window probes aside, nothing moves any more once what was on its way has arrived.
  const side = measured === "deaf" ? "right" : "left";
  const measurement = (first ?? second)!;
  let kernel = await ss(lab, side);
  for (let same = 0; same < 12; ) {
    await Bun.sleep(100);
    const next = await ss(lab, side);
    same = JSON.stringify(next) === JSON.stringify(kernel) ? same + 1 : 0;
    kernel = next;
  }
  await Bun.write(go, "");
  await Promise.all([writer.success(), deaf.success()]);
  const seen = await witness.finish(BASE_SEC, right.v4, left);
  const lines = still(measurement.log().stats, kernel);
  expect(lines.length).toBeGreaterThan(2);
  return { kernel, full, lines, seen, measurement, said: writer.stdout };
}

e2e("a sender whose peer does not read", () =>
  withLab({}, async (lab) => {
    const { kernel, full, lines, said, seen } = await play(lab, "writer", false);
    for (const { sockets } of lines) {
      expect(sockets.length).toBe(1);
      expect(sockets[0]).toMatchObject(kernel);
    }
    const { snd_len, unsent } = kernel;
    expect(snd_len).toBeGreaterThan(10_000);
    const calls = said.match(/calls (.*)/)![1].split(" ").map((pair) => {
      const [at, end] = pair.split(":");
      return { ns: Number(BigInt(at!) - BigInt(BASE_SEC) * 1_000_000_000n), end: Number(end) };
    });
    expect(calls.at(-1)!.end).toBe(full);
    const { bytes } = seen.streams.find(({ destinationPort }) => destinationPort === 7000)!;
    expect(bytes).toBe(full - unsent);
    const oldest = calls.find(({ end }) => end > bytes)!;
    for (const { endNs, sockets } of lines) {
      const sinceNs = endNs - sockets[0]!.snd_age_ns!;
      // Its clock was read before the call, and again before the next.
      expect(sinceNs).toBeGreaterThanOrEqual(oldest.ns - 1000);
      const next = calls[calls.indexOf(oldest) + 1]?.ns ?? oldest.ns + 1e9;
      expect(sinceNs).toBeLessThanOrEqual(next + 1000);
    }
  }), 60_000, ["python3", "ss"]);

for (const reads of [false, true]) {
  e2e(`a receiver that does not read${reads ? ", until the end" : ""}`, () =>
    withLab({}, async (lab) => {
      const { kernel, lines, seen, measurement } = await play(lab, "deaf", reads);
      const arrivedNs = seen.streams.find(({ destinationPort }) => destinationPort === 7000)!.timeOf(0);
      for (const { endNs, sockets } of lines) {
        expect(sockets[0]).toMatchObject(kernel);
        expect(Math.abs(endNs - sockets[0]!.rcv_age_ns! - arrivedNs)).toBeLessThan(20_000);
        expect(sockets[0]!.snd_age_ns).toBe(0);
      }
      expect(kernel.rcv_len).toBeGreaterThan(10_000);
      expect(directionOf(measurement.summary(), IN).bytesCalled).toBe(reads ? 1000 : 0);
    }), 60_000, ["python3", "ss"]);
}

e2e("no lines where none are asked for", () =>
  withLab({}, async ({ scope, right }) => {
    const measurement = new Measurement(
      scope, ["python3", "-c", "import socket; socket.create_server(('', 7000))"],
      { prefix: right.prefix, options: ["--stats-interval", "0"] },
    );
    await measurement.running.success();
    expect(measurement.log().stats).toEqual([]);
  }), 60_000, ["python3"]);

/** Gets 100 bytes and the end; tells what FIONREAD says while both are unread, and once they are not. */
const ENDED = `
import array, fcntl, socket, sys, termios, time
l = socket.create_server(("127.0.0.1", 0))
s = socket.create_connection(l.getsockname())
c, _ = l.accept()
s.sendall(b"x" * 100)
s.close()
def queued():
    n = array.array("i", [0])
    fcntl.ioctl(c, termios.FIONREAD, n)
    return n[0]
def lines(): return open(sys.argv[1]).read().count("KQTIME-STATS")
def wait(): # for a sample that was taken from now on
    seen, deadline = lines(), time.monotonic() + 10
    while lines() < seen + 2 and time.monotonic() < deadline: time.sleep(0.02)
wait()
first = queued()
assert len(c.recv(100)) == 100
wait()
print("queued", c.fileno(), first, queued())
`;

e2e("a FIN is no byte", () =>
  withLoopback(async (node, scope) => {
    const path = scope.path("ended.log");
    const measurement = new Measurement(
      scope, ["python3", "-c", ENDED, path], { prefix: node.prefix, options: [...EVERY, "--log", path] },
    );
    await measurement.running.success();
    const [fd, ...queued] = measurement.running.stdout.match(/queued (\d+) (\d+) (\d+)/)!.slice(1).map(Number);
    const told = measurement.log().stats.flatMap(({ sockets }) => sockets.filter((one) => one.fd === fd));
    expect(queued).toEqual([100, 0]);
    expect([...new Set(told.map(({ rcv_len }) => rcv_len))]).toEqual([100, 0]);
    expect(told.at(-1)).toMatchObject({ rcv_age_ns: 0 });
  }), 60_000, ["python3"]);

/** A program that measures itself: registers one of its two connections, and waits for a line. */
const ITSELF = `
import ctypes, socket, sys, time
library, path, stats = sys.argv[1], sys.argv[2], int(sys.argv[3])
kqtime = ctypes.CDLL(library)
kqtime.kqtime_new.restype = ctypes.c_void_p
handle = ctypes.c_void_p(kqtime.kqtime_new(path.encode(), stats, 0, 0))
assert handle.value
l = socket.create_server(("127.0.0.1", 0))
mine, other = (socket.create_connection(l.getsockname()) for _ in range(2))
kqtime.kqtime_register(handle, mine.fileno(), b"mine")
mine.send(b"x" * 100)
deadline = time.monotonic() + 10
while stats and time.monotonic() < deadline and "num_fds" not in open(path).read(): time.sleep(0.02)
kqtime.kqtime_free(handle)
print("registered", mine.fileno())
`;

for (const stats of [1, 0]) {
  e2e(`logBufferStats ${stats}: ${stats === 1 ? "registered sockets alone" : "no lines"}`, () =>
    withLoopback(async (node, scope) => {
      const path = scope.path("itself.log");
      const build = join(ROOT, "build");
      const words = ["python3", "-c", ITSELF, join(build, "libkqtime.so"), path, `${stats}`];
      const preload = ["env", `LD_PRELOAD=${join(build, "libkqtime-preload.so")}`];
      const { stdout } = await scope.run(words, { prefix: [...node.prefix, ...preload] });
      const fd = Number(stdout.match(/registered (\d+)/)![1]);
      const log = readLog(path, BASE_SEC);
      expect(log.calls).toEqual([]);
      const fds = log.stats.map(({ sockets }) => sockets.map((socket) => socket.fd));
      if (stats === 0) expect(fds).toEqual([]);
      else expect(fds[0]).toEqual([fd]);
      expect(new Set(fds.flat()).size).toBe(stats);
    }), 60_000, ["python3"]);
}
