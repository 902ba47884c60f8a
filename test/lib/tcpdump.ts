// The independent witness: tcpdump with nanosecond stamps on one device of a namespace. It is
// stopped only when it has written a marker datagram that was sent after everything that counts,
// so that no packet is lost between the kernel's buffer and the file.
//
// It does not use immediate mode: being woken for each packet delays the taps that come after it
// on the same packet (21 of 6,900 stamps of two witnesses were more than 20 µs apart, against 1 or
// 2 without). The kernel then hands over whole blocks of its buffer, or after a second what there
// is; so there are as many markers as fill a block.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Node } from "./network.ts";
import { until, type Running, type Scope } from "./process.ts";
import { readSavefile, type Seen } from "./pcap.ts";

const MARKER = "kqtime-end-of-capture";
const MARKER_PORT = 9;
// libpcap's blocks have 256 KiB, and a captured marker takes about 150 bytes.
const MARKERS = 2000;

export class Witness {
  private constructor(
    readonly path: string,
    private readonly program: Running,
    private readonly node: Node,
  ) {}

  /** Resolves when the capture is under way. */
  static async start(scope: Scope, node: Node, device = node.device): Promise<Witness> {
    const path = scope.path(`${node.name}-${device}-${witnesses++}.pcap`);
    const program = scope.start(
      [
        "tcpdump", "-i", device, "--time-stamp-precision=nano", "-s", "128", "-B", "131072",
        "-U", "-n", "-Z", "root", "-w", path, `tcp or ip6[6] == 0 or udp port ${MARKER_PORT}`,
      ],
      { prefix: node.prefix },
    );
    await program.says(/listening on/);
    return new Witness(path, program, node);
  }

  /** Sends the marker to `towards` from the node (or from another one), waits for it, and reads. */
  async finish(baseSec: number, towards: string, from: Node = this.node): Promise<Seen> {
    await mark(from, towards);
    await until("marker in the capture", () => endsWith(this.path, MARKER));
    const exit = await this.program.stop("SIGINT");
    const dropped = Number(exit.stderr.match(/(\d+) packets dropped by kernel/)?.[1] ?? NaN);
    if (dropped !== 0) throw new Error(`the witness itself lost packets: ${exit.stderr}`);
    return readSavefile(this.path, baseSec);
  }
}

let witnesses = 0;

async function mark(from: Node, towards: string): Promise<void> {
  const shell = `exec 3<>/dev/udp/${towards}/${MARKER_PORT} || exit 1
    for ((i = 0; i < ${MARKERS}; i++)); do printf ${MARKER} >&3; done 2>/dev/null; true`;
  const child = Bun.spawn([...from.prefix, "bash", "-c", shell], { stdout: "ignore", stderr: "pipe" });
  const error = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`the marker was not sent: ${error}`);
}

function endsWith(path: string, marker: string): boolean {
  const file = openSync(path, "r");
  try {
    const tail = Buffer.alloc(4096);
    const size = fstatSync(file).size;
    const length = readSync(file, tail, 0, tail.length, Math.max(0, size - tail.length));
    return tail.subarray(0, length).includes(marker);
  } finally {
    closeSync(file);
  }
}
