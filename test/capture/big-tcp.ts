// Super-packets beyond 64 KiB (BIG TCP) on the veth pair of a lab. By rtnetlink itself, because
// older versions of ip(8) do not know the limits for IPv4.

import { dlopen } from "bun:ffi";
import { readFileSync } from "node:fs";
import type { Lab } from "./lab.ts";

// linux/if_link.h
const IFLA_GSO_MAX_SIZE = 41;
const IFLA_GRO_MAX_SIZE = 58;
const IFLA_GSO_IPV4_MAX_SIZE = 63;
const IFLA_GRO_IPV4_MAX_SIZE = 64;
const ATTRIBUTES = [
  IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE,
];
const RTM_NEWLINK = 16;

/** Lets both ends send and receive packets of up to `bytes`. */
export function setBigTcp(lab: Lab, bytes: number): void {
  for (const [namespace, device] of [[lab.left, "va"], [lab.right, "vb"]]) {
    lab.in(namespace, process.execPath, import.meta.path, device, String(bytes));
    lab.in(namespace, "sysctl", "-qw", "net.ipv4.tcp_wmem=4096 4000000 16000000",
      "net.ipv4.tcp_rmem=4096 4000000 16000000", "net.ipv4.tcp_limit_output_bytes=8000000");
  }
}

if (import.meta.main) {
  const [device, bytes] = process.argv.slice(2);
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    send: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
    recv: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  });
  const request = new DataView(new ArrayBuffer(32 + ATTRIBUTES.length * 8));
  request.setUint32(0, request.byteLength, true);
  request.setUint16(4, RTM_NEWLINK, true);
  request.setUint16(6, 0x5, true); // NLM_F_REQUEST | NLM_F_ACK
  request.setInt32(20, Number(readFileSync(`/sys/class/net/${device}/ifindex`, "utf8")), true);
  ATTRIBUTES.forEach((attribute, i) => {
    request.setUint16(32 + i * 8, 8, true);
    request.setUint16(34 + i * 8, attribute, true);
    request.setUint32(36 + i * 8, Number(bytes), true);
  });
  const socket = symbols.socket(16, 3, 0);
  symbols.send(socket, request, request.byteLength, 0);
  const answer = new DataView(new ArrayBuffer(4096));
  symbols.recv(socket, answer, 4096, 0);
  const error = -answer.getInt32(16, true);
  if (error !== 0) throw new Error(`RTM_NEWLINK: errno ${error}`);
}
