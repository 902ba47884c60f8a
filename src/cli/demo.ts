// `kqtime demo`: a sender and a receiver in two network namespaces of their own, joined by a veth
// pair behind a 20 Mbit/s token bucket, each measured by a kqtime of its own. Without the privilege
// for namespaces it makes a user namespace, without that it uses loopback, and says so.
//
// Namespaces are made by unshare(1): they vanish with their processes, whatever happens.

import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import { ROOT } from "../session/paths.ts";
import { makePrivateFolder } from "../session/private-file.ts";
import { tell } from "./stderr.ts";

const ADDRESS = { sender: "198.18.0.1", receiver: "198.18.0.2" } as const;
/** Nobody else has a port there; on loopback the kernel gives one that is free. */
const PORT_IN_NAMESPACES = 18443;
const RATE = "20mbit";
/** The token bucket's queue holds 100 ms at that rate. */
const LIMIT_BYTES = 250_000;
const BURST_BYTES = 16_000;

export interface DemoOptions {
  readonly seconds: number;
  /** Where the logs of both sides go. */
  readonly folder: string;
}

/** What makes the namespaces and the link, and the package that it comes in. */
const TOOLS: Record<string, string> = {
  ip: "iproute2",
  tc: "iproute2",
  unshare: "util-linux",
  nsenter: "util-linux",
};
/** Without namespaces of mounts: nothing is mounted, and unshare(1) makes none in a chroot. */
const UNSHARE = {
  namespaces: ["unshare", "--net", "--"],
  "user namespace": ["unshare", "--user", "--map-root-user", "--net", "--"],
} as const;

const BEHIND_THE_LINK = [
  "",
  "The sender's bytes wait, outbound, in its send buffer and in the queue of the 20 Mbit/s link: the",
  "program writes faster than the link sends. The receiver's wait, inbound, because it naps for",
  "20 ms now and then. Where that queue overflowed, bytes were lost in front of the sender's tap: what",
  "it sees of them is their second transmission, so that none is counted as retransmitted, while the",
  "receiver shows bytes \"waiting for missing bytes\".",
];
const ON_LOOPBACK = [
  "",
  "On loopback there is no device to wait for: outbound times are those of the send buffer. The",
  "receiver's bytes wait, inbound, because it naps for 20 ms now and then.",
];

type Where = "namespaces" | "user namespace" | "loopback";

