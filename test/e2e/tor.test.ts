// Tor, unmodified, in a private network of four namespaces: the client, the guard, the middle and
// the exit are measured, each by a kqtime of its own, while a file is fetched through the circuit.

import { expect } from "bun:test";
import { e2e } from "../lib/e2e.ts";
import { BARE, flaws } from "../lib/kqtime.ts";
import { checksum, Program, randomFile } from "../lib/programs.ts";
import { childrenOf, withScope, type Running } from "../lib/process.ts";

import { configure, makeTorNetwork, startTor, type TorName } from "../lib/tor.ts";

const MIB = 1 << 20;
/** SIGTERM; in the sandbox it may stay blocked, with or without a preload, and SIGKILL has to do. */
async function endTor(running: Running): Promise<number> {
  running.kill("SIGTERM");
  const exit = await Promise.race([running.exited, Bun.sleep(3000)]);
  if (exit) return exit.code;
  process.kill(BARE ? running.pid : childrenOf(running.pid)[0], "SIGKILL");
  return (await running.exit(15_000)).code;
}

e2e("a download through a circuit of four measured Tors", async () => {
  await withScope(async (scope) => {
    const tor = await makeTorNetwork(scope, "100mbit");
    // The seccomp sandbox forbids, once it stands, most of what a recorder could want to ask.
    configure(scope, "c1", "Sandbox 1");
    const programs = {} as Record<TorName, Program>;
    const running: Record<TorName, Running> = await startTor(tor, (name) => {
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
      const code = await endTor(running[name]);
      if (code !== 137 || name !== "c1") expect({ name, code }).toEqual({ name, code: 0 });
    }
    if (BARE) return;
    // The client hands the file to curl; each relay passes it on as cells.
    for (const name of ["c1", "r1", "a1", "r2"] as const) {
      const found = flaws(programs[name].measurement, { in: bytes, out: bytes });
      expect({ name, found }).toEqual({ name, found: [] });
    }
  });
}, 150_000, ["tor", "tor-gencert", "curl", "python3"]);
