// Networks for the end-to-end tests: namespaces joined by veth, shaped by tbf, with a router or a
// bridge in between where a test wants one. Each lab has names of its own, which carry the pid of
// its maker, so that what a killed test run left behind is found and removed by the next one.

import { existsSync, readdirSync } from "node:fs";
import { Scope } from "./process.ts";

export interface Shape {
  /** Such as "20mbit". */
  rate: string;
  /** Bytes that may wait in the queue; more are dropped. */
  limitBytes?: number;
  burstBytes?: number;
}

export interface LabOptions {
  /** Shapes what the left node sends (at its own device). */
  shape?: Shape;
  /** Shapes what the right node sends. */
  shapeBack?: Shape;
  /** A router between the two, in a namespace of its own. */
  middle?: boolean;
  /** The left node's address sits on a bridge; its device to the other side is a port of it. */
  bridge?: boolean;
}

/** One end of a lab: a network namespace. */
export interface Node {
  readonly name: string;
  /** The words that put a command into this namespace. */
  readonly prefix: readonly string[];
  readonly v4: string;
  readonly v6: string;
  /** The device by which it reaches the other end, where the qdisc sits. */
  readonly device: string;
}

export interface Lab {
  readonly scope: Scope;
  readonly left: Node;
  readonly right: Node;
  readonly middle?: Node;
}

let labs = 0;
let swept = false;

const PREFIX = "kqlab";
const DEVICE = "kq0";

export function enter(name: string): string[] {
  return ["nsenter", `--net=/run/netns/${name}`, "--"];
}

