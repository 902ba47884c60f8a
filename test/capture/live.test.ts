// Captures of real traffic in network namespaces, against tcpdump's own decoding and against what
// the traffic is known to be.

import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PacketBatch, Sight, TcpFlag } from "../../src/capture/packets.ts";
import { PacketSource } from "../../src/capture/source.ts";
import { Capture, CaptureState, LinkType } from "../../src/ffi/libpcap.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { rowAt, type DriverResult, type DriverRow } from "./driver.ts";
import { Lab, run } from "./lab.ts";
import { setBigTcp } from "./big-tcp.ts";
import { readTcpdump } from "./tcpdump-lines.ts";

/** Bytes from left to right on one device, each byte of the stream once. */
function streamBytes(rows: DriverRow[], port: number, interfaceIndex?: number): number {
  const ranges = rows
    .filter((row) => row.destinationPort === port && row.payloadBytes > 0)
    .filter((row) => interfaceIndex === undefined || row.interfaceIndex === interfaceIndex);
  if (ranges.length === 0) return 0;
  const first = ranges[0].sequence;
  const sorted = ranges
    .map((row) => [(row.sequence - first) | 0, ((row.sequence - first) | 0) + row.payloadBytes])
    .sort((a, b) => a[0] - b[0]);
  let total = 0;
  let reached = -Infinity;
  for (const [from, to] of sorted) {
    total += Math.max(0, to - Math.max(from, reached));
    reached = Math.max(reached, to);
  }
  return total;
}

function indexOf(result: DriverResult, name: string): number {
  return Number(Object.entries(result.names).find(([, each]) => each === name)?.[0] ?? -1);
}

