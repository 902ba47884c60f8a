// Sockets named by their addresses, as programs write it: "port N NAME" for a local port, "peer
// ADDRESS PORT NAME" for a remote end.

import { isIP } from "node:net";
import type { Rule } from "../match/rules.ts";

/** Null if it is no such text. */
export function parseRule(text: string): Rule | null {
  const port = /^port (\d{1,5}) ([^]*)$/.exec(text);
  if (port !== null) {
    const localPort = Number(port[1]);
    return localPort > 65535 ? null : { localPort, remote: null, name: port[2]! };
  }
  const peer = /^peer (\S+) (\d{1,5}) ([^]*)$/.exec(text);
  if (peer === null) return null;
  const words = addressWords(peer[1]!);
  const remotePort = Number(peer[2]);
  if (words === null || remotePort > 65535) return null;
  return { localPort: -1, remote: { words, port: remotePort }, name: peer[3]! };
}

/** Four words in network order, IPv4 as IPv4-mapped IPv6; null if it is no address. */
export function addressWords(text: string): Uint32Array | null {
  // A zone (fe80::1%eth0) names no other address.
  const address = text.replace(/%.*$/, "");
  const kind = isIP(address);
  if (kind === 0) return null;
  // The URL parser (WHATWG) writes every IPv6 address as hexadecimal groups, the longest run of
  // zeros as "::".
  const host = new URL(`http://[${kind === 4 ? `::ffff:${address}` : address}]/`).hostname;
  const [head = "", tail] = host.slice(1, -1).split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((g) => parseInt(g, 16)));
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Uint32Array.from([0, 2, 4, 6], (i) => ((all[i]! << 16) | all[i + 1]!) >>> 0);
}
