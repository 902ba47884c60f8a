// The demo's own program, an ordinary Bun service that knows nothing of kqtime:
// `demo-traffic.ts receive PORT-FILE HOST PORT` and `demo-traffic.ts send PORT-FILE HOST SECONDS`.
// The sender writes as fast as it may, the receiver takes a nap now and then, so that both kinds of
// waiting show. Which port the receiver listens on is in the file.

import { readFileSync, writeFileSync } from "node:fs";

const [role, portFile = "", host = "127.0.0.1", value = "0"] = process.argv.slice(2);
const CHUNK_BYTES = 16 * 1024;
const NAP_EVERY_BYTES = 512 * 1024;
const NAP_MS = 20;
const CONNECT_TRIES = 200;

async function send(): Promise<void> {
  const deadline = performance.now() + Number(value) * 1000;
  const chunk = crypto.getRandomValues(new Uint8Array(CHUNK_BYTES));
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const pump = (socket: Bun.Socket) => {
    while (performance.now() < deadline) if (socket.write(chunk) < chunk.length) return;
    socket.end();
  };
  for (let tries = 0; ; tries++) {
    try {
      await Bun.connect({
        hostname: host,
        port: Number(readFileSync(portFile, "utf8")),
        socket: { open: pump, drain: pump, data: () => {}, close: () => resolve(), error: () => resolve() },
      });
      break;
    } catch (error) {
      if (tries >= CONNECT_TRIES) throw error;
      await Bun.sleep(20);
    }
  }
  await closed;
}

async function receive(): Promise<void> {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  let untilNap = NAP_EVERY_BYTES;
  const server = Bun.listen({
    hostname: host,
    port: Number(value),
    socket: {
      data: (_socket, data) => {
        untilNap -= data.length;
        if (untilNap > 0) return;
        untilNap = NAP_EVERY_BYTES;
        Bun.sleepSync(NAP_MS);
      },
      close: () => resolve(),
      error: () => resolve(),
    },
  });
  writeFileSync(portFile, String(server.port), { flag: "wx" });
  await closed;
  server.stop(true);
}

await (role === "send" ? send() : receive());