describe("live", () => {
  for (const [name, address] of [["IPv4", "10.77.0.2"], ["IPv6", "fd77::2"]]) {
    for (const device of ["any", "va"]) {
      const title = `${name} on ${device}: as tcpdump decodes it, and again from the record`;
      needsNamespaces(title, async () => {
        using lab = new Lab();
        const dump = join(lab.folder, "record.pcap");
        const driver = await lab.capture(lab.left, { interface: device, dump });
        await lab.transfer(address, 9001, 3_000_000);
        const seen = await driver.finish();
        expect(seen.linkType).toBe(device === "any" ? LinkType.LinuxCooked2 : LinkType.Ethernet);
        expect(seen.badPackets + seen.notTcp + seen.fragments + seen.filtered).toBe(0);
        expect(seen.stats.droppedKernel).toBe(0);
        expect(seen.stats.received).toBe(seen.packets);
        expect(seen.state).toBe(CaptureState.Running);
        expect(streamBytes(seen.rows, 9001)).toBe(3_000_000);
        for (const row of seen.rows) {
          const out = row.destinationPort === 9001 ? Sight.Out : Sight.In;
          expect(row.sight).toBe(device === "any" ? out : Sight.Unknown);
          expect(row.interfaceIndex).toBe(device === "any" ? indexOf(seen, "va") : 0);
        }
        expect(seen.rows.filter((row) => (row.flags & TcpFlag.SYN) !== 0).length).toBe(2);

        // The record, decoded by tcpdump and by the same source.
        const lines = readTcpdump(run("tcpdump", "-nn", "-S", "-tt", "-r", dump,
          "--time-stamp-precision=nano"));
        expect(lines.length).toBe(seen.rows.length);
        for (let i = 0; i < lines.length; i++) lines[i].check(seen.rows[i], seen.baseSec);
        const capture = Capture.savefile(dump);
        const source = new PacketSource(capture, seen.baseSec);
        const batch = new PacketBatch(500);
        const again: DriverRow[] = [];
        while (source.read(batch, 500) > 0) {
          for (let i = 0; i < batch.count; i++) again.push(rowAt(batch, i));
        }
        expect(capture.state).toBe(CaptureState.Ended);
        expect(again).toEqual(seen.rows);
        capture.close();
        // Headers only: of the payload (0x5a) nothing is kept.
        expect(readFileSync(dump).includes(Buffer.alloc(8, 0x5a))).toBe(false);
      }, { programs: ["tcpdump"] });
    }
  }

  needsNamespaces("loopback: each packet once", async () => {
    using lab = new Lab();
    for (const device of ["any", "lo"]) {
      const driver = await lab.capture(lab.left, { interface: device });
      await lab.transfer("127.0.0.1", 9002, 1_000_000, lab.left);
      const seen = await driver.finish();
      expect(streamBytes(seen.rows, 9002)).toBe(1_000_000);
      const pushed = seen.rows.filter((row) => row.destinationPort === 9002);
      const distinct = new Set(pushed.map((row) =>
        `${row.sequence} ${row.payloadBytes} ${row.flags} ${row.acknowledgment} ${row.timeNs}`));
      expect(distinct.size).toBe(pushed.length);
      // On `any` the outgoing sighting does not even take room in the ring.
      expect(seen.stats.received).toBe(device === "any" ? seen.packets : seen.packets * 2);
    }
  });

  needsNamespaces("BIG TCP, IPv6 and IPv4, and the user's filter on it", async () => {
    using lab = new Lab();
    setBigTcp(lab, 190_000);
    for (const address of ["fd77::2", "10.77.0.2"]) {
      for (const device of ["any", "va"]) {
        const wanted = await lab.capture(lab.left, { interface: device });
        const unwanted = await lab.capture(lab.left, {
          interface: device,
          filter: "tcp and not port 9003",
        });
        await lab.transfer(address, 9003, 30_000_000);
        const seen = await wanted.finish();
        expect(seen.badPackets + seen.notTcp + seen.filtered).toBe(0);
        expect(streamBytes(seen.rows, 9003)).toBe(30_000_000);
        expect(Math.max(...seen.rows.map((row) => row.payloadBytes))).toBeGreaterThan(65_536);
        const rest = await unwanted.finish();
        expect(rest.packets).toBe(0);
        if (address.includes(":")) expect(rest.filtered).toBeGreaterThan(0);
      }
    }
  });

  needsNamespaces("VLAN tags, in the frame or beside it: what `tcp` misses is there", async () => {
    using lab = new Lab();
    const inject = join(import.meta.dir, "inject.ts");
    for (const filter of ["tcp and not port 22", "tcp", "port 9001", "vlan and tcp"]) {
      const drivers: [string, Awaited<ReturnType<Lab["capture"]>>][] = [];
      for (const namespace of [lab.left, lab.right]) {
        for (const device of ["any", namespace === lab.left ? "va" : "vb"]) {
          // libpcap has no `vlan` for cooked captures.
          if (device === "any" && filter.startsWith("vlan")) continue;
          drivers.push([device, await lab.capture(namespace, { interface: device, filter })]);
        }
      }
      // Packets of libpcap's first block are filtered in user space, the later ones in the kernel.
      for (let round = 0; round < 3; round++) {
        lab.in(lab.left, process.execPath, inject, "va", "9001", "22");
        await Bun.sleep(60);
      }
      for (const [device, driver] of drivers) {
        const seen = await driver.finish();
        const ports = filter === "tcp" || filter.startsWith("vlan") ? [9001, 22] : [9001];
        // The source port tells the frame: 40000 to 40007 (see inject.ts).
        const found = new Set(seen.rows.map((row) => `${row.sourcePort} ${row.destinationPort}`));
        const frames = filter.startsWith("vlan") ? [1, 2, 7] : [0, 1, 2, 3, 4, 5, 6, 7];
        const expected = ports.flatMap((port) => frames.map((n) => `${40_000 + n} ${port}`));
        expect([device, filter, ...[...found].sort()])
          .toEqual([device, filter, ...expected.sort()]);
        expect(seen.rows.length).toBe(expected.length * 3);
        expect(seen.badPackets + seen.notTcp + seen.fragments).toBe(0);
        for (const row of seen.rows) expect(row.payloadBytes).toBe(100);
      }
    }
  });

  needsNamespaces("a filter that only the kernel can judge is said not to be widened", async () => {
    using lab = new Lab();
    const driver = await lab.capture(lab.left, { interface: "any", filter: "tcp and outbound" });
    await lab.transfer("10.77.0.2", 9005, 100_000);
    const seen = await driver.finish();
    expect(seen.warnings.join()).toContain("outbound");
    expect(seen.rows.every((row) => row.sight === Sight.Out)).toBe(true);
    expect(streamBytes(seen.rows, 9005)).toBe(100_000);
  });
});