/** Returns the exit code. */
export async function demo(options: DemoOptions): Promise<number> {
  const folder = resolve(options.folder);
  // Debian's users have ip and tc, but not on their PATH.
  process.env.PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
  makePrivateFolder(folder);
  const { where, why } = choose();
  const link = RATE.replace("mbit", " Mbit/s");
  say(
    where === "namespaces"
      ? `a sender and a receiver in two network namespaces behind ${link}`
      : where === "user namespace"
        ? `a sender and a receiver behind ${link}, in network namespaces inside a user namespace`
        : `sender and receiver on loopback, without a shaped link: ${why}`,
  );
  const traffic = join(import.meta.dir, "demo-traffic.ts");
  const self = join(ROOT, "bin", "kqtime");
  const portFile = join(folder, ".port");
  rmSync(portFile, { force: true });
  const script = where === "loopback" ? LOOPBACK : NAMESPACES;
  const unshare = where === "loopback" ? [] : UNSHARE[where];
  const argv = [...unshare, "sh", "-euc", script, "demo"];
  const child = Bun.spawn(argv, {
    env: {
      ...process.env,
      KQ: self,
      BUN: process.execPath,
      TRAFFIC: traffic,
      FOLDER: folder,
      SECONDS_TO_SEND: String(options.seconds),
      PORT: String(where === "loopback" ? 0 : PORT_IN_NAMESPACES),
      PORT_FILE: portFile,
      RATE,
      LIMIT: String(LIMIT_BYTES),
      BURST: String(BURST_BYTES),
      SENDER: where === "loopback" ? "127.0.0.1" : ADDRESS.sender,
      RECEIVER: where === "loopback" ? "127.0.0.1" : ADDRESS.receiver,
    },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const code = await child.exited;
  if (code !== 0) {
    throw new KQTimeError(
      "E_DEMO",
      "demo",
      `the demo ended with exit code ${code}; \`kqtime doctor\` tells what is missing`,
      code === ExitCode.Own ? ExitCode.Own : code,
    );
  }
  for (const sentence of where === "loopback" ? ON_LOOPBACK : BEHIND_THE_LINK) tell(`${sentence}\n`);
  tell("\n");
  say(`logs: ${join(folder, "sender.log.gz")}, ${join(folder, "receiver.log.gz")}`);
  return ExitCode.Ok;
}

function say(text: string): void {
  tell(`kqtime demo: ${text}\n`);
}

/** Where the two can be, and why not in namespaces. */
function choose(): { where: Where; why: string } {
  const missing = Object.keys(TOOLS).filter((tool) => Bun.which(tool) === null);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => TOOLS[tool]!))].join(" ");
    const are = missing.length === 1 ? "is" : "are";
    return {
      where: "loopback",
      why: `${missing.join(", ")} ${are} not here (apt install ${packages}; the same with dnf)`,
    };
  }
  const shape =
    "ip link add kqt0 type veth peer name kqt1 && " +
    `tc qdisc add dev kqt0 root tbf rate ${RATE} burst ${BURST_BYTES} limit ${LIMIT_BYTES}`;
  let why = "";
  for (const where of ["namespaces", "user namespace"] as const) {
    const tried = Bun.spawnSync([...UNSHARE[where], "sh", "-c", shape], { stdout: "ignore" });
    if (tried.exitCode === 0) return { where, why: "" };
    why ||= tried.stderr.toString().trim().split("\n")[0]!;
  }
  const advice = process.geteuid?.() === 0 ? "" : "; try sudo";
  return { where: "loopback", why: `no network namespaces can be made here (${why})${advice}` };
}

/** Both sides; `enter` leads to the receiver's namespace. (dash runs no EXIT trap for a signal.) */
const MEASURE = `
$enter "$KQ" run --log "$FOLDER/receiver.log.gz" --json "$FOLDER/receiver.json" -- "$BUN" "$TRAFFIC" receive "$PORT_FILE" "$RECEIVER" "$PORT" 2> "$FOLDER/.receiver" &
receiver=$!
printf '\\n— sender —\\n' >&2
"$KQ" run --log "$FOLDER/sender.log.gz" --json "$FOLDER/sender.json" -- "$BUN" "$TRAFFIC" send "$PORT_FILE" "$RECEIVER" "$SECONDS_TO_SEND"
wait "$receiver" || { cat "$FOLDER/.receiver" >&2; exit 125; }
printf '\\n— receiver —\\n' >&2
cat "$FOLDER/.receiver" >&2
rm -f "$FOLDER/.receiver"
`;

/**
 * The shell is inside the sender's namespace; the receiver's is held by a process of its own. Both
 * sides are measured where they run. (/sys belongs to a namespace as well, but is not needed.)
 */
const NAMESPACES = `
ip link set lo up
unshare --net -- sh -c 'echo ready; exec sleep 3600' > "$FOLDER/.ready" &
holder=$!
receiver=
trap 'kill $holder $receiver 2>/dev/null || :; rm -f "$FOLDER/.ready" "$PORT_FILE"' EXIT
trap 'exit 125' HUP INT PIPE TERM
until [ -s "$FOLDER/.ready" ]; do :; done
enter="nsenter --net=/proc/$holder/ns/net --"
ip link add kqt0 type veth peer name kqt1 netns "$holder"
ip addr add "$SENDER/24" dev kqt0
ip link set kqt0 up
$enter sh -euc 'ip link set lo up; ip addr add "$RECEIVER/24" dev kqt1; ip link set kqt1 up'
tc qdisc add dev kqt0 root tbf rate "$RATE" burst "$BURST" limit "$LIMIT"
${MEASURE}`;

const LOOPBACK = `
enter=
receiver=
trap 'kill $receiver 2>/dev/null || :; rm -f "$PORT_FILE"' EXIT
trap 'exit 125' HUP INT PIPE TERM
${MEASURE}`;
