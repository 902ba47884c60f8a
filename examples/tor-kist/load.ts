// The streams of one Tor client, in its namespace: bulk streams that read what comes, spread over a
// few circuits, and on a circuit of its own a probe that asks for a byte, waits for it, and asks
// again. What they got is printed as a line of JSON at SIGUSR1, counted from the one before.
//
//     bun load.ts SOCKS_PORT ADDRESS BULK_PORT ECHO_PORT STREAMS CIRCUITS

import type { Socket } from "bun";

const [socksPort, address, bulkPort, echoPort, streams, circuits] = process.argv.slice(2);
const PROBE_EVERY_MS = 50;

let bytes = 0;
let sinceMs = performance.now();
let roundTripsMs: number[] = [];

/** A stream through the proxy (RFC 1928, RFC 1929): Tor puts each user name on a circuit of its own. */
function connect(user: string, port: number, onData: (socket: Socket, length: number) => void) {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  let step = 0;
  const name = new TextEncoder().encode(user);
  const octets = address.split(".").map(Number);
  void Bun.connect({
    hostname: "127.0.0.1",
    port: Number(socksPort),
    socket: {
      open(socket) {
        socket.write(new Uint8Array([5, 1, 2]));
      },
      data(socket, data) {
        // The proxy's answers come one at a time: each waits for our next message.
        if (step === 0) socket.write(new Uint8Array([1, name.length, ...name, 1, 120]));
        else if (step === 1) socket.write(new Uint8Array([5, 1, 0, 1, ...octets, port >> 8, port & 255]));
        else if (step === 2) {
          if (data[1] !== 0) reject(new Error(`the proxy answers ${data[1]}`));
          // The stream's first bytes may come along with the last answer, which has ten.
          if (data.length > 10) onData(socket, data.length - 10);
          resolve(socket);
        } else onData(socket, data.length);
        step++;
      },
      close: () => reject(new Error(`the proxy closed a stream of ${user} at step ${step}`)),
      connectError: (_, error) => reject(error),
    },
  }).catch(reject);
  return promise;
}

async function probe(): Promise<void> {
  let askedMs = 0;
  const socket = await connect("probe", Number(echoPort), () => {
    roundTripsMs.push(performance.now() - askedMs);
    setTimeout(ask, PROBE_EVERY_MS);
  });
  function ask(): void {
    askedMs = performance.now();
    socket.write("?");
  }
  ask();
}

process.on("SIGUSR1", () => {
  const nowMs = performance.now();
  console.log(JSON.stringify({ bytes, ms: nowMs - sinceMs, roundTripsMs }));
  bytes = 0;
  sinceMs = nowMs;
  roundTripsMs = [];
});

try {
  await probe();
  await Promise.all(Array.from({ length: Number(streams) }, (_, i) =>
    connect(`circuit${i % Number(circuits)}`, Number(bulkPort), (_socket, length) => {
      bytes += length;
    })));
} catch (error) {
  console.error(`load: ${(error as Error).message}`);
  process.exit(1);
}
console.log("connected");
