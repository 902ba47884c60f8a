// What the scenarios share: a server that echoes, exchanges of known size, and how a call failed.

import { readdirSync, readFileSync } from "node:fs";
import { KQTime, KQTimeError } from "../../src/api/index.ts";

export type Echoed = { socket: import("bun").Socket; exchange: (bytes: number) => Promise<void> };

/** A server that sends back what it gets. */
export function echoServer() {
  return Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        socket.write(chunk);
      },
    },
  });
}

/** A connection, and an exchange of so many bytes in one call each way (loopback, below 64 KiB). */
export async function connectTo(port: number, opened?: (fd: number) => void): Promise<Echoed> {
  let missing = 0;
  let wake = () => {};
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (socket) => opened?.((socket as unknown as { fd: number }).fd),
      data: (_, chunk) => {
        missing -= chunk.length;
        if (missing === 0) wake();
      },
    },
  });
  const exchange = (bytes: number) => {
    missing = bytes;
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    socket.write(new Uint8Array(bytes).fill(bytes));
    return promise;
  };
  return { socket, exchange };
}

export async function failure(body: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await body();
  } catch (error) {
    if (error instanceof KQTimeError) return { code: error.code, message: error.message };
    return { code: "", message: String(error) };
  }
  return { code: "none", message: "" };
}

/** Warnings of the process meanwhile. */
export async function warningsOf(body: () => Promise<unknown>): Promise<object[]> {
  const warnings: object[] = [];
  process.removeAllListeners("warning");
  process.on("warning", (warning) => {
    const { name, message } = warning;
    warnings.push({ name, message, code: (warning as { code?: string }).code });
  });
  await body();
  // They are emitted in a later turn.
  await new Promise((resolve) => setImmediate(resolve));
  return warnings;
}

export const bytesOf = async (kq: KQTime) =>
  Object.fromEntries(
    (await kq.snapshot()).labels.map(({ label, out, in: inbound }) => [
      label,
      [out.bytesCalled, out.bytesMatched, inbound.bytesCalled, inbound.bytesMatched],
    ]),
  );

/** Processes that this one has started and that run, as the kernel lists them. */
export function collectors(): number[] {
  const tasks = readdirSync(`/proc/${process.pid}/task`);
  const children = tasks.map((task) =>
    readFileSync(`/proc/${process.pid}/task/${task}/children`, "utf8"),
  );
  return children.join(" ").split(/\s+/).filter((pid) => pid !== "").map(Number);
}

export function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}
