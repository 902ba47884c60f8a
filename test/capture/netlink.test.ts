import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import {
  closeNetlink,
  interfaceDrops,
  interfaces,
  socketQueues,
  TcpState,
} from "../../src/ffi/netlink.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { Lab, run } from "./lab.ts";
import { words } from "./tcpdump-lines.ts";

const hasIpv6 = Object.values(networkInterfaces()).flat().some((each) => each?.address === "::1");

describe("socket queues", () => {
  for (const address of hasIpv6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
    describe(address, () => {
      let server: Server;
      let accepted: Socket;
      let client: Socket;
      let port: number;
      const written = 3_000_000;

      beforeAll(async () => {
        server = createServer();
        await new Promise<void>((resolve) => server.listen(0, address, resolve));
        port = (server.address() as { port: number }).port;
        const connected = new Promise<void>((resolve) => {
          server.once("connection", (socket) => {
            accepted = socket;
            // Nobody reads: what is sent stays in the two queues.
            socket.pause();
            resolve();
          });
        });
        client = connect(port, address);
        await connected;
        client.write(Buffer.alloc(written, 1));
        await Bun.sleep(100);
      });

      afterAll(() => {
        client.destroy();
        accepted.destroy();
        server.close();
      });

      test("both ends, their addresses, states and bytes", () => {
        const rows = socketQueues();
        const from = rows.find((row) => row.remotePort === port)!;
        const to = rows.find((row) => row.localPort === port)!;
        const mine = client.localPort!;
        expect([from.localPort, to.remotePort]).toEqual([mine, mine]);
        for (const row of [from, to]) {
          const expected = address === "::1" ? [0, 0, 0, 1] : words(address);
          expect([...row.localWords]).toEqual(expected);
          expect([...row.remoteWords]).toEqual(expected);
          expect(row.state).toBe(TcpState.Established);
          expect(row.inode).toBeGreaterThan(0);
        }
        // Bun may still hold some of it itself.
        const queued = from.sendQueueBytes + to.receiveQueueBytes;
        expect(from.sendQueueBytes).toBeGreaterThan(0);
        expect(to.receiveQueueBytes).toBeGreaterThan(0);
        expect(queued).toBeLessThanOrEqual(written);
        expect(rows.some((row) => row.state === TcpState.Listen)).toBe(false);
      });

      test("of one port, by the kernel's own filter", () => {
        expect(socketQueues({ localPort: port }).map((row) => row.remotePort))
          .toEqual([client.localPort!]);
        expect(socketQueues({ remotePort: port }).map((row) => row.localPort))
          .toEqual([client.localPort!]);
        expect(socketQueues({ localPort: port, remotePort: port }).length).toBe(0);
      });
    });
  }

  test("the rows are used again, and a closed socket opens anew", () => {
    const first = socketQueues();
    closeNetlink();
    closeNetlink();
    expect(socketQueues()).toBe(first);
  });

  test("thousands of sockets: dumps of many messages", async () => {
    const server = createServer((socket) => socket.on("error", () => {}));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const port = (server.address() as { port: number }).port;
    const clients: Socket[] = [];
    for (let i = 0; i < 1000; i++) clients.push(connect(port, "127.0.0.1"));
    await Promise.all(clients.map((each) => new Promise<void>((resolve) => {
      each.once("connect", () => resolve());
    })));
    const rows = socketQueues();
    const ends = rows.filter((row) => row.remotePort === port);
    expect(new Set(ends.map((row) => row.localPort)).size).toBe(1000);
    for (const client of clients) client.destroy();
    server.close();
  });
});

describe("interfaces", () => {
  test("those that the system knows", () => {
    const found = interfaces();
    const names = found.map((device) => device.name);
    for (const name of Object.keys(networkInterfaces())) expect(names).toContain(name);
    const loopback = found.find((device) => device.name === "lo");
    expect(loopback).toMatchObject({ index: 1, master: 0, link: 0, kind: "", mode: 0 });
    expect(interfaceDrops("no such device")).toBe(0);
    expect(interfaceDrops("any")).toBeGreaterThanOrEqual(interfaceDrops("lo"));
  });

  needsNamespaces("masters, links and kinds; a veth's peer elsewhere is no link", () => {
    using lab = new Lab();
    run("ip", "-n", lab.left, "link", "add", "br7", "type", "bridge");
    run("ip", "-n", lab.left, "link", "set", "va", "master", "br7");
    run("ip", "-n", lab.left, "link", "add", "vc", "type", "veth", "peer", "name", "vd");
    run("ip", "-n", lab.left, "link", "add", "mv", "link", "vc", "type", "macvlan", "mode", "vepa");
    const list = join(import.meta.dir, "list-interfaces.ts");
    const found = JSON.parse(lab.in(lab.left, process.execPath, list)) as
      { index: number; name: string; master: number; link: number; kind: string; mode: number }[];
    const by = (name: string) => found.find((device) => device.name === name)!;
    expect(by("br7")).toMatchObject({ master: 0, link: 0, kind: "bridge" });
    expect(by("va")).toMatchObject({ master: by("br7").index, link: 0, kind: "veth" });
    // Both ends here: each names the other, which Devices must not take for a device below.
    expect(by("vc").link).toBe(by("vd").index);
    expect(by("mv")).toMatchObject({ master: 0, link: by("vc").index, kind: "macvlan", mode: 2 });
  });
});
