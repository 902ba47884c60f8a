// The C side of libpcap: symbols, constants and the one error gate (pcap(3pcap) and its pages).
// Nothing but `libpcap.ts` and `pcap-filter.ts` imports this.

import type { Library, Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { bind, openLibrary } from "./library.ts";

/** pcap/pcap.h */
export const PCAP_ERRBUF_SIZE = 256;
export const PCAP_ERROR = -1;
export const PCAP_ERROR_BREAK = -2;
export const PCAP_ERROR_NO_SUCH_DEVICE = -5;
export const PCAP_ERROR_PERM_DENIED = -8;
export const PCAP_ERROR_IFACE_NOT_UP = -9;
export const PCAP_ERROR_PROMISC_PERM_DENIED = -11;
export const PCAP_TSTAMP_PRECISION_NANO = 1;
export const PCAP_NETMASK_UNKNOWN = 0xffffffff;
/** struct pcap_pkthdr where time_t has 64 bits: tv_sec i64, tv_usec i64 (ns here), caplen, len. */
export const PCAP_PKTHDR_BYTES = 24;
/** struct bpf_program: bf_len u32, 4 bytes of padding, bf_insns pointer. */
export const BPF_PROGRAM_BYTES = 16;

const pcapSymbols = {
  /** → const char *, static */
  pcap_lib_version: { args: [], returns: "cstring" },
  /** const char *source, char errbuf[256] → pcap_t * */
  pcap_create: { args: ["cstring", "buffer"], returns: "ptr" },
  /** pcap_t *, int */
  pcap_set_snaplen: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_promisc: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_timeout: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_immediate_mode: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_buffer_size: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_tstamp_precision: { args: ["ptr", "i32"], returns: "i32" },
  pcap_set_datalink: { args: ["ptr", "i32"], returns: "i32" },
  /** pcap_t * → 0, a warning > 0 or an error < 0 */
  pcap_activate: { args: ["ptr"], returns: "i32" },
  /** pcap_t *, int nonblock, char errbuf[256] */
  pcap_setnonblock: { args: ["ptr", "i32", "buffer"], returns: "i32" },
  /** const char *path, u_int precision, char errbuf[256] → pcap_t * */
  pcap_open_offline_with_tstamp_precision: { args: ["cstring", "u32", "buffer"], returns: "ptr" },
  /** int linktype, int snaplen → pcap_t * */
  pcap_open_dead: { args: ["i32", "i32"], returns: "ptr" },
  pcap_close: { args: ["ptr"], returns: "void" },
  pcap_datalink: { args: ["ptr"], returns: "i32" },
  /** int dlt → const char *, NULL if unknown */
  pcap_datalink_val_to_name: { args: ["i32"], returns: "cstring" },
  pcap_get_selectable_fd: { args: ["ptr"], returns: "i32" },
  /** pcap_t * → char *, in the handle */
  pcap_geterr: { args: ["ptr"], returns: "cstring" },
  /** int → const char *, static */
  pcap_statustostr: { args: ["i32"], returns: "cstring" },
  /** pcap_t *, struct pcap_pkthdr **, const u_char ** → 1 packet, 0 none, -1 error, -2 end */
  pcap_next_ex: { args: ["ptr", "buffer", "buffer"], returns: "i32" },
  /** pcap_t *, struct pcap_stat * (three u_int) */
  pcap_stats: { args: ["ptr", "buffer"], returns: "i32" },
  /** pcap_t *, struct bpf_program *, const char *, int optimize, bpf_u_int32 netmask */
  pcap_compile: { args: ["ptr", "buffer", "cstring", "i32", "u32"], returns: "i32" },
  /** pcap_t *, struct bpf_program * */
  pcap_setfilter: { args: ["ptr", "buffer"], returns: "i32" },
  /** struct bpf_program * */
  pcap_freecode: { args: ["buffer"], returns: "void" },
  /** const struct bpf_program *, const struct pcap_pkthdr *, const u_char * → 0: no match */
  pcap_offline_filter: { args: ["buffer", "buffer", "buffer"], returns: "i32" },
  /** pcap_t *, const char *path → pcap_dumper_t * */
  pcap_dump_open: { args: ["ptr", "cstring"], returns: "ptr" },
  /** u_char *dumper, const struct pcap_pkthdr *, const u_char * */
  pcap_dump: { args: ["ptr", "buffer", "buffer"], returns: "void" },
  /** pcap_dumper_t * → FILE * */
  pcap_dump_file: { args: ["ptr"], returns: "ptr" },
  pcap_dump_flush: { args: ["ptr"], returns: "i32" },
  pcap_dump_close: { args: ["ptr"], returns: "void" },
} as const;

const libcSymbols = {
  /** void *to, const void *from, size_t: copies a packet out of libpcap's memory */
  memcpy: { args: ["buffer", "ptr", "usize"], returns: "void" },
  /** FILE * → not 0 if a write to it has failed: pcap_dump does not say so */
  ferror: { args: ["ptr"], returns: "i32" },
} as const;

export type Pcap = Library<typeof pcapSymbols>["symbols"] &
  Library<typeof libcSymbols>["symbols"];

let loaded: Pcap | null = null;

/**
 * libpcap, loaded on first use.
 * @throws KQTimeError `E_LIBRARY`
 */
export function pcap(): Pcap {
  if (loaded !== null) return loaded;
  const library = openLibrary({
    name: "libpcap",
    environment: "KQTIME_LIBPCAP",
    // Debian and Ubuntu kept the old soname, the others have libpcap's own.
    sonames: ["libpcap.so.0.8", "libpcap.so.1"],
    symbols: pcapSymbols,
    packages: { apt: "libpcap0.8", dnf: "libpcap" },
  });
  const libc = bind("libc.so.6", libcSymbols);
  loaded = { ...library.symbols, ...libc.symbols };
  return loaded;
}

/** The text of a C error buffer. */
export function errorText(buffer: Uint8Array): string {
  const end = buffer.indexOf(0);
  return new TextDecoder().decode(buffer.subarray(0, end < 0 ? buffer.length : end));
}

/** A handle's last error in libpcap's words. */
export function handleError(handle: Pointer): string {
  return pcap().pcap_geterr(handle) ?? "unknown error";
}

/** Throws unless `result` is 0: the gate of every setup call. */
export function unwrap(handle: Pointer, op: string, result: number): void {
  if (result === 0) return;
  const text = handleError(handle) || (pcap().pcap_statustostr(result) ?? `error ${result}`);
  throw new KQTimeError("E_PCAP", op, `${op}: ${text}`);
}
