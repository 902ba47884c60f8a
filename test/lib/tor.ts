// A private Tor network of four nodes, each in a network namespace of its own, joined by a bridge:
// an authority (which is also the middle relay), a guard, an exit and a client. The authority's
// strict votes leave one path only: client, guard, authority, exit.

import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { enter, makeNamespace, type Node } from "./network.ts";
import { until, type Running, type Scope } from "./process.ts";

export type TorName = "a1" | "r1" | "r2" | "c1";

const NAMES: readonly TorName[] = ["a1", "r1", "r2", "c1"];
const ADDRESS: Record<TorName, string> = {
  a1: "10.78.0.1", r1: "10.78.0.2", r2: "10.78.0.3", c1: "10.78.0.4",
};
const OR_PORT = 15000;
const DIR_PORT = 15100;
const SOCKS_PORT = 15300;

export interface TorNetwork {
  nodes: Record<TorName, Node>;
  /** Starts one node; `start` gets the command line. Relays first, the client last. */
  command(name: TorName): string[];
  log(name: TorName): string;
  socks: string;
}

async function must(...words: string[]): Promise<string> {
  const child = Bun.spawn(words, { stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited,
  ]);
  if (code !== 0) throw new Error(`${words.join(" ")}: exit ${code}: ${error}`);
  return out;
}

async function connectNodes(scope: Scope, rate: string): Promise<Record<TorName, Node>> {
  const hub = await makeNamespace(scope, "h");
  await must("ip", "-n", hub, "link", "add", "br0", "type", "bridge", "stp_state", "0");
  await must("ip", "-n", hub, "link", "set", "br0", "up");
  const nodes = {} as Record<TorName, Node>;
  for (const name of NAMES) {
    const namespace = await makeNamespace(scope, name);
    await must("ip", "link", "add", name, "netns", hub, "type", "veth",
      "peer", "name", "kq0", "netns", namespace);
    await must("ip", "-n", hub, "link", "set", name, "master", "br0", "up");
    await must("ip", "-n", namespace, "addr", "add", `${ADDRESS[name]}/24`, "dev", "kq0");
    await must("ip", "-n", namespace, "link", "set", "kq0", "up");
    await must("tc", "-n", namespace, "qdisc", "replace", "dev", "kq0", "root", "tbf",
      "rate", rate, "burst", "15000", "limit", "16000000");
    nodes[name] = {
      name: namespace, prefix: enter(namespace), v4: ADDRESS[name], v6: "::1", device: "kq0",
    };
  }
  return nodes;
}

/** Keys and configurations of the four nodes; nothing is started yet. */
export async function makeTorNetwork(scope: Scope, rate: string): Promise<TorNetwork> {
  const nodes = await connectNodes(scope, rate);
  const folder = (name: TorName) => scope.path(name);
  for (const name of NAMES) mkdirSync(folder(name), { mode: 0o700 });
  mkdirSync(`${folder("a1")}/keys`, { mode: 0o700 });
  await must(
    "sh", "-c", `cd "$0" && echo x | tor-gencert --create-identity-key -m 12 \
      -a ${ADDRESS.a1}:${DIR_PORT} --passphrase-fd 0 -i authority_identity_key \
      -s authority_signing_key -c authority_certificate`, `${folder("a1")}/keys`,
  );
  const certificate = readFileSync(`${folder("a1")}/keys/authority_certificate`, "utf8");
  const v3 = certificate.match(/^fingerprint (\S+)/m)![1];
  const fingerprints = {} as Record<TorName, string>;
  await Promise.all((["a1", "r1", "r2"] as const).map(async (name) => {
    await must(
      "tor", "--quiet", "--ignore-missing-torrc", "-f", "/nonexistent", "--defaults-torrc",
      "/dev/null", "--list-fingerprint", "--ORPort", "1", "--Nickname", name,
      "--DataDirectory", folder(name),
    );
    fingerprints[name] = readFileSync(`${folder(name)}/fingerprint`, "utf8").trim().split(" ")[1];
  }));
  writeFileSync(scope.path("resolv.conf"), "# nobody to ask\n");
  for (const name of NAMES) {
    writeFileSync(`${folder(name)}.torrc`, configuration(name, folder(name), scope, v3, fingerprints));
  }
  return {
    nodes,
    command: (name) => ["tor", "--defaults-torrc", "/dev/null", "-f", `${folder(name)}.torrc`],
    log: (name) => `${folder(name)}/notice.log`,
    socks: `127.0.0.1:${SOCKS_PORT}`,
  };
}

