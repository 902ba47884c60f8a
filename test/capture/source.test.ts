import { afterAll, describe, expect, test } from "bun:test";
import { lstatSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PacketBatch } from "../../src/capture/packets.ts";
import { PacketSource } from "../../src/capture/source.ts";
import { Capture, CaptureState, LinkType, OfflineFilter } from "../../src/ffi/libpcap.ts";
import { rowAt, type DriverRow } from "./driver.ts";
import {
  cooked2, ethernet, extension, ip4, ip6, savefile, SEGMENT, tag, tcp, typed,
} from "./frames.ts";

const folder = mkdtempSync(join(tmpdir(), "kqsource-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function write(bytes: Uint8Array): string {
  const path = join(folder, `${files++}.pcap`);
  writeFileSync(path, bytes);
  return path;
}

const IPV4 = 0x0800;
const good = cooked2(IPV4, ip4(tcp()));
const udp = cooked2(IPV4, ip4(tcp(), { protocol: 17 }));
const fragment = cooked2(IPV4, ip4(tcp(), { fragment: 0x2000 }));
const bad = cooked2(IPV4, ip4(tcp(), { totalBytes: 1 }));

function readAll(source: PacketSource, maximum = 100): DriverRow[] {
  const batch = new PacketBatch(100);
  const rows: DriverRow[] = [];
  do {
    source.read(batch, maximum);
    for (let i = 0; i < batch.count; i++) rows.push(rowAt(batch, i));
  } while (!source.ended);
  return rows;
}

function counts(source: PacketSource) {
  const { packets, badPackets, notTcp, fragments, filtered } = source;
  return { packets, badPackets, notTcp, fragments, filtered };
}

describe("a savefile", () => {
  const at = (sec: number, nsec: number, frame: number[]) => ({ sec, nsec, frame });
  const packets = [
    at(1_700_000_001, 0, good),
    at(1_700_000_001, 999_999_999, udp),
    at(1_699_999_999, 1, good),
    at(1_700_000_001, 5, fragment),
    at(1_700_000_002, 6, bad),
    at(1_700_000_003, 7, good.slice(0, 45)),
    at(1_700_000_004, 123_456_789, good),
  ];
  const path = write(savefile(LinkType.LinuxCooked2, packets));

  test("rows, times relative to the base, counts, and the end", () => {
    const capture = Capture.savefile(path);
    expect(capture.linkType).toBe(LinkType.LinuxCooked2);
    const source = new PacketSource(capture, 1_700_000_000);
    const rows = readAll(source);
    expect(rows.map((row) => row.timeNs)).toEqual([1e9, -999_999_999, 4_123_456_789]);
    expect(rows[0].payloadBytes).toBe(SEGMENT.payload.length);
    expect(counts(source)).toEqual({
      packets: 3, badPackets: 2, notTcp: 1, fragments: 1, filtered: 0,
    });
    expect(capture.state).toBe(CaptureState.Ended);
    expect(capture.failure).toBeNull();
    expect(capture.stats()).toEqual({ received: 0, droppedKernel: 0, droppedInterface: 0 });
    capture.close();
    capture.close();
    expect(capture.state).toBe(CaptureState.Closed);
    expect(capture.next()).toBe(false);
  });

  test("in batches of any size", () => {
    for (const maximum of [1, 2, 3, 7]) {
      const capture = Capture.savefile(path);
      const rows = readAll(new PacketSource(capture, 0), maximum);
      expect(rows.map((row) => row.timeNs)).toEqual([
        1_700_000_001e9, 1_699_999_999e9 + 1, 1_700_000_004e9 + 123_456_789,
      ]);
      capture.close();
    }
  });

  test("recorded again, it replays to the same, without its payload", () => {
    const capture = Capture.savefile(path);
    const source = new PacketSource(capture, 1_700_000_000);
    const record = join(folder, "record.pcap");
    source.dump = capture.dumpTo(record);
    const rows = readAll(source);
    source.dump.flush();
    source.dump.close();
    source.dump.close();
    capture.close();
    expect(lstatSync(record).mode & 0o777).toBe(0o600);

    const again = Capture.savefile(record);
    const replayed = new PacketSource(again, 1_700_000_000);
    expect(readAll(replayed)).toEqual(rows);
    // What is no TCP is not recorded; all else counts as it did.
    expect(counts(replayed)).toEqual({ ...counts(source), notTcp: 0 });
    again.close();
    // Five headers of 20 bytes (link), 20 (IP), 20 to 32 (TCP), and none of the payload.
    expect(lstatSync(record).size).toBeLessThan(24 + 6 * (16 + 20 + 20 + 32));
  });

  test("cut off in the middle of a packet: a state, and what was before it", () => {
    const whole = savefile(LinkType.LinuxCooked2, packets);
    for (const cut of [1, 30, 60]) {
      const capture = Capture.savefile(write(whole.slice(0, whole.length - cut)));
      const source = new PacketSource(capture, 1_700_000_000);
      expect(readAll(source).length).toBe(2);
      expect(capture.state).toBe(CaptureState.Failed);
      expect(capture.failure?.code).toBe("E_PCAP_FILE");
      expect(capture.failure?.message).toContain("truncated");
      capture.close();
    }
  });

  test("of a large packet only the headers are needed", () => {
    const frame = ethernet(typed(IPV4, ip4(tcp({ payload: Array(60_000).fill(1) }))));
    const capture = Capture.savefile(write(savefile(1, [at(5, 0, frame)])));
    const rows = readAll(new PacketSource(capture, 0));
    expect(rows.map((row) => row.payloadBytes)).toEqual([60_000]);
    expect(capture.capturedBytes).toBe(capture.bytes.length);
    capture.close();
  });

  test("packets that are no TCP do not make a read unbounded", () => {
    const many = Array.from({ length: 100 }, () => at(1, 1, udp));
    const capture = Capture.savefile(write(savefile(LinkType.LinuxCooked2, many)));
    const source = new PacketSource(capture, 0);
    const batch = new PacketBatch(1);
    expect(source.read(batch, 1)).toBe(0);
    expect(source.examined).toBeGreaterThan(0);
    expect(source.examined).toBeLessThan(100);
    expect(source.ended).toBe(false);
    capture.close();
  });

  test("microsecond savefiles give nanoseconds", () => {
    const bytes = savefile(LinkType.LinuxCooked2, [at(9, 123_456, good)]);
    bytes.set([0xd4, 0xc3, 0xb2, 0xa1]);
    const capture = Capture.savefile(write(bytes));
    expect(readAll(new PacketSource(capture, 9))[0].timeNs).toBe(123_456_000);
    capture.close();
  });
});

describe("what cannot be opened", () => {
  const codeOf = (open: () => Capture): string => {
    try {
      open().close();
    } catch (error) {
      return `${(error as { code: string }).code} ${(error as Error).message}`;
    }
    return "opened";
  };

  test("no file, no savefile, no link type", () => {
    expect(codeOf(() => Capture.savefile(join(folder, "none"))))
      .toMatch(/^E_PCAP_FILE .*none: No such file/);
    expect(codeOf(() => Capture.savefile(write(new Uint8Array(100).fill(65)))))
      .toMatch(/^E_PCAP_FILE .*unknown file format/);
    expect(codeOf(() => Capture.savefile(write(savefile(105, [])))))
      .toMatch(/^E_PCAP_LINKTYPE .*IEEE802_11\).*cannot be decoded/);
  });

  test("a record is not written through a symbolic link, nor where nothing can be", () => {
    const capture = Capture.savefile(write(savefile(1, [])));
    const link = join(folder, "link");
    symlinkSync(join(folder, "target"), link);
    for (const path of [link, join(folder, "no", "folder")]) {
      expect(() => capture.dumpTo(path)).toThrow(expect.objectContaining({ code: "E_PCAP_DUMP" }));
    }
    capture.close();
  });

  test("a full disk is told by flush", () => {
    const capture = Capture.savefile(write(savefile(LinkType.LinuxCooked2, [
      { sec: 1, nsec: 1, frame: good },
    ])));
    const dump = capture.dumpTo("/dev/full");
    capture.next();
    dump.write(1000);
    expect(() => dump.flush()).toThrow(expect.objectContaining({ code: "E_PCAP_DUMP" }));
    expect(() => dump.close()).toThrow(expect.objectContaining({ code: "E_PCAP_DUMP" }));
    dump.close();
    capture.close();
  });
});