describe("devices", () => {
  needsNamespaces("on a bridge and on its port: the port judges, and sees every byte", async () => {
    using lab = new Lab();
    run("ip", "-n", lab.left, "addr", "flush", "dev", "va");
    run("ip", "-n", lab.left, "link", "add", "br7", "type", "bridge");
    run("ip", "-n", lab.left, "link", "set", "va", "master", "br7");
    run("ip", "-n", lab.left, "link", "set", "br7", "up");
    run("ip", "-n", lab.left, "addr", "add", "10.77.0.1/24", "dev", "br7");
    const driver = await lab.capture(lab.left, { interface: "any" });
    await lab.transfer("10.77.0.2", 9006, 500_000);
    const seen = await driver.finish();
    expect(seen.inner).toEqual(["br7"]);
    const departed = seen.rows.filter((row) => row.sight === Sight.Out);
    expect(streamBytes(departed, 9006, indexOf(seen, "br7"))).toBe(500_000);
    expect(streamBytes(departed, 9006, indexOf(seen, "va"))).toBe(500_000);
    const arrived = seen.rows.filter((row) => row.sight === Sight.In && row.payloadBytes > 0);
    expect(new Set(arrived.map((row) => seen.names[row.interfaceIndex])))
      .toEqual(new Set(["va", "br7"]));
  });

  needsNamespaces("a macvlan is inner in modes where all leaves by its device", async () => {
    using lab = new Lab();
    // Else the other end of the pair answers for the sibling's address.
    lab.in(lab.right, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1");
    for (const [mode, inner] of [["vepa", true], ["private", true], ["bridge", false]] as const) {
      run("ip", "-n", lab.left, "addr", "flush", "dev", "va");
      run("ip", "-n", lab.left, "link", "add", "mv", "link", "va", "type", "macvlan", "mode", mode);
      run("ip", "-n", lab.left, "link", "set", "mv", "up");
      run("ip", "-n", lab.left, "addr", "add", "10.77.0.1/24", "dev", "mv");
      // A sibling on the same device, in another namespace.
      run("ip", "-n", lab.left, "link", "add", "mw", "link", "va", "type", "macvlan", "mode", mode);
      run("ip", "-n", lab.left, "link", "set", "mw", "netns", lab.right);
      run("ip", "-n", lab.right, "link", "set", "mw", "up");
      run("ip", "-n", lab.right, "addr", "add", "10.78.0.2/24", "dev", "mw");
      run("ip", "-n", lab.left, "addr", "add", "10.78.0.1/24", "dev", "mv");

      const driver = await lab.capture(lab.left, { interface: "any" });
      await lab.transfer("10.77.0.2", 9007, 300_000);
      if (mode === "bridge") await lab.transfer("10.78.0.2", 9008, 300_000);
      const seen = await driver.finish();
      expect([mode, ...seen.inner]).toEqual(inner ? [mode, "mv"] : [mode]);
      const departed = seen.rows.filter((row) => row.sight === Sight.Out);
      expect(streamBytes(departed, 9007, indexOf(seen, "mv"))).toBe(300_000);
      expect(streamBytes(departed, 9007, indexOf(seen, "va"))).toBe(300_000);
      if (mode === "bridge") {
        // This is why: what goes to a sibling shows on the device below as incoming.
        expect(streamBytes(departed, 9008, indexOf(seen, "mv"))).toBe(300_000);
        expect(streamBytes(departed, 9008, indexOf(seen, "va"))).toBe(0);
      }
      run("ip", "-n", lab.left, "link", "del", "mv");
      run("ip", "-n", lab.right, "link", "del", "mw");
    }
  });
});

describe("what goes wrong under a capture", () => {
  needsNamespaces("an interface that goes down and comes back is captured on", async () => {
    using lab = new Lab();
    const driver = await lab.capture(lab.left, { interface: "va" });
    await lab.transfer("10.77.0.2", 9010, 50_000);
    run("ip", "-n", lab.left, "link", "set", "va", "down");
    await Bun.sleep(50);
    run("ip", "-n", lab.left, "link", "set", "va", "up");
    await lab.transfer("10.77.0.2", 9011, 50_000);
    const seen = await driver.finish();
    expect(seen.state).toBe(CaptureState.Running);
    expect(streamBytes(seen.rows, 9010)).toBe(50_000);
    expect(streamBytes(seen.rows, 9011)).toBe(50_000);
  });

  needsNamespaces("an interface that disappears is a state, not an exception", async () => {
    using lab = new Lab();
    const driver = await lab.capture(lab.left, { interface: "va" });
    await lab.transfer("10.77.0.2", 9012, 50_000);
    run("ip", "-n", lab.left, "link", "del", "va");
    await Bun.sleep(50);
    const seen = await driver.finish();
    expect(seen.state).toBe(CaptureState.Failed);
    expect(seen.failureCode).toBe("E_PCAP_LOST");
    expect(seen.failure).toContain("va");
    expect(streamBytes(seen.rows, 9012)).toBe(50_000);
  });

  needsNamespaces("a full buffer is counted", async () => {
    using lab = new Lab();
    const options = { interface: "any", bufferBytes: 300_000, idle: true };
    const driver = await lab.capture(lab.left, options);
    await lab.transfer("10.77.0.2", 9013, 60_000_000);
    const seen = await driver.finish();
    expect(seen.stats.droppedKernel).toBeGreaterThan(0);
    expect(seen.stats.received - seen.stats.droppedKernel).toBe(seen.packets);
  });
});
