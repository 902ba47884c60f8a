// A capture in a process of its own: prints a line once it captures, then, when its input ends
// and nothing more comes, what it saw as one line of JSON.

import { Devices } from "../../src/capture/devices.ts";
import { PacketBatch } from "../../src/capture/packets.ts";
import { PacketSource } from "../../src/capture/source.ts";
import { Capture, type CaptureStats } from "../../src/ffi/libpcap.ts";

export interface DriverOptions {
  interface: string;
  filter?: string;
  bufferBytes?: number;
  dump?: string;
  /** Don't read until the input has ended. */
  idle?: boolean;
}

export interface DriverRow {
  timeNs: number;
  source: number[];
  destination: number[];
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  payloadBytes: number;
  flags: number;
  interfaceIndex: number;
  sight: number;
}

export interface DriverResult {
  baseSec: number;
  linkType: number;
  bufferBytes: number;
  warnings: readonly string[];
  rows: DriverRow[];
  /** Beyond the rows that are listed. */
  payloadTotal: number;
  packets: number;
  badPackets: number;
  notTcp: number;
  fragments: number;
  filtered: number;
  stats: CaptureStats;
  state: number;
  failure: string | null;
  failureCode: string | null;
  /** Interface indices that `Devices` calls inner, by name. */
  inner: string[];
  names: Record<number, string>;
}

const ROWS_LISTED = 20_000;

export function rowAt(batch: PacketBatch, i: number): DriverRow {
  return {
    timeNs: batch.timeNs[i],
    source: [...batch.source.slice(4 * i, 4 * i + 4)],
    destination: [...batch.destination.slice(4 * i, 4 * i + 4)],
    sourcePort: batch.sourcePort[i],
    destinationPort: batch.destinationPort[i],
    sequence: batch.sequence[i],
    acknowledgment: batch.acknowledgment[i],
    payloadBytes: batch.payloadBytes[i],
    flags: batch.flags[i],
    interfaceIndex: batch.interfaceIndex[i],
    sight: batch.sight[i],
  };
}

async function main(options: DriverOptions): Promise<void> {
  const capture = Capture.live({
    interface: options.interface,
    filter: options.filter ?? "tcp and not port 22",
    bufferBytes: options.bufferBytes ?? 16 << 20,
    timeoutMs: 10,
  });
  const baseSec = Math.floor(Date.now() / 1000);
  const source = new PacketSource(capture, baseSec);
  source.dump = options.dump === undefined ? null : capture.dumpTo(options.dump);
  const batch = new PacketBatch(1024);
  const rows: DriverRow[] = [];
  let payloadTotal = 0;
  let ending = false;
  void (async () => {
    for await (const _ of Bun.stdin.stream()) continue;
    ending = true;
  })();
  console.log("ready");

  let idleSince = Date.now();
  for (;;) {
    const count = options.idle === true && !ending ? 0 : source.read(batch, 1024);
    for (let i = 0; i < count; i++) {
      payloadTotal += batch.payloadBytes[i];
      if (rows.length < ROWS_LISTED) rows.push(rowAt(batch, i));
    }
    if (source.examined > 0 || !ending) idleSince = Date.now();
    if (ending && Date.now() - idleSince > 250) break;
    await Bun.sleep(source.examined > 0 ? 0 : 2);
  }
  source.dump?.close();
  const devices = new Devices();
  devices.refresh();
  const result: DriverResult = {
    baseSec,
    linkType: capture.linkType,
    bufferBytes: capture.bufferBytes,
    warnings: capture.warnings,
    rows,
    payloadTotal,
    packets: source.packets,
    badPackets: source.badPackets,
    notTcp: source.notTcp,
    fragments: source.fragments,
    filtered: source.filtered,
    stats: { ...capture.stats() },
    state: capture.state,
    failure: capture.failure?.message ?? null,
    failureCode: capture.failure?.code ?? null,
    inner: devices.list.filter((device) => devices.isInner(device.index)).map((d) => d.name),
    names: Object.fromEntries(devices.list.map((device) => [device.index, device.name])),
  };
  capture.close();
  console.log(JSON.stringify(result));
}

if (import.meta.main) {
  await main(JSON.parse(process.argv[2]) as DriverOptions);
  process.exit(0);
}
