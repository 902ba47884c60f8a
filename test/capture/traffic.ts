// One TCP transfer: `serve ADDRESS PORT BYTES` takes one connection, answers when that many bytes
// have come, and prints how many did; `send ADDRESS PORT BYTES` sends them and waits for the
// answer. (Who closes with unread bytes resets the connection and loses what is under way.)

export {};

const [role, address, port, size] = process.argv.slice(2);
const total = Number(size);
const options = { hostname: address, port: Number(port) };

if (role === "serve") {
  let received = 0;
  const server = Bun.listen({
    ...options,
    socket: {
      data(socket, data) {
        received += data.length;
        if (received === total) socket.end(new Uint8Array(3000).fill(0x5a));
      },
      close() {
        console.log(received);
        server.stop(true);
      },
    },
  });
  console.log("listening");
} else {
  const chunk = new Uint8Array(64 * 1024).fill(0x5a);
  let sent = 0;
  const push = (socket: Bun.Socket): void => {
    while (sent < total) {
      const length = Math.min(chunk.length, total - sent);
      const wrote = socket.write(chunk, 0, length);
      sent += wrote;
      if (wrote < length) return;
    }
    socket.flush();
  };
  await Bun.connect({
    ...options,
    socket: { open: push, drain: push, data() {}, end: (socket) => void socket.end() },
  });
}
