// Whether a capture filter picks packets out of connections, as far as its text tells: by their length,
// bytes or direction. The handshakes of others bound what is missing; a socket that is older than the
// capture is only known by its packets.
//
// Source: pcap-filter(7).

const BY_PACKET = /\b(?:greater|less|len|inbound|outbound)\b|\[/;

export function picksPackets(filter: string): boolean {
  return BY_PACKET.test(filter);
}
