// Tor, unmodified, in a private network of four namespaces: the client, the guard, the middle and
// the exit are measured, each by a kqtime of its own, while a file is fetched through the circuit.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { BARE, flaws } from "../lib/kqtime.ts";
import { checksum, Program, randomFile } from "../lib/programs.ts";
import { withScope } from "../lib/process.ts";
import { TorNetwork, type TorName } from "../lib/tor.ts";

const MIB = 1 << 20;
const SHAPE = { rate: "100mbit", burstBytes: 15_000, limitBytes: 16_000_000 };

e2e("a download through a circuit of four measured Tors", async () => {
  await withScope(async (scope) => {
    const tor = await TorNetwork.make(scope, {
      shape: { a1: SHAPE, r1: SHAPE, r2: SHAPE, c1: SHAPE },
      // KIST, the default, keeps the kernel's queues short on purpose: here they are what counts.
      torrc: ["Schedulers Vanilla"],
    });
    // The seccomp sandbox forbids, once it stands, most of what a recorder could want to ask.
    tor.configure("c1", "Sandbox 1");
    const programs: Record<TorName, Program> = {};
    const running = await tor.start((name) => {
      programs[name] = new Program(scope, tor.nodes[name], tor.command(name));
      return programs[name].running;
    });
    const bytes = 8 * MIB;
    const sum = randomFile(scope.path("data"), bytes);
    const server = scope.start(
      ["python3", "-u", "-m", "http.server", "8000", "--bind", tor.nodes.r2.v4,
        "--directory", scope.folder],
      { prefix: tor.nodes.r2.prefix },
    );
    await server.says(/Serving HTTP/);
    await scope.run([
      "curl", "-sSf", "--socks5-hostname", tor.socks, "-o", scope.path("fetched"),
      `http://${tor.nodes.r2.v4}:8000/data`,
    ], { prefix: tor.nodes.c1.prefix }, 60_000);
    expect(checksum(scope.path("fetched"))).toBe(sum);
    for (const name of ["c1", "r1", "a1", "r2"] as const) {
      await tor.end(name, running[name]);
      const { code } = await running[name].exit(15_000);
      expect({ name, code }).toEqual({ name, code: 0 });
    }
    if (BARE) return;
    // The client hands the file to curl; each relay passes it on as cells.
    for (const name of ["c1", "r1", "a1", "r2"] as const) {
      const found = flaws(programs[name].measurement, { in: bytes, out: bytes });
      expect({ name, found }).toEqual({ name, found: [] });
    }
  });
}, 150_000, ["tor", "tor-gencert", "curl", "python3"]);
