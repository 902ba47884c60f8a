// Programs that use the API, one for each name; the last line of their output is JSON. They run in a
// process of their own, because it is the start under the preload library that decides.
//
//     bun scenario.ts NAME FOLDER

import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect as netConnect, Socket } from "node:net";
import { join } from "node:path";
import { KQTime, type Sample } from "../../src/api/index.ts";
import { refusals } from "./scenario-refused.ts";
import {
  bytesOf, collectors, connectTo, type Echoed, echoServer, failure, isRunning, warningsOf,
} from "./scenario-tools.ts";

const [name = "", folder = ""] = process.argv.slice(2);
const path = (file: string) => join(folder, file);

const scenarios: Record<string, () => Promise<unknown>> = {
  ...refusals,

  /** Which bytes count: those of calls between register and deregister. */
  async registration() {
    const server = echoServer();
    await using kq = await KQTime.open({ log: path("registration.log") });
    const { socket, exchange } = await connectTo(server.port);
    await exchange(100);
    kq.register(socket, "first");
    await exchange(1000);
    kq.register(socket, "second");
    await exchange(20);
    kq.deregister(socket);
    await exchange(3);
    kq.register((socket as unknown as { fd: number }).fd);
    await exchange(50);
    // Never registered: no effect.
    kq.deregister((await connectTo(server.port)).socket);
    return bytesOf(kq);
  },

  /** A descriptor that is used again is another socket. */
  async reuse() {
    const server = echoServer();
    await using kq = await KQTime.open();
    const fds: number[] = [];
    for (let n = 0; n < 2; n++) {
      const { socket, exchange } = await connectTo(server.port, (fd) => fds.push(fd));
      if (n === 0) kq.register(socket, "once");
      await exchange(500);
      const closed = Promise.withResolvers<void>();
      socket.reload({ socket: { close: () => closed.resolve(), data() {} } });
      socket.end();
      await closed.promise;
    }
    return { same: fds[0] === fds[1], bytes: await bytesOf(kq) };
  },

  /** node:net's sockets, and one that is registered before it is connected. */
  async node() {
    const server = echoServer();
    await using kq = await KQTime.open();
    const socket = netConnect(server.port, "127.0.0.1");
    const early = await failure(() => kq.register(socket, "early"));
    await once(socket, "connect");
    kq.register(socket, "node");
    socket.write(new Uint8Array(700));
    await once(socket, "data");
    const bytes = await bytesOf(kq);
    socket.destroy();
    const late = await failure(() => kq.register(socket, "late"));
    return { early, bytes, late };
  },

  async peers() {
    const seen: string[] = [];
    await using kq = await KQTime.open();
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      async fetch(request, self) {
        const peer = self.requestIP(request);
        const name = new URL(request.url).pathname.slice(1);
        if (name.startsWith("stop")) await kq.deregisterPeer(peer);
        else await kq.registerPeer(peer, name);
        seen.push(`${peer?.family}`);
        return new Response(new Uint8Array(1000));
      },
    });
    const get = async (route: string) => {
      await (await fetch(`http://127.0.0.1:${server.port}/${route}`)).arrayBuffer();
    };
    // One connection, kept alive: named, renamed, not measured.
    await get("one");
    const one = await bytesOf(kq);
    await get("two");
    await get("stop");
    await get("stop-again");
    const wrong = await failure(() => kq.registerPeer({ address: "host", port: 1 }, "x"));
    const none = await failure(() => kq.registerPeer(null, "x"));
    const all = await bytesOf(kq);
    await server.stop(true);
    return { seen, one, all, wrong, none };
  },

  async ports() {
    const server = echoServer();
    await using kq = await KQTime.open();
    const before = await connectTo(server.port);
    await before.exchange(10);
    await kq.registerPort(server.port, "a");
    await before.exchange(100);
    const after = await connectTo(server.port);
    await after.exchange(1000);
    await kq.registerPort(server.port, "b");
    await after.exchange(20);
    await (await connectTo(server.port)).exchange(500);
    await kq.deregisterPort(server.port);
    await after.exchange(3);
    await (await connectTo(server.port)).exchange(4);
    return { bytes: await bytesOf(kq), wrong: await failure(() => kq.registerPort(0, "x")) };
  },

  /** Everything that samples tell, against the log. */
  async samples() {
    const server = echoServer();
    const kq = await KQTime.open({ log: path("samples.log") });
    const { socket, exchange } = await connectTo(server.port);
    kq.register(socket, "a;b\nc");
    const samples = kq.samples();
    const second = kq.samples();
    await Promise.all([samples.opened, second.opened]);
    for (const bytes of [1, 20, 300, 4000]) await exchange(bytes);
    const taken: Sample[] = [];
    for await (const sample of samples) {
      taken.push(sample);
      if (taken.length === 3) break;
    }
    const ended = await samples.next();
    const rest: Sample[] = [];
    const reading = (async () => {
      for await (const sample of second) rest.push(sample);
    })();
    await kq.close();
    await reading;
    return { taken, ended, rest, lost: [samples.dropped, await second.lost()] };
  },

  /** A reader of samples gets what is registered before and after it came, and nothing else. */
  async readers() {
    const server = echoServer();
    const kq = await KQTime.open({ inbound: false });
    const connections: Echoed[] = [];
    for (let n = 0; n < 4; n++) connections.push(await connectTo(server.port));
    const [before, after, gone, accepted] = connections as [Echoed, Echoed, Echoed, Echoed];
    kq.register(before.socket, "before");
    kq.register(gone.socket, "gone");
    kq.deregister(gone.socket);
    await kq.registerPort((accepted.socket as { localPort: number }).localPort, "port");
    const samples = kq.samples();
    await samples.opened;
    kq.register(after.socket, "after");
    for (const { exchange } of connections) await exchange(10);
    await kq.close();
    const names: string[] = [];
    for await (const { name } of samples) names.push(name);
    return names.sort();
  },

  /** An open and the close of the last handle, at once, in either order. */
  async turns() {
    const sums: number[] = [];
    let last = await KQTime.open();
    for (let n = 0; n < 6; n++) {
      const before = last;
      const closing = n % 2 === 0 ? before.close() : null;
      const opening = KQTime.open();
      const [opened] = await Promise.all([opening, closing ?? before.close()]);
      last = opened;
      sums.push((await last.snapshot()).labels.length);
    }
    // The collector has ended, and this process does not know it yet.
    const [pid] = collectors();
    const closing = last.close();
    await Bun.sleep(1);
    const untilMs = performance.now() + 3000;
    while (isRunning(pid!) && performance.now() < untilMs) Bun.sleepSync(1);
    last = await KQTime.open();
    await closing;
    sums.push((await last.snapshot()).labels.length);
    await last.close();
    return sums;
  },

  /** What the collector has of this process. */
  async collector() {
    const server = echoServer();
    await using kq = await KQTime.open({ log: path("collector.log") });
    await connectTo(server.port);
    const [pid] = collectors();
    const links = (of: number | string) => {
      const fds = readdirSync(`/proc/${of}/fd`);
      return fds.flatMap((fd) => {
        try {
          return [`${fd} ${readlinkSync(`/proc/${of}/fd/${fd}`)}`];
        } catch {
          return [];
        }
      });
    };
    const sockets = (of: number | string) =>
      links(of).flatMap((link) => /socket:.*/.exec(link) ?? []);
    const own = new Set(sockets("self"));
    const field = (of: number | string) =>
      readFileSync(`/proc/${of}/stat`, "latin1").replace(/.*\) /, "").split(" ");
    return {
      log: kq.log,
      preload: readFileSync(`/proc/${pid}/environ`, "latin1").includes("LD_PRELOAD="),
      sockets: sockets(pid!).filter((socket) => own.has(socket)),
      standard: links(pid!).filter((link) => /^[012] /.test(link)),
      sameSession: field(pid!)[3] === field("self")[3],
    };
  },

  /** What a reader has no room for is counted. */
  async overflow() {
    const server = echoServer();
    const kq = await KQTime.open({ inbound: false });
    const { socket, exchange } = await connectTo(server.port);
    kq.register(socket, "x");
    const samples = kq.samples({ capacity: 10 });
    await samples.opened;
    for (let n = 0; n < 200; n++) await exchange(100);
    await kq.close();
    let taken = 0;
    let inbound = 0;
    for await (const sample of samples) {
      taken++;
      if (sample.direction === "in") inbound++;
    }
    const lost = await samples.lost();
    return { taken, inbound, dropped: samples.dropped, lost };
  },

  /** Handles of their own, one after the other, and at once. */
  async handles() {
    const server = echoServer();
    const [a, b] = await Promise.all([
      KQTime.open({ log: path("a.log.gz") }),
      KQTime.open({ log: path("b.log") }),
    ]);
    const together = collectors();
    const { socket, exchange } = await connectTo(server.port);
    a.register(socket, "to a");
    b.register(socket, "to b");
    await exchange(100);
    // One that is opened while others are closed.
    const [, c] = await Promise.all([a.close(), KQTime.open(), a.close()]);
    const closed = await failure(() => a.register(socket, "x"));
    const gone = await failure(() => a.snapshot());
    c.register(socket, "to c");
    await exchange(30);
    const bytes = [await bytesOf(b), await bytesOf(c)];
    await Promise.all([b.close(), c.close()]);
    const d = await KQTime.open({ log: path("a.log.gz") });
    const later = await connectTo(server.port);
    d.register(later.socket, "to d");
    await later.exchange(5);
    bytes.push(await bytesOf(d));
    await d.close();
    return { together: together.length, closed, gone, bytes };
  },

  /** How often the event loop came round meanwhile. */
  async turnsOfTheLoop() {
    const server = echoServer();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const kq = await KQTime.open({ log: path("lag.log") });
    const opening = turns;
    const { socket, exchange } = await connectTo(server.port);
    kq.register(socket, "x");
    await exchange(1000);
    turns = 0;
    const beganMs = performance.now();
    await kq.close();
    const closeMs = performance.now() - beganMs;
    clearInterval(timer);
    return { opening, closing: turns, closeMs };
  },

  async killed() {
    const kq = await KQTime.open({ log: path("killed.log") });
    const samples = kq.samples();
    await samples.opened;
    const [collector] = collectors();
    process.kill(collector!, "SIGKILL");
    const end = await failure(() => samples.next());
    const snapshot = await failure(() => kq.snapshot());
    const warnings = await warningsOf(async () => {
      await kq.close();
      await kq.close();
      await kq[Symbol.asyncDispose]();
    });
    await using again = await KQTime.open();
    return { end, snapshot, warnings, again: (await again.snapshot()).warnings };
  },

  /** Sockets that are deregistered where they are closed, or were never connected. */
  async closedSockets() {
    const kq = await KQTime.open();
    const failed: object[] = [];
    const deregister = async (socket: unknown) => {
      const told = await failure(() => kq.deregister(socket as never));
      if (told.code !== "none") failed.push(told);
    };
    const ended = [0, 1, 2].map(() => Promise.withResolvers<void>());
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => kq.register(socket, "accepted"),
        data() {},
        close: (socket) => void deregister(socket).then(ended[0]!.resolve),
      },
    });
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: server.port,
      socket: {
        open: (socket) => kq.register(socket, "connected"),
        data() {},
        close: (socket) => void deregister(socket).then(ended[1]!.resolve),
      },
    });
    client.end();
    await Promise.all([ended[0]!.promise, ended[1]!.promise]);
    const other = echoServer();
    const node = netConnect(other.port, "127.0.0.1");
    await deregister(node);
    await once(node, "connect");
    kq.register(node, "node");
    node.once("close", () => void deregister(node).then(ended[2]!.resolve));
    node.destroy();
    await ended[2]!.promise;
    for (const none of [-1, 999, new Socket()]) await deregister(none);
    await kq.close();
    await deregister(node);
    await deregister((await connectTo(other.port)).socket);
    return failed;
  },

  /** A log that cannot be written to. */
  async full() {
    const kq = await KQTime.open({ log: "/dev/full" });
    const { socket, exchange } = await connectTo(echoServer().port);
    kq.register(socket, "x");
    await exchange(1000);
    const { losses } = await kq.snapshot();
    return { logLines: losses.logLines, warnings: await warningsOf(() => kq.close()) };
  },

  /** Ends without a word, with samples under way. */
  async exit() {
    const server = echoServer();
    const kq = await KQTime.open({ log: path("exit.log.gz") });
    const { socket, exchange } = await connectTo(server.port);
    kq.register(socket, "x");
    await exchange(1234);
    return collectors();
  },
};

console.log(JSON.stringify(await scenarios[name]!()));
process.exit(0);