function configuration(
  name: TorName, folder: string, scope: Scope, v3: string, prints: Record<TorName, string>,
): string {
  const lines = [
    "TestingTorNetwork 1",
    `DirAuthority a1 orport=${OR_PORT} no-v2 v3ident=${v3} ${ADDRESS.a1}:${DIR_PORT} ${prints.a1}`,
    `DataDirectory ${folder}`, `Nickname ${name}`, `PidFile ${folder}/pid`,
    `Log notice file ${folder}/notice.log`, "SafeLogging 0", "LogTimeGranularity 1",
    "ShutdownWaitLength 0", "PathsNeededToBuildCircuits 0.67",
    // KIST, the default, keeps the kernel's queues short on purpose: here they are what counts.
    "Schedulers Vanilla",
  ];
  if (name === "c1") {
    lines.push(`SocksPort 127.0.0.1:${SOCKS_PORT}`, "UseEntryGuards 0");
    return `${lines.join("\n")}\n`;
  }
  lines.push(
    "SocksPort 0", `Address ${ADDRESS[name]}`, `ORPort ${ADDRESS[name]}:${OR_PORT}`,
    "AssumeReachable 1", "__DisablePredictedCircuits 1", "ServerDNSDetectHijacking 0",
    "ServerDNSTestAddresses", `ServerDNSResolvConfFile ${scope.path("resolv.conf")}`,
  );
  if (name === "a1") {
    lines.push(
      `DirPort ${ADDRESS.a1}:${DIR_PORT}`, "ExitRelay 0", "AuthoritativeDirectory 1",
      "V3AuthoritativeDirectory 1", "ContactInfo a1@torlab.invalid", "V3AuthNIntervalsValid 2",
      "TestingV3AuthInitialVotingInterval 8", "TestingV3AuthInitialVoteDelay 2",
      "TestingV3AuthInitialDistDelay 2",
      `TestingV3AuthVotingStartOffset ${(Math.floor(Date.now() / 1000) + 7) % 8}`,
      "V3AuthVotingInterval 43200", "V3AuthVoteDelay 2", "V3AuthDistDelay 2",
      "TestingMinExitFlagThreshold 0",
      `TestingDirAuthVoteGuard ${prints.r1}`, "TestingDirAuthVoteGuardIsStrict 1",
      `TestingDirAuthVoteExit ${prints.r2}`, "TestingDirAuthVoteExitIsStrict 1",
    );
  } else if (name === "r1") {
    lines.push("ExitRelay 0");
  } else {
    lines.push("ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept *:*");
  }
  return `${lines.join("\n")}\n`;
}

/** Adds options to a node's torrc before it is started. */
export function configure(scope: Scope, name: TorName, ...options: string[]): void {
  appendFileSync(`${scope.path(name)}.torrc`, `${options.join("\n")}\n`);
}

/** Starts the relays, waits for the consensus, then starts the client and waits for its circuit. */
export async function startTor(
  tor: TorNetwork, start: (name: TorName) => Running,
): Promise<Record<TorName, Running>> {
  const logged = (name: TorName, words: string, ms = 60_000) =>
    until(`"${words}" in the log of ${name}`, async () => {
      const file = Bun.file(tor.log(name));
      return (await file.exists()) && (await file.text()).includes(words);
    }, ms);
  const running = {} as Record<TorName, Running>;
  for (const name of ["a1", "r1", "r2"] as const) running[name] = start(name);
  // The authority's consensus is a file of its own; relays that are told to (SIGHUP) fetch it at
  // once instead of some time within twenty seconds.
  const consensus = `${tor.log("a1").replace(/notice\.log$/, "")}cached-microdesc-consensus`;
  await until("consensus with all three relays", async () => {
    const file = Bun.file(consensus);
    return (await file.exists()) && ((await file.text()).match(/^r /gm)?.length ?? 0) === 3;
  }, 60_000);
  for (const name of ["r1", "r2"] as const) running[name].kill("SIGHUP");
  await Promise.all((["r1", "r2"] as const).map((name) => logged(name, "Received reload signal")));
  running.c1 = start("c1");
  await logged("c1", "Bootstrapped 100%");
  return running;
}
