// The demo's own program, an ordinary Bun service that knows nothing of kqtime:
// `demo-traffic.ts send|receive HOST PORT [SECONDS]`. The sender writes as fast as it may, the
// receiver takes a nap now and then, so that both kinds of waiting show.

const [role, host = "127.0.0.1", portText = "18443", secondsText = "3"] = process.argv.slice(2);
const port = Number(portText);
const CHUNK_BYTES = 16 * 1024;
const NAP_EVERY_BYTES = 512 * 1024;
const NAP_MS = 20;
const CONNECT_TRIES = 200;

async function send(): Promise<void> {
  const deadline = performance.now() + Number(secondsText) * 1000;
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
        port,
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
    port,
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
  await closed;
  server.stop(true);
}

await (role === "send" ? send() : receive());

export {};
