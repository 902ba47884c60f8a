// An unmeasured server that sends back what it gets, for programs whose own ends are measured.

import type { Node } from "../lib/network.ts";
import type { Running, Scope } from "../lib/process.ts";

const ECHO = `
import selectors, socket
l = socket.create_server(("127.0.0.1", 0), backlog=4096)
print("ready", l.getsockname()[1], flush=True)
s = selectors.DefaultSelector()
s.register(l, selectors.EVENT_READ)
while True:
    for key, _ in s.select():
        c = key.fileobj
        if c is l:
            n, _ = l.accept()
            s.register(n, selectors.EVENT_READ)
            continue
        try:
            data = c.recv(65536)
            if data: c.sendall(data)
        except OSError:
            data = b""
        if not data:
            s.unregister(c)
            c.close()
`;

export async function startEcho(scope: Scope, node: Node): Promise<{ port: string; server: Running }> {
  const server = scope.start(["python3", "-c", ECHO], { prefix: node.prefix });
  const [, port] = await server.says(/ready (\d+)/);
  return { port: port!, server };
}
