// Sockets that nobody has any more and whose end no packet showed: the kernel's word ends them, and
// nothing else does.

import { expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Connection } from "../../src/match/connection.ts";
import { Orphans } from "../../src/session/orphans.ts";
import { Bench, MS } from "../match/bench.ts";
import { ipv4 } from "../match/words.ts";

const LOOPBACK = ipv4(127, 0, 0, 1);
const LATER_MS = 20_000;

async function listening(): Promise<{ server: Server; port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as { port: number }).port };
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  return socket;
}

function watch(bench: Bench, usedTables: readonly number[]) {
  const gone: Connection[] = [];
  const failures: unknown[] = [];
  const orphans = new Orphans({
    live: bench.engine.live,
    isUsed: (table) => usedTables.includes(table),
    onGone: (connection) => void gone.push(connection),
    onFailure: (error) => void failures.push(error),
  });
  return { gone, failures, orphans };
}

test("what the kernel knows stays, what it does not goes, after its process or its last close", async () => {
  const { server, port } = await listening();
  const socket = await connected(port);
  const bench = new Bench();
  const known = { local: LOOPBACK, remote: LOOPBACK, lport: socket.localPort!, rport: port };
  const kept = bench.connected(1 * MS, known);
  // A port that nobody has.
  const lost = bench.connected(1 * MS, { ...known, lport: 1 });
  const open = bench.connected(1 * MS, { ...known, lport: 2 });
  for (const entry of [kept, lost]) bench.close(entry, 2 * MS);
  const entries = (gone: Connection[]) => gone.map(({ entry }) => entry);

  const early = watch(bench, [bench.table]);
  early.orphans.round(LATER_MS, 4000 * MS);
  expect(entries(early.gone)).toEqual([]);
  const closed = watch(bench, [bench.table]);
  closed.orphans.round(LATER_MS, 6000 * MS);
  expect(entries(closed.gone)).toEqual([lost]);
  const ended = watch(bench, []);
  ended.orphans.round(LATER_MS, 6000 * MS);
  expect(entries(ended.gone)).toEqual([lost, open]);
  ended.orphans.round(LATER_MS + 1, 6000 * MS);
  expect(entries(ended.gone)).toEqual([lost, open]);
  expect([early, closed, ended].flatMap(({ failures }) => failures)).toEqual([]);
  socket.destroy();
  server.close();
});
