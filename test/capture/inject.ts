// Sends frames with and without VLAN tags by a packet socket: `inject.ts DEVICE PORT…`. The n-th
// has the source port 40000 + n.

import { dlopen } from "bun:ffi";
import { readFileSync } from "node:fs";
import { ethernet, extension, ip4, ip6, tag, tcp, typed } from "./frames.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;

const [device, ...ports] = process.argv.slice(2);
const { symbols } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "buffer", "usize", "i32", "buffer", "u32"], returns: "i32" },
});

function frames(destinationPort: number): number[][] {
  const segment = (n: number) =>
    tcp({ sourcePort: 40_000 + n, destinationPort, payload: Array(100).fill(n) });
  const v4 = (n: number) => typed(0x0800, ip4(segment(n)));
  const v6 = (n: number) => typed(0x86dd, ip6(segment(n)));
  const hop = (n: number) => typed(0x86dd, ip6(extension(6, 1, segment(n)), 0));
  return [
    v4(0),
    tag(0x8100, 5, v4(1)),
    tag(0x8100, 5, v6(2)),
    tag(0x8100, 5, hop(3)),
    tag(0x88a8, 5, tag(0x8100, 6, v4(4))),
    tag(0x8100, 5, tag(0x8100, 6, v6(5))),
    hop(6),
    tag(0x88a8, 0x4005, v4(7)),
  ];
}

const socket = symbols.socket(AF_PACKET, SOCK_RAW, 0);
if (socket < 0) throw new Error("no packet socket");
// struct sockaddr_ll; the index by sysfs of this namespace (ip netns exec mounts it).
const address = new DataView(new ArrayBuffer(20));
address.setUint16(0, AF_PACKET, true);
address.setInt32(4, Number(readFileSync(`/sys/class/net/${device}/ifindex`, "utf8")), true);
for (const port of ports) {
  for (const rest of frames(Number(port))) {
    const frame = new Uint8Array(ethernet(rest));
    // To everybody: the receiver's address does not matter.
    frame.fill(0xff, 0, 6);
    const sent = symbols.sendto(socket, frame, frame.length, 0, address, 20);
    if (sent !== frame.length) throw new Error(`sent ${sent} of ${frame.length} bytes`);
  }
}
