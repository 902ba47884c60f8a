// One TCP transfer: `serve ADDRESS PORT` takes one connection, answers with one byte for each
// piece and prints how many bytes came; `send ADDRESS PORT BYTES` sends them.

const [role, address, port, size] = process.argv.slice(2);

if (role === "serve") {
  let received = 0;
  const server = Bun.listen({
    hostname: address,
    port: Number(port),
    socket: {
      data(socket, data) {
        received += data.length;
        socket.write("x");
      },
      close() {
        console.log(received);
        server.stop(true);
      },
    },
  });
  console.log("listening");
} else {
  const total = Number(size);
  const chunk = new Uint8Array(64 * 1024).fill(0x5a);
  let sent = 0;
  const push = (socket: Bun.Socket): void => {
    while (sent < total) {
      const wrote = socket.write(chunk, 0, Math.min(chunk.length, total - sent));
      sent += wrote;
      if (wrote < chunk.length && sent < total) return;
    }
    socket.flush();
    socket.end();
  };
  await Bun.connect({
    hostname: address,
    port: Number(port),
    socket: { open: push, drain: push, data() {}, close() {} },
  });
}
