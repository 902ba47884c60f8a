// A socket that any number of programs inherit, one after the other: what they moved is known, they
// themselves are not kept.

import { expect, test } from "bun:test";
import { EntryFlag, Kind } from "../../src/ring/layout.ts";
import { Bench, CLIENT, CLIENT_PORT, MS, SERVER, SERVER_PORT } from "./bench.ts";
import { entryWords, slotWords } from "./words.ts";

const INODE = 77;

test("programs that inherited a socket and ended are let go", () => {
  const bench = new Bench();
  const { engine } = bench;
  const client = bench.connected(1 * MS - 500, { inode: INODE });
  bench.handshake(1 * MS);
  bench.send(client, 2 * MS, 0, 10);
  bench.packet(3 * MS, true, 0, 10);
  engine.flush();
  const [owner] = [...engine.live];
  for (let n = 0; n < 1000; n++) {
    const table = engine.addTable();
    const atNs = (10 + n) * MS;
    const show = (off: number) =>
      engine.entry(table, 0, entryWords({
        generation: 1, flags: EntryFlag.Adopted, birthNs: atNs, local: CLIENT, remote: SERVER,
        lport: CLIENT_PORT, rport: SERVER_PORT, pid: 1000 + n, fd: 3, inode: INODE,
        out: { active: 0, off, callNs: atNs },
      }));
    show(0);
    engine.record(table, slotWords({
      kind: Kind.Out, entry: 0, generation: 1, timeNs: atNs, off: 0, bytes: 5, fd: 3, pid: 1000 + n,
    }));
    expect(owner!.heirs.length).toBe(1);
    bench.packet(atNs + 1000, true, 10 + n * 5, 5);
    engine.flush();
    show(5);
    engine.endTable(table);
    expect(owner!.heirs.length).toBe(0);
  }
  expect(owner!.left).toMatchObject({ outFrom: 10, outTo: 10 + 5000 });
  expect(owner!.out.stats).toMatchObject({ calls: 1001, bytesCalled: 5010, bytesMatched: 5010 });
  expect(engine.badRecords).toBe(0);
  // The first owner cannot know where it goes on.
  bench.send(client, 2000 * MS, 10, 10);
  bench.finish();
  expect(bench.out(client)["matched"]).toBe(5010);
});
