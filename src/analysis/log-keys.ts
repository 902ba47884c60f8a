// Keys and kinds of a log's lines as the words that the scanner compares: it makes no strings.

/**
 * A key in two words: its first four characters, and of the others the last four. With the length
 * that is the whole of a key of up to eight, and tells the longer ones from each other.
 */
function head(key: string): number {
  return word(key.slice(0, 4));
}
function tail(key: string): number {
  return word(key.slice(4));
}
function word(text: string): number {
  let packed = 0;
  for (let i = 0; i < text.length; i++) packed = (packed << 8) | text.charCodeAt(i);
  return packed;
}

export const START = head("start");
export const START_TAIL = tail("start");
export const END = head("end");
export const FD = head("fd");
export const BYTES = head("bytes");
export const BYTES_TAIL = tail("bytes");
export const FIRST = head("first");
export const FIRST_TAIL = tail("first");
export const INORDER = head("inorder");
export const INORDER_TAIL = tail("inorder");
export const OFF = head("off");
export const PID = head("pid");
export const SOCK = head("sock");
export const LPORT = head("lport");
export const LPORT_TAIL = tail("lport");
export const RPORT = head("rport");
export const RPORT_TAIL = tail("rport");
export const DIR = head("dir");
export const REASON = head("reason");
export const REASON_TAIL = tail("reason");
export const SND = head("snd_len");
export const RCV = head("rcv_len");
export const LEN_TAIL = tail("snd_len");
export const SIZE_TAIL = tail("snd_sz");
export const UNSENT = head("unsent");
export const UNSENT_TAIL = tail("unsent");
export const RTT = head("rtt_us");
export const RTT_TAIL = tail("rtt_us");
export const RTTVAR = head("rttvar_us");
export const RTTVAR_TAIL = word("r_us");
export const MIN_RTT = head("min_rtt_us");
export const MIN_RTT_TAIL = word("t_us");
export const MSS = head("mss");
export const BUSY = head("busy_us");
export const BUSY_TAIL = tail("busy_us");
export const RWND = head("rwnd_limited_us");
export const SNDBUF = head("sndbuf_limited_us");
export const LIMITED_TAIL = word("d_us");
export const CWND = head("cwnd");
export const RETRANS = head("retrans");
export const RETRANS_TAIL = tail("retrans");
export const DELIVERY = head("delivery_Bps");
export const DELIVERY_TAIL = word("_Bps");
export const AGE_TAIL = word("e_ns");
/** The longest key that is looked at. */
export const KEY_MOST = 17;
export const AGE_LENGTH = "snd_age_ns".length;
/** `KQTI`, `ME-O` … of the kinds. */
export const KQTI = word("KQTI");
export const KQLE = word("KQLE");
export const ME_OUT = word("ME-O");
export const ME_IN = word("ME-I");
export const ME_MISS = word("ME-M");
export const ME_STATS = word("ME-S");
export const ME_BOOKS = word("ME-B");
export const ME_LOSS = word("ME-L");
/** Whole beginnings of those that are read as text. */
export const BOOKS = "KQTIME-BOOKS;";
export const LOSS = "KQTIME-LOSS;";
export const META = "KQTIME-META;";