test("the user's filter judges what only its widening let in", () => {
  const frames = [
    ethernet(tag(0x8100, 5, typed(IPV4, ip4(tcp({ destinationPort: 443 }))))),
    ethernet(tag(0x8100, 5, typed(IPV4, ip4(tcp({ destinationPort: 22 }))))),
    ethernet(typed(0x86dd, ip6(extension(6, 1, tcp({ destinationPort: 22 })), 0))),
    ethernet(typed(0x86dd, ip6(extension(6, 1, tcp({ destinationPort: 443 })), 0))),
    ethernet(typed(IPV4, ip4(tcp({ destinationPort: 80 })))),
  ];
  const path = write(savefile(1, frames.map((frame) => ({ sec: 1, nsec: 0, frame }))));
  const filter = new OfflineFilter(LinkType.Ethernet, 256, "tcp and not port 22");
  // A savefile has no filter of its own: it is lent one, as a live capture has it.
  const capture = Object.assign(Capture.savefile(path), { judge: filter });
  const source = new PacketSource(capture, 0);
  expect(readAll(source).map((row) => row.destinationPort)).toEqual([443, 443, 80]);
  expect(counts(source).filtered).toBe(2);
  capture.close();
  expect(filter.matches(new Uint8Array(100), 100, 100)).toBe(false);
});
