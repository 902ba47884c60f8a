// A client that knows every byte: HTTP by hand over Bun.connect, a connection a request. Prints what
// went over each socket as JSON.
//
//     bun client.ts PORT REQUESTS UPLOAD_BYTES DOWNLOAD_BYTES

const [port = 0, requests = 0, uploadBytes = 0, downloadBytes = 0] = process.argv
  .slice(2)
  .map(Number);

let sent = 0;
let received = 0;

async function exchange(head: string, body: Uint8Array): Promise<void> {
  const message = Buffer.concat([Buffer.from(head), body]);
  const done = Promise.withResolvers<void>();
  let at = 0;
  const push = (socket: import("bun").Socket) => {
    const written = socket.write(message.subarray(at));
    at += written;
    sent += written;
  };
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: push,
      drain: (socket) => {
        if (at < message.length) push(socket);
      },
      data: (_, chunk) => {
        received += chunk.length;
      },
      close: () => done.resolve(),
      connectError: (_, error) => done.reject(error),
    },
  });
  await done.promise;
}

for (let i = 0; i < requests; i++) {
  const common = "Host: localhost\r\nConnection: close\r\n";
  await exchange(`GET /bytes/${downloadBytes} HTTP/1.1\r\n${common}\r\n`, new Uint8Array(0));
  await exchange(
    `POST /upload HTTP/1.1\r\n${common}Content-Length: ${uploadBytes}\r\n\r\n`,
    new Uint8Array(uploadBytes).fill(i),
  );
}
console.log(JSON.stringify({ sockets: requests * 2, sent, received }));

export {};