async function ip(...words: string[]): Promise<string> {
  // Detached: a Ctrl-C of the terminal must not reach what removes a namespace.
  const child = Bun.spawn(words, {
    stdout: "pipe", stderr: "pipe", stdin: "ignore", detached: true,
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${words.join(" ")}: exit ${code}: ${error}${out}`);
  return out;
}

/** Ends every process of a namespace of ours and removes it. */
async function removeNamespace(name: string): Promise<void> {
  if (!existsSync(`/run/netns/${name}`)) return;
  for (let attempt = 0; attempt < 20; attempt++) {
    const pids = (await ip("ip", "netns", "pids", name).catch(() => "")).split("\n").filter(Boolean);
    if (!pids.length) break;
    for (const pid of pids) {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        // It has ended by itself meanwhile.
      }
    }
    await Bun.sleep(20);
  }
  await ip("ip", "netns", "del", name);
}

async function sweep(): Promise<void> {
  if (swept || !existsSync("/run/netns")) return;
  swept = true;
  for (const name of readdirSync("/run/netns")) {
    const owner = name.match(/^kqlab(\d+)x/)?.[1];
    if (owner && !existsSync(`/proc/${owner}`)) await removeNamespace(name).catch(() => {});
  }
}

/** Makes a namespace that lives as long as the scope. */
export async function makeNamespace(scope: Scope, letter: string): Promise<string> {
  await sweep();
  const name = `${PREFIX}${process.pid}x${labs++}${letter}`;
  scope.requireOpen();
  const added = ip("ip", "netns", "add", name);
  // Before it is there: the scope may end meanwhile.
  scope.finally(() => added.catch(() => {}).then(() => removeNamespace(name)));
  await added;
  await ip("ip", "-n", name, "link", "set", "lo", "up");
  return name;
}

export async function shapeDevice(namespace: string, device: string, shape: Shape): Promise<void> {
  const limit = shape.limitBytes ?? 64 << 20;
  const burst = shape.burstBytes ?? 3200;
  await ip(
    "tc", "-n", namespace, "qdisc", "replace", "dev", device, "root",
    "tbf", "rate", shape.rate, "burst", `${burst}`, "limit", `${limit}`,
  );
}

async function address(namespace: string, device: string, v4: string, v6: string): Promise<void> {
  await ip("ip", "-n", namespace, "addr", "add", `${v4}/24`, "dev", device);
  await ip("ip", "-n", namespace, "addr", "add", `${v6}/64`, "dev", device, "nodad");
  await ip("ip", "-n", namespace, "link", "set", device, "up");
}

async function join(a: string, aDevice: string, b: string, bDevice: string): Promise<void> {
  await ip(
    "ip", "link", "add", aDevice, "netns", a, "type", "veth", "peer", "name", bDevice, "netns", b,
  );
  await ip("ip", "-n", a, "link", "set", aDevice, "up");
  await ip("ip", "-n", b, "link", "set", bDevice, "up");
}

async function sysctl(namespace: string, setting: string): Promise<void> {
  await ip(...enter(namespace), "sysctl", "-qw", setting);
}

async function build(scope: Scope, options: LabOptions): Promise<Lab> {
  const left = await makeNamespace(scope, "a");
  const right = await makeNamespace(scope, "b");
  const node = (name: string, v4: string, v6: string): Node => ({
    name, v4, v6, device: DEVICE, prefix: enter(name),
  });
  let rightAddress: readonly [string, string] = ["10.77.1.2", "fd77:1::2"];
  let middle: Node | undefined;
  let leftDevice = DEVICE;
  if (options.middle) {
    const router = await makeNamespace(scope, "m");
    rightAddress = ["10.77.2.2", "fd77:2::2"];
    await join(left, DEVICE, router, "left0");
    await join(right, DEVICE, router, "right0");
    await address(router, "left0", "10.77.1.254", "fd77:1::254");
    await address(router, "right0", "10.77.2.254", "fd77:2::254");
    await sysctl(router, "net.ipv4.ip_forward=1");
    await sysctl(router, "net.ipv6.conf.all.forwarding=1");
    middle = node(router, "10.77.1.254", "fd77:1::254");
  } else {
    await join(left, DEVICE, right, DEVICE);
  }
  if (options.bridge) {
    await ip("ip", "-n", left, "link", "add", "br0", "type", "bridge", "stp_state", "0");
    await ip("ip", "-n", left, "link", "set", DEVICE, "master", "br0");
    leftDevice = "br0";
  }
  await address(left, leftDevice, "10.77.1.1", "fd77:1::1");
  await address(right, DEVICE, rightAddress[0], rightAddress[1]);
  if (options.middle) {
    await ip("ip", "-n", left, "route", "add", "default", "via", "10.77.1.254");
    await ip("ip", "-n", left, "-6", "route", "add", "default", "via", "fd77:1::254");
    await ip("ip", "-n", right, "route", "add", "default", "via", "10.77.2.254");
    await ip("ip", "-n", right, "-6", "route", "add", "default", "via", "fd77:2::254");
  }
  if (options.shape) await shapeDevice(left, DEVICE, options.shape);
  if (options.shapeBack) await shapeDevice(right, DEVICE, options.shapeBack);
  return {
    scope,
    left: node(left, "10.77.1.1", "fd77:1::1"),
    right: node(right, ...rightAddress),
    ...(middle && { middle }),
  };
}

/** Every n-th data packet to the port is dropped where the router forwards it. */
export async function dropEveryNth(router: Node, port: number, n: number): Promise<void> {
  const rules = `table inet kqdrop {
    chain forward {
      type filter hook forward priority 0; policy accept;
      tcp dport ${port} meta length > 200 numgen inc mod ${n} == ${n - 1} counter drop
    }
  }`;
  const child = Bun.spawn([...router.prefix, "nft", "-f", "-"], {
    stdin: new Blob([rules]), stdout: "pipe", stderr: "pipe",
  });
  const error = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`nft: ${error}`);
}

/** How many packets the rule of dropEveryNth has dropped. */
export async function droppedPackets(router: Node): Promise<number> {
  const listing = await ip(...router.prefix, "nft", "list", "table", "inet", "kqdrop");
  return Number(listing.match(/counter packets (\d+)/)?.[1] ?? 0);
}

/** Packets that the qdisc of a node's device has dropped. */
export async function qdiscDrops(node: Node): Promise<number> {
  const listing = await ip("tc", "-n", node.name, "-s", "qdisc", "show", "dev", node.device);
  return Number(listing.match(/dropped (\d+)/)?.[1] ?? 0);
}

/** Two namespaces joined as the options say; removed, with all that runs in them, at the end. */
export async function withLab<T>(
  options: LabOptions,
  body: (lab: Lab) => Promise<T>,
): Promise<T> {
  const scope = new Scope();
  try {
    return await body(await build(scope, options));
  } finally {
    await scope.end();
  }
}

/** One namespace with nothing but its loopback device. */
export async function withLoopback<T>(body: (node: Node, scope: Scope) => Promise<T>): Promise<T> {
  const scope = new Scope();
  try {
    const name = await makeNamespace(scope, "l");
    return await body(
      { name, prefix: enter(name), v4: "127.0.0.1", v6: "::1", device: "lo" },
      scope,
    );
  } finally {
    await scope.end();
  }
}
