// Sockets that the library sees and does not measure are not passed over in silence.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { BARE, Measurement } from "../lib/kqtime.ts";
import { withLab } from "../lib/network.ts";

const MPTCP = `
import socket
try:
    make = lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    l = make()
except OSError as e:
    print("denied", e, flush=True)
    raise SystemExit
l.bind(("127.0.0.1", 0))
l.listen(4)
c = make()
c.connect(l.getsockname())
a, _ = l.accept()
for s, t in (c, a), (a, c):
    s.sendall(b"m" * 5000)
    n = 0
    while n < 5000: n += len(t.recv(5000))
print("exchanged", flush=True)
`;

e2e("MPTCP", () =>
  withLab({}, async ({ scope, left }) => {
    const client = new Measurement(scope, ["python3", "-c", MPTCP], { prefix: left.prefix });
    const [, outcome] = await client.running.says(/(exchanged|denied)/);
    await client.running.success();
    if (BARE) return;
    const summary = client.summary() as unknown as { otherSockets: Record<string, number> };
    // A kernel without it has none that could be lost.
    expect(summary.otherSockets).toEqual(outcome === "denied" ? {} : { MPTCP: 2 });
  }));
