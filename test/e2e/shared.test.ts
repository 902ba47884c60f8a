// One socket, several programs: what an executed child writes on an inherited socket is placed where
// it is in the stream, and what its parent writes afterwards is never matched with the wrong bytes.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { Measurement } from "../lib/kqtime.ts";
import { withLab } from "../lib/network.ts";

/** The parent writes, its child is another program that writes on the same socket, and so on. */
const PROGRAM = `
import os, socket, subprocess, sys, time
rounds, pause = int(sys.argv[3]), float(sys.argv[4])
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
child = "import os, sys; sys.exit(0 if os.write(int(sys.argv[1]), b'c' * 5000) == 5000 else 1)"
for i in range(rounds):
    assert s.send(b"p" * 1000) == 1000
    time.sleep(pause)
    subprocess.run([sys.executable, "-c", child, str(s.fileno())], pass_fds=[s.fileno()], check=True)
    time.sleep(pause)
    assert s.send(b"q" * 2000) == 2000
s.shutdown(socket.SHUT_WR)
assert s.recv(1) == b""
`;

const SINK = `
import socket
l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
c, _ = l.accept()
n = 0
while True:
    data = c.recv(65536)
    if not data: break
    n += len(data)
c.close()
print("received", n, flush=True)
`;

for (const pause of ["0", "0.7"]) {
  for (const rounds of [1, 3]) {
    e2e(`an executed child writes in between, ${rounds} times, ${pause} s apart`, async () => {
      await withLab({}, async ({ scope, left, right }) => {
        const sink = scope.start(["python3", "-c", SINK], { prefix: right.prefix });
        await sink.says(/ready/);
        const measurement = new Measurement(
          scope, ["python3", "-c", PROGRAM, right.v4, "7000", `${rounds}`, pause],
          { prefix: left.prefix },
        );
        await measurement.running.success();
        await sink.says(new RegExp(`received ${8000 * rounds}\\b`));
        const summary = measurement.summary();
        const { out } = summary.directions;
        expect(out.bytesCalled).toBe(8000 * rounds);
        // Nobody can prove an order of programs that take turns: never a guess.
        expect(out.bytesMatched).toBe(6000);
        expect(out.bytesUnmatched).toEqual({ concurrent: 8000 * rounds - 6000 });
        expect(summary.losses).toMatchObject({ badRecords: 0 });
        expect(summary.booksBalance).toBe(true);
        const { calls } = measurement.log();
        const sent = calls.filter(({ direction }) => direction === 0);
        expect(sent.map(({ offset, bytes }) => [offset, bytes])).toEqual([[0, 1000], [1000, 5000]]);
        // Nothing shapes this link: a time of milliseconds would be that of another call's packet.
        for (const { startNs, endNs } of sent) expect(endNs - startNs).toBeLessThan(20e6);
      });
    }, 60_000, ["python3"]);
  }
}
