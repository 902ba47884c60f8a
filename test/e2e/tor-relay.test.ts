// An unmodified Tor relay under `kqtime run`, in the ways that relays are run: by --user, in its
// seccomp sandbox, as a daemon that drops root by itself. Twenty megabytes go through it, a tcpdump
// beside it counts what its device carried, and every byte of both directions has to be accounted
// for. The network is shared: what is measured is a new process with a new kqtime each time.

import { afterAll, expect } from "bun:test";
import { existsSync } from "node:fs";
import { e2e } from "../lib/e2e.ts";
import { BARE, BASE_SEC, flaws } from "../lib/kqtime.ts";
import { checksum, Program, randomFile } from "../lib/programs.ts";
import { Scope, until, type Running } from "../lib/process.ts";
import { Witness } from "../lib/tcpdump.ts";
import { TorNetwork, type TorName } from "../lib/tor.ts";
import type { Seen } from "../lib/pcap.ts";

const BYTES = 20_000_000;
const PORT = 8000;
const UNREAD_MOST = 1500;
const PROGRAMS = ["tor", "tor-gencert", "curl", "python3", "getent"];

interface Network {
  tor: TorNetwork;
  sum: string;
  user: string;
}

const scope = new Scope();
let network: Promise<Network> | undefined;
afterAll(() => scope.end(), 30_000);

/** Whom Tor runs as: the user that Debian's package makes, else one that every system has. */
function torUser(): { name: string; uid: number; gid: number } {
  for (const name of ["debian-tor", "tor", "toranon", "nobody"]) {
    const entry = Bun.spawnSync(["getent", "passwd", name]).stdout.toString().split(":");
    if (entry.length > 3) return { name, uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new Error("there is no user for Tor");
}

/** Starts the network once; the relay and the client end again, for each test to start its own. */
async function makeNetwork(): Promise<Network> {
  const tor = await TorNetwork.make(scope, {
    shape: { r1: { rate: "100mbit", burstBytes: 15_000, limitBytes: 16_000_000 } },
  });
  const sum = randomFile(scope.path("data"), BYTES);
  const server = scope.start(
    ["python3", "-u", "-m", "http.server", `${PORT}`, "--bind", tor.nodes.r2.v4,
      "--directory", scope.folder],
    { prefix: tor.nodes.r2.prefix },
  );
  const [running] = await Promise.all([tor.start(), server.says(/Serving HTTP/)]);
  await Promise.all([running.c1.stop(), running.r1.stop()]);
  const user = torUser();
  tor.giveTo("r1", user);
  return { tor, sum, user: user.name };
}

interface Case {
  /** Lines of the relay's torrc. */
  torrc: string[];
  /** kqtime drops root; else Tor does so, if its torrc says so. */
  byKqtime: boolean;
}

/** Payload bytes that left and reached the node, each byte of each connection counted once. */
function carried(seen: Seen, v4: string): { out: number; in: number } {
  const own = v4.split(".").map((part) => Number(part).toString(16).padStart(2, "0")).join("");
  const sum = (end: "source" | "destination") =>
    seen.streams.filter((stream) => stream[end] === own).reduce((total, s) => total + s.bytes, 0);
  return { out: sum("source"), in: sum("destination") };
}

async function fetchThrough({ tor, sum }: Network): Promise<void> {
  await scope.run([
    "curl", "-sSf", "--socks5-hostname", tor.socks, "-o", scope.path("fetched"),
    `http://${tor.nodes.r2.v4}:${PORT}/data`,
  ], { prefix: tor.nodes.c1.prefix }, 60_000);
  expect(checksum(scope.path("fetched"))).toBe(sum);
}

async function measureRelay({ torrc, byKqtime }: Case): Promise<void> {
  const net = await (network ??= makeNetwork());
  const { tor } = net;
  tor.configure("r1", ...torrc, ...(byKqtime ? [] : [`User ${net.user}`]));
  const witness = await Witness.start(scope, tor.nodes.r1);
  let relay!: Program;
  const launch = (name: TorName): Running => {
    if (name !== "r1") return tor.plain(name);
    relay = new Program(scope, tor.nodes.r1, tor.command(name), byKqtime ? { user: net.user } : {});
    return relay.running;
  };
  const running = await tor.start(launch, ["r1", "c1"]);
  await fetchThrough(net);
  const pid = tor.pid("r1");
  expect(Bun.file(`/proc/${pid}/status`).text()).resolves.toMatch(/^Uid:\t(?!0\t)/m);
  await running.c1.stop();
  await tor.end("r1", running.r1);
  const exit = await running.r1.exit(15_000);
  await until("end of the relay", () => !existsSync(`/proc/${pid}`));
  expect({ code: exit.code, signal: exit.signal }).toEqual({ code: 0, signal: null });
  expect(tor.log("r1")).toMatch(/exiting cleanly|Clean shutdown finished/);
  const seen = await witness.finish(BASE_SEC, tor.nodes.a1.v4);
  const wire = carried(seen, tor.nodes.r1.v4);
  expect(seen.strays).toBe(0);
  expect(Math.min(wire.out, wire.in)).toBeGreaterThan(BYTES);
  if (BARE) return;
  expect(flaws(relay.measurement, { in: BYTES, out: BYTES })).toEqual([]);
  const { directions } = relay.measurement.summary();
  // At the end the last cells of others, and their TLS's farewells, are left unread; no more: a read
  // that no hook saw would be among them.
  expect(directions.in.bytesUnread!).toBeLessThan(UNREAD_MOST);
  expect({
    out: directions.out.bytesMatched, in: directions.in.bytesMatched + directions.in.bytesUnread!,
  }).toEqual(wire);
}

function relayTest(name: string, options: Case): void {
  // The first one starts the network, too.
  e2e(name, () => measureRelay(options), 120_000, PROGRAMS);
}

relayTest("a relay that kqtime runs as another user", { torrc: [], byKqtime: true });
relayTest("a relay in its sandbox", { torrc: ["Sandbox 1"], byKqtime: true });
relayTest("a relay that becomes a daemon and drops root", {
  torrc: ["RunAsDaemon 1", "Schedulers Vanilla"], byKqtime: false,
});
relayTest("a relay that is all of that", { torrc: ["RunAsDaemon 1", "Sandbox 1"], byKqtime: false });
