// Sockets of kinds that are seen and not measured, by their names.

const AF_INET = 2;
const AF_INET6 = 10;

/** Of AF_INET and AF_INET6, by protocol (in.h). */
const PROTOCOLS: Readonly<Record<number, keyof OtherSockets>> = {
  33: "DCCP",
  132: "SCTP",
  136: "UDP-Lite",
  262: "MPTCP",
};

/** By domain (socket.h). */
const DOMAINS: Readonly<Record<number, keyof OtherSockets>> = { 40: "vsock", 43: "SMC" };

/** How many of each kind. */
export type OtherSockets = {
  MPTCP: number;
  SCTP: number;
  DCCP: number;
  "UDP-Lite": number;
  SMC: number;
  vsock: number;
};

export const noOtherSockets = (): OtherSockets =>
  ({ MPTCP: 0, SCTP: 0, DCCP: 0, "UDP-Lite": 0, SMC: 0, vsock: 0 });

/** Counts one; false if there is no such kind. */
export function addOther(counts: OtherSockets, domain: number, protocol: number): boolean {
  const kind = domain === AF_INET || domain === AF_INET6 ? PROTOCOLS[protocol] : DOMAINS[domain];
  if (kind === undefined) return false;
  counts[kind]++;
  return true;
}
