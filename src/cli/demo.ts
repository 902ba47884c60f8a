// `kqtime demo`: a sender and a receiver in two network namespaces of their own, joined by a veth
// pair behind a 20 Mbit/s token bucket, each measured by a kqtime of its own. Without the privilege
// for namespaces it makes a user namespace, without that it uses loopback, and says so.
//
// Namespaces are made by unshare(1): they vanish with their processes, whatever happens.

import { join, resolve } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import { ROOT } from "../session/paths.ts";
import { makePrivateFolder } from "../session/private-file.ts";

const ADDRESS = { sender: "198.18.0.1", receiver: "198.18.0.2" } as const;
const PORT = 18443;
const RATE = "20mbit";
/** The token bucket's queue holds 100 ms at that rate. */
const LIMIT_BYTES = 250_000;
const BURST_BYTES = 16_000;

export interface DemoOptions {
  readonly seconds: number;
  /** Where the logs of both sides go. */
  readonly folder: string;
}

type Where = "namespaces" | "user namespace" | "loopback";

/** Returns the exit code. */
export async function demo(options: DemoOptions): Promise<number> {
  const folder = resolve(options.folder);
  // Debian's users have ip and tc, but not on their PATH.
  process.env.PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
  makePrivateFolder(folder);
  const where = choose();
  say(
    where === "namespaces"
      ? `a sender and a receiver in two network namespaces behind ${RATE.replace("mbit", " Mbit/s")}`
      : where === "user namespace"
        ? "no privilege for network namespaces here: they are made inside a user namespace"
        : "no namespaces can be had (try sudo): sender and receiver on loopback, without a shaped link",
  );
  const traffic = join(import.meta.dir, "demo-traffic.ts");
  const self = join(ROOT, "bin", "kqtime");
  const script = where === "loopback" ? LOOPBACK : NAMESPACES;
  const unshare =
    where === "namespaces"
      ? ["unshare", "--net", "--mount", "--"]
      : ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"];
  const argv = [...(where === "loopback" ? [] : unshare), "sh", "-euc", script, "demo"];
  const child = Bun.spawn(argv, {
    env: {
      ...process.env,
      KQ: self,
      BUN: process.execPath,
      TRAFFIC: traffic,
      FOLDER: folder,
      SECONDS_TO_SEND: String(options.seconds),
      PORT: String(PORT),
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
  say(`logs: ${join(folder, "sender.log.gz")}, ${join(folder, "receiver.log.gz")}`);
  return ExitCode.Ok;
}

function say(text: string): void {
  process.stderr.write(`kqtime demo: ${text}\n`);
}

function choose(): Where {
  const works = (argv: string[]) =>
    Bun.which(argv[0]!) !== null &&
    Bun.spawnSync(argv, { stdout: "ignore", stderr: "ignore" }).exitCode === 0;
  if (Bun.which("ip") === null || Bun.which("tc") === null) return "loopback";
  const shape =
    "ip link add kqt0 type veth peer name kqt1 && " +
    `tc qdisc add dev kqt0 root tbf rate ${RATE} burst ${BURST_BYTES} limit ${LIMIT_BYTES}`;
  if (works(["unshare", "--net", "--mount", "sh", "-c", shape])) return "namespaces";
  if (works(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", shape])) {
    return "user namespace";
  }
  return "loopback";
}

/**
 * The shell is inside the sender's namespace; the receiver's is held by a process of its own. Both
 * sides are measured where they run. (/sys belongs to a namespace as well, but is not needed.)
 */
const NAMESPACES = `
ip link set lo up
unshare --net -- sh -c 'echo ready; exec sleep 3600' > "$FOLDER/.ready" &
holder=$!
trap 'kill $holder 2>/dev/null; rm -f "$FOLDER/.ready"' EXIT
until [ -s "$FOLDER/.ready" ]; do :; done
ip link add kqt0 type veth peer name kqt1 netns "$holder"
ip addr add "$SENDER/24" dev kqt0
ip link set kqt0 up
nsenter --net=/proc/$holder/ns/net -- sh -euc 'ip link set lo up; ip addr add "$RECEIVER/24" dev kqt1; ip link set kqt1 up'
tc qdisc add dev kqt0 root tbf rate "$RATE" burst "$BURST" limit "$LIMIT"
nsenter --net=/proc/$holder/ns/net -- "$KQ" run --log "$FOLDER/receiver.log.gz" --json "$FOLDER/receiver.json" -- "$BUN" "$TRAFFIC" receive "$RECEIVER" "$PORT" 2> "$FOLDER/.receiver" &
receiver=$!
"$KQ" run --log "$FOLDER/sender.log.gz" --json "$FOLDER/sender.json" -- "$BUN" "$TRAFFIC" send "$RECEIVER" "$PORT" "$SECONDS_TO_SEND"
wait $receiver || { cat "$FOLDER/.receiver" >&2; exit 125; }
cat "$FOLDER/.receiver" >&2
rm -f "$FOLDER/.receiver"
`;

const LOOPBACK = `
"$KQ" run --log "$FOLDER/receiver.log.gz" --json "$FOLDER/receiver.json" -- "$BUN" "$TRAFFIC" receive "$RECEIVER" "$PORT" 2> "$FOLDER/.receiver" &
receiver=$!
"$KQ" run --log "$FOLDER/sender.log.gz" --json "$FOLDER/sender.json" -- "$BUN" "$TRAFFIC" send "$RECEIVER" "$PORT" "$SECONDS_TO_SEND"
wait $receiver || { cat "$FOLDER/.receiver" >&2; exit 125; }
cat "$FOLDER/.receiver" >&2
rm -f "$FOLDER/.receiver"
`;

