// The steps of opening a capture that can go wrong in ways a user can mend, and what to say then.

import { fstatSync, readFileSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { interfaces } from "./netlink.ts";
import { LinkType } from "./pcap-filter.ts";
import {
  handleError,
  pcap,
  PCAP_ERROR_IFACE_NOT_UP,
  PCAP_ERROR_NO_SUCH_DEVICE,
  PCAP_ERROR_PERM_DENIED,
  PCAP_ERROR_PROMISC_PERM_DENIED,
} from "./pcap-symbols.ts";

const SUPPORTED: ReadonlySet<number> = new Set(Object.values(LinkType));

export function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 1 : 0);
}

export function unknownInterface(name: string): KQTimeError {
  const names = interfaces().map((device) => device.name);
  const text = `there is no interface '${name}'; there are: ${["any", ...names].join(", ")}`;
  return new KQTimeError("E_PCAP_INTERFACE", "pcap_activate", text);
}

/** Activates the handle; its warnings are added to `warnings`. */
export function activate(
  handle: Pointer,
  name: string,
  bufferBytes: number,
  warnings: string[],
): void {
  const symbols = pcap();
  const result = symbols.pcap_activate(handle);
  if (result === 0) return;
  const status = symbols.pcap_statustostr(result) ?? `status ${result}`;
  // The handle's own text is only set for some results, and then says more.
  const text = handleError(handle) || status;
  if (result > 0) {
    warnings.push(`${name}: ${text}`);
    return;
  }
  if (result === PCAP_ERROR_NO_SUCH_DEVICE) throw unknownInterface(name);
  if (result === PCAP_ERROR_PERM_DENIED || result === PCAP_ERROR_PROMISC_PERM_DENIED) {
    throw new KQTimeError(
      "E_PCAP_PERMISSION",
      "pcap_activate",
      `no permission to capture on ${name}: run it with sudo, or give the capability CAP_NET_RAW ` +
        "(ambient, or `setcap cap_net_raw+ep` on the bun binary)",
    );
  }
  if (result === PCAP_ERROR_IFACE_NOT_UP) {
    const message = `the interface ${name} is not up: ip link set dev ${name} up`;
    throw new KQTimeError("E_PCAP_INTERFACE", "pcap_activate", message);
  }
  if (/cannot allocate memory|out of memory|malloc/i.test(text)) {
    throw new KQTimeError(
      "E_PCAP_MEMORY",
      "pcap_activate",
      `no memory for a capture buffer of ${mebibytes(bufferBytes)} MiB: ask for a smaller one ` +
        `(${text})`,
    );
  }
  throw new KQTimeError("E_PCAP", "pcap_activate", `capture on ${name}: ${text}`);
}

/** Version 2 of the cooked header where version 1 is offered: only it has the interface index. */
export function chooseLinkType(handle: Pointer, name: string): number {
  const symbols = pcap();
  if (symbols.pcap_datalink(handle) === LinkType.LinuxCooked) {
    // libpcap before 1.10 does not know it, and version 1 stays.
    symbols.pcap_set_datalink(handle, LinkType.LinuxCooked2);
  }
  return checkLinkType(handle, name);
}

export function checkLinkType(handle: Pointer, name: string): number {
  const symbols = pcap();
  const linkType = symbols.pcap_datalink(handle);
  if (SUPPORTED.has(linkType)) return linkType;
  const known = symbols.pcap_datalink_val_to_name(linkType) ?? "unknown";
  throw new KQTimeError(
    "E_PCAP_LINKTYPE",
    "pcap_datalink",
    `${name} has link type ${linkType} (${known}), which cannot be decoded: ` +
      "capture on an Ethernet, tunnel or loopback device, or on 'any'",
  );
}

/**
 * The size of the ring that the kernel granted: libpcap asks for less and less until it gets
 * something, and does not say so. The mapping's name holds the socket's inode number.
 */
export function ringBytes(fd: number): number {
  try {
    const name = `socket:[${fstatSync(fd).ino}]`;
    let bytes = 0;
    for (const line of readFileSync("/proc/self/maps", "latin1").split("\n")) {
      if (!line.endsWith(name)) continue;
      const [from, to] = line.slice(0, line.indexOf(" ")).split("-");
      bytes += Number.parseInt(to, 16) - Number.parseInt(from, 16);
    }
    return bytes;
  } catch {
    return 0;
  }
}
