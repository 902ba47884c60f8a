// What the kernel tells of a socket, and under which key the log has it.

/** Numbers of a socket; what an old kernel does not tell is -1. */
export const SocketField = {
  /** SO_SNDBUF and SO_RCVBUF, bytes as the kernel counts them (twice what was asked for). */
  sendBufferBytes: 0,
  receiveBufferBytes: 1,
  /** Written and not acknowledged, as SIOCOUTQ tells; of these, not sent yet. */
  sendQueueBytes: 2,
  unsentBytes: 3,
  /** Arrived in order and not read, as SIOCINQ tells. */
  receiveQueueBytes: 4,
  /** Smoothed round-trip time, its mean deviation, and the least one, µs. */
  rttUs: 5,
  rttvarUs: 6,
  minRttUs: 7,
  /** Segment size, bytes; congestion window, segments. */
  mssBytes: 8,
  cwndSegments: 9,
  /** The goodput that the sender has measured last, bytes a second. */
  deliveryBytesPerSec: 10,
  /** Of the connection's life: with data to send; of that, held up by the peer's window, by SO_SNDBUF; µs. */
  busyUs: 11,
  receiveWindowLimitedUs: 12,
  sendBufferLimitedUs: 13,
  /** Segments sent again since the connection began. */
  retransmittedSegments: 14,
  count: 15,
} as const;

/** Keys of a socket's group in a KQTIME-STATS line, in the order of `SocketField`. */
export const SOCKET_KEYS = [
  "snd_sz",
  "rcv_sz",
  "snd_len",
  "unsent",
  "rcv_len",
  "rtt_us",
  "rttvar_us",
  "min_rtt_us",
  "mss",
  "cwnd",
  "delivery_Bps",
  "busy_us",
  "rwnd_limited_us",
  "sndbuf_limited_us",
  "retrans",
] as const;
