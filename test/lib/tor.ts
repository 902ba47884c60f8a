// A private Tor network, each node in a network namespace of its own, joined by a bridge: an
// authority (which is also the middle relay), a guard, an exit and clients. The authority's strict
// votes leave one path only: client, guard (r1), authority (a1), exit (r2).
//
// A cold start takes about ten seconds, most of them for the vote. The consensus is then valid for
// a day, so a node that is started again is ready after one or two: tests share a network.

import {
  chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { enter, makeNamespace, shapeDevice, type Node, type Shape } from "./network.ts";
import { until, type Running, type Scope } from "./process.ts";
import { DIR_PORT, OR_PORT, SOCKS_PORT, torrc, type Identities } from "./torrc.ts";

/** a1, r1, r2, and the clients c1, c2, … */
export type TorName = string;

const RELAYS = ["a1", "r1", "r2"] as const;
const READY_MS = 60_000;
const DEVICE = "kq0";

export interface TorOptions {
  /** How many there are. */
  clients?: number;
  /** What the nodes may send, by name; the others send as fast as the machine can. */
  shape?: Readonly<Record<TorName, Shape>>;
  /** Lines for every node's torrc. */
  torrc?: readonly string[];
}

export class TorNetwork {
  readonly nodes: Record<TorName, Node> = {};
  /** Where each client takes streams, in its own namespace. */
  readonly socks = `127.0.0.1:${SOCKS_PORT}`;
  readonly clients: readonly TorName[];
  readonly #torrc: Record<TorName, string> = {};
  #identities: Identities = { v3: "", fingerprints: {} };

  private constructor(readonly scope: Scope, readonly options: TorOptions) {
    this.clients = Array.from({ length: options.clients ?? 1 }, (_, i) => `c${i + 1}`);
  }

  /** Namespaces, keys and configurations; nothing is started yet. */
  static async make(scope: Scope, options: TorOptions = {}): Promise<TorNetwork> {
    const tor = new TorNetwork(scope, options);
    await tor.#connect();
    await tor.#configureAll();
    return tor;
  }

  get names(): TorName[] {
    return [...RELAYS, ...this.clients];
  }

  folder(name: TorName): string {
    return this.scope.path(name);
  }

  /** What starts a node. */
  command(name: TorName, program = "tor"): string[] {
    return [program, "--defaults-torrc", "/dev/null", "-f", `${this.folder(name)}.torrc`];
  }

  /** Adds lines to a node's configuration, in place of those that were added before. */
  configure(name: TorName, ...lines: string[]): void {
    writeFileSync(`${this.folder(name)}.torrc`, [this.#torrc[name], ...lines, ""].join("\n"));
  }

  /** Lets the node run as this user: what it keeps is that user's from here on. */
  giveTo(name: TorName, user: { uid: number; gid: number }): void {
    chmodSync(this.scope.folder, 0o711);
    const paths = [this.folder(name)];
    for (const file of readdirSync(this.folder(name), { recursive: true })) {
      paths.push(join(this.folder(name), String(file)));
    }
    for (const path of paths) chownSync(path, user.uid, user.gid);
  }

  /** A pid that the node wrote down: of itself, also where it became a daemon. */
  pid(name: TorName): number {
    return Number(readFileSync(join(this.folder(name), "pid"), "utf8"));
  }

  /** What the node logged since it was started. */
  log(name: TorName): string {
    const path = join(this.folder(name), "notice.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /**
   * Ends a Tor: by SIGTERM to what was started where it is not blocked. Tor's seccomp filter denies
   * the SIG_BLOCK that glibc does in pthread_create, and what glibc then restores is whatever was on
   * the stack: any signal is blocked in about half of all sandboxed Tors, measured or not. One that
   * hears neither SIGTERM nor SIGINT is asked through its control socket.
   */
  async end(name: TorName, running: Running): Promise<void> {
    const pid = this.pid(name);
    if (!blocks(pid, 15)) {
      // A daemon has left the process that it was started as.
      if (running.ended) process.kill(pid, "SIGTERM");
      else running.kill("SIGTERM");
    } else if (!blocks(pid, 2)) {
      process.kill(pid, "SIGINT");
    } else {
      const unix = join(this.folder(name), "control");
      const socket = await Bun.connect({ unix, socket: { data() {} } });
      socket.write("AUTHENTICATE\r\nSIGNAL HALT\r\n");
    }
  }

  async logged(name: TorName, words: string): Promise<void> {
    try {
      await until(`"${words}" in the log of ${name}`, () => {
        this.scope.requireOpen();
        return this.log(name).includes(words);
      }, READY_MS);
    } catch (error) {
      throw new Error(`${(error as Error).message}; its log:\n${this.log(name)}`);
    }
  }

  /** Starts one node without measuring it. */
  plain = (name: TorName): Running =>
    this.scope.start(this.command(name), { prefix: this.nodes[name].prefix });

  /** Starts relays that have started before, or `launch`es all of them; then the clients. */
  async start(
    launch: (name: TorName) => Running = this.plain,
    names: readonly TorName[] = this.names,
  ): Promise<Record<TorName, Running>> {
    const running: Record<TorName, Running> = {};
    const begin = (name: TorName) => {
      rmSync(join(this.folder(name), "notice.log"), { force: true });
      running[name] = launch(name);
    };
    const relays = names.filter((name) => !this.clients.includes(name));
    const clients = names.filter((name) => this.clients.includes(name));
    const cold = relays.includes("a1");
    for (const name of relays) begin(name);
    if (cold) await this.#vote(relays, running, begin);
    // A relay is told where to extend a circuit to, and needs no consensus of its own for that.
    else await Promise.all(relays.map((name) => this.logged(name, "Bootstrapped 0%")));
    for (const name of clients) begin(name);
    await Promise.all(clients.map((name) => this.logged(name, "Bootstrapped 100%")));
    return running;
  }

  /** The consensus is a file of the authority; relays that are told to (SIGHUP) fetch it at once
   *  instead of some time within twenty seconds. */
  async #vote(
    relays: readonly TorName[],
    running: Record<TorName, Running>,
    begin: (name: TorName) => void,
  ): Promise<void> {
    const consensus = join(this.folder("a1"), "cached-microdesc-consensus");
    const deadline = Date.now() + READY_MS;
    const isThere = () => {
      this.scope.requireOpen();
      return existsSync(consensus);
    };
    await until("consensus", isThere, READY_MS);
    while (readFileSync(consensus, "utf8").match(/^r /gm)?.length !== RELAYS.length) {
      if (Date.now() > deadline) throw new Error(`in ${READY_MS} ms no vote had all three relays`);
      // One came too late on a busy machine, and the next vote is in twelve hours. The authority
      // knows all of them now: another start, another first vote.
      // By force: Tor 0.4.9 hangs now and then when it is to end just after a vote.
      process.kill(this.pid("a1"), "SIGKILL");
      await running.a1.exited;
      for (const file of readdirSync(this.folder("a1"))) {
        if (/consensus/.test(file)) rmSync(join(this.folder("a1"), file));
      }
      this.#configureFor("a1");
      begin("a1");
      await until("consensus", isThere, READY_MS);
    }
    const others = relays.filter((name) => name !== "a1");
    for (const name of others) {
      if (running[name].ended) process.kill(this.pid(name), "SIGHUP");
      else running[name].kill("SIGHUP");
    }
    // A client that asks its guard before that has descriptors is sent away for ten seconds.
    await Promise.all(others.map((name) => this.logged(name, "Tor can build exit and internal paths")));
  }

  async #connect(): Promise<void> {
    const hub = await makeNamespace(this.scope, "h");
    await must("ip", "-n", hub, "link", "add", "br0", "type", "bridge", "stp_state", "0");
    await must("ip", "-n", hub, "link", "set", "br0", "up");
    for (const [i, name] of this.names.entries()) {
      const namespace = await makeNamespace(this.scope, name);
      const v4 = `10.78.0.${i + 1}`;
      await must("ip", "link", "add", name, "netns", hub, "type", "veth",
        "peer", "name", DEVICE, "netns", namespace);
      await must("ip", "-n", hub, "link", "set", name, "master", "br0", "up");
      await must("ip", "-n", namespace, "addr", "add", `${v4}/24`, "dev", DEVICE);
      await must("ip", "-n", namespace, "link", "set", DEVICE, "up");
      const shape = this.options.shape?.[name];
      if (shape) await shapeDevice(namespace, DEVICE, shape);
      this.nodes[name] = { name: namespace, prefix: enter(namespace), v4, v6: "::1", device: DEVICE };
    }
  }

  async #configureAll(): Promise<void> {
    for (const name of this.names) mkdirSync(this.folder(name), { mode: 0o700 });
    const identities: Identities = { v3: await this.#certify(), fingerprints: {} };
    await Promise.all(RELAYS.map(async (name) => {
      await must(
        "tor", "--quiet", "--ignore-missing-torrc", "-f", "/nonexistent", "--defaults-torrc",
        "/dev/null", "--list-fingerprint", "--ORPort", "1", "--Nickname", name,
        "--DataDirectory", this.folder(name),
      );
      const line = readFileSync(join(this.folder(name), "fingerprint"), "utf8");
      identities.fingerprints[name] = line.trim().split(" ")[1];
    }));
    writeFileSync(this.scope.path("resolv.conf"), "# nobody to ask\n");
    this.#identities = identities;
    for (const name of this.names) this.#configureFor(name);
  }

  /** As of now: when the first vote is, is reckoned from here. */
  #configureFor(name: TorName): void {
    const authority = this.nodes.a1.v4;
    const resolver = this.scope.path("resolv.conf");
    const place = { name, folder: this.folder(name), address: this.nodes[name].v4, authority, resolver };
    const lines = torrc(place, this.#identities);
    this.#torrc[name] = [...lines, ...(this.options.torrc ?? [])].join("\n");
    this.configure(name);
  }

  /** The authority's keys; gives their fingerprint. */
  async #certify(): Promise<string> {
    const keys = join(this.folder("a1"), "keys");
    mkdirSync(keys, { mode: 0o700 });
    await must(
      "sh", "-c", `cd "$0" && echo x | tor-gencert --create-identity-key -m 12 \
        -a ${this.nodes.a1.v4}:${DIR_PORT} --passphrase-fd 0 -i authority_identity_key \
        -s authority_signing_key -c authority_certificate`, keys,
    );
    const certificate = readFileSync(join(keys, "authority_certificate"), "utf8");
    return certificate.match(/^fingerprint (\S+)/m)![1];
  }
}

function blocks(pid: number, signal: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const blocked = BigInt(`0x${status.match(/^SigBlk:\s*([0-9a-f]+)/m)![1]}`);
  return ((blocked >> BigInt(signal - 1)) & 1n) === 1n;
}

export { OR_PORT };

async function must(...words: string[]): Promise<void> {
  const child = Bun.spawn(words, { stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited,
  ]);
  if (code !== 0) throw new Error(`${words.join(" ")}: exit ${code}: ${error}${out}`);
}
