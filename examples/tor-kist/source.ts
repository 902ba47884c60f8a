// The far end of the streams, in the exit's namespace: a port that sends without end to whoever
// connects, and one that sends back what it gets.
//
//     bun source.ts ADDRESS BULK_PORT ECHO_PORT

import type { Socket } from "bun";

const [hostname, bulkPort, echoPort] = process.argv.slice(2);
const chunk = crypto.getRandomValues(new Uint8Array(65536));

/** Until the kernel takes no more; then `drain` goes on. */
function pour(socket: Socket): void {
  while (socket.write(chunk) === chunk.length);
}

Bun.listen({ hostname, port: Number(bulkPort), socket: { open: pour, drain: pour, data() {} } });
Bun.listen({
  hostname,
  port: Number(echoPort),
  socket: {
    data(socket, data) {
      socket.write(data);
    },
  },
});
console.log("ready");
