// Scenarios of calls that are refused: sockets that cannot be measured, wrong arguments, and what
// `open` needs.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { openSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createNetServer, Socket } from "node:net";
import { KQTime } from "../../src/api/index.ts";
import { connectTo, echoServer, failure } from "./scenario-tools.ts";

export const refusals: Record<string, () => Promise<unknown>> = {
  async wrongSockets() {
    await using kq = await KQTime.open();
    const http = createServer((request, response) => {
      void failure(() => kq.register(request.socket, "x")).then((failed) =>
        response.end(JSON.stringify(failed)),
      );
    }).listen(0, "127.0.0.1");
    await once(http, "listening");
    const { port } = http.address() as { port: number };
    const nodeHttp = await (await fetch(`http://127.0.0.1:${port}/`)).json();
    const listener = echoServer();
    const served = Bun.serve({ port: 0, fetch: () => new Response() });
    const udp = await Bun.udpSocket({});
    const closed = await connectTo(listener.port);
    closed.socket.terminate();
    const file = openSync("/dev/null", "r");
    const nodeServer = createNetServer();
    const early = await failure(() => kq.register(nodeServer as never, "x"));
    await once(nodeServer.listen(0, "127.0.0.1"), "listening");
    // node:dgram warns of whoever touches its handle.
    const dgram = createSocket("udp4");
    return {
      nodeHttp,
      listening: await failure(() => kq.register((listener as unknown as { fd: number }).fd, "x")),
      listener: await failure(() => kq.register(listener as never, "x")),
      nodeServer: await failure(() => kq.register(nodeServer as never, "x")),
      nodeServerEarly: early,
      nodeHttpServer: await failure(() => kq.register(http as never, "x")),
      unconnected: await failure(() => kq.register(new Socket(), "x")),
      dgram: await failure(() => kq.register(dgram as never, "x")),
      server: await failure(() => kq.register(served as never, "x")),
      negative: await failure(() => kq.register(-1, "x")),
      text: await failure(() => kq.register("1" as never, "x")),
      closed: await failure(() => kq.register(closed.socket, "x")),
      unused: await failure(() => kq.register(999, "x")),
      file: await failure(() => kq.register(file, "x")),
      udp: await failure(() => kq.register(udp as never, "x")),
      udpNumber: await failure(() => kq.register((udp as unknown as { fd: number }).fd, "x")),
      deregisterServer: await failure(() => kq.deregister(served as never)),
      capacity: await failure(() => kq.samples({ capacity: 0 })),
    };
  },

  /** What TypeScript would not let pass. */
  async wrongArguments() {
    await using kq = await KQTime.open();
    const server = echoServer();
    const { socket } = await connectTo(server.port);
    const calls: Record<string, (api: any) => unknown> = {
      "register name": (api) => api.register(socket, 7),
      "register null name": (api) => api.register(socket, null),
      "register nothing": (api) => api.register(),
      "register null": (api) => api.register(null),
      "register symbol": (api) => api.register(Symbol("s")),
      "register fraction": (api) => api.register(1.5),
      "deregister text": (api) => api.deregister("7"),
      "port name": (api) => api.registerPort(80, undefined),
      "port text": (api) => api.registerPort("80", "x"),
      "port symbol": (api) => api.registerPort(Symbol("s"), "x"),
      "port nothing": (api) => api.deregisterPort(),
      "peer text": (api) => api.registerPeer("10.0.0.1", "x"),
      "peer nothing": (api) => api.registerPeer(undefined, "x"),
      "peer empty": (api) => api.registerPeer({}, "x"),
      "peer address": (api) => api.deregisterPeer({ address: Symbol("s"), port: 1 }),
      "peer name": (api) => api.registerPeer({ address: "::1", port: 1 }, {}),
      "samples null": (api) => api.samples(null),
      "samples option": (api) => api.samples({ capacty: 1 }),
      "samples capacity": (api) => api.samples({ capacity: "10" }),
    };
    const failures: Record<string, unknown> = {};
    for (const [key, call] of Object.entries(calls)) failures[key] = await failure(() => call(kq));
    return { failures, labels: (await kq.snapshot()).labels.length };
  },

  /** It is the caller's rights, options and machine that fail here. */
  async open() {
    const options = JSON.parse(process.env["OPTIONS"] ?? "{}") as object;
    return failure(async () => (await KQTime.open(options)).close());
  },
};
