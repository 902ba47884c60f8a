// The checks of `kqtime doctor`. Each tries the thing itself (opens the library, the capture, the
// memory, preloads into a program) and answers one line with what to do about it.

import { readFileSync, statSync } from "node:fs";
import { getSystemErrorMap } from "node:util";
import { KQTimeError } from "../errors.ts";
import { Capture, libpcapVersion } from "../ffi/libpcap.ts";
import { tryMemory } from "../ffi/memfd.ts";
import { interfaces, socketQueues } from "../ffi/netlink.ts";
import { MemberEncoder } from "../ffi/zlib.ts";
import { Constant } from "../ring/layout.ts";
import { nativeParts, ROOT } from "../session/paths.ts";

/** `missing`: measuring cannot work. `limited`: it works, without something that is named. */
export type Verdict = "ok" | "missing" | "limited";

export interface Check {
  readonly name: string;
  readonly verdict: Verdict;
  /** What was found, or what fails. */
  readonly finding: string;
  /** What to do about it; empty if nothing is to be done. */
  readonly remedy: string;
}

export const BUN_MINIMUM = "1.4.5";
/** The kernel's buffer that a measurement asks for by default. */
const CAPTURE_BUFFER_BYTES = 64 * 1024 * 1024;

function ok(name: string, finding: string): Check {
  return { name, verdict: "ok", finding, remedy: "" };
}

function missing(name: string, finding: string, remedy: string): Check {
  return { name, verdict: "missing", finding, remedy };
}

function limited(name: string, finding: string, remedy: string): Check {
  return { name, verdict: "limited", finding, remedy };
}

/** The first line of an error; those of kqtime say by themselves what to do. */
function words(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / (1024 * 1024))} MiB`;
}

export function checkSystem(): Check {
  const name = "system";
  const found = `${process.platform} ${process.arch}`;
  if (process.platform !== "linux") {
    return missing(
      name,
      `measuring needs Linux, this is ${found}`,
      "measure on a Linux machine; its recordings can be replayed and reported here",
    );
  }
  if (process.arch !== "x64" && process.arch !== "arm64") {
    return missing(name, found, "use a 64-bit x86 or ARM machine, where Bun runs");
  }
  return ok(name, found);
}

export function checkBun(): Check {
  const name = "Bun";
  // A pre-release ("1.5.0-canary.3") is in no range: its release decides.
  if (Bun.semver.order(Bun.version.split("-")[0]!, BUN_MINIMUM) >= 0) return ok(name, Bun.version);
  const remedy = `npm run setup in ${ROOT}, or \`bun upgrade\``;
  return missing(name, `${Bun.version}, older than ${BUN_MINIMUM}`, remedy);
}

export function checkLibpcap(): Check {
  const name = "libpcap";
  try {
    return ok(name, libpcapVersion().replace(/^libpcap version /, ""));
  } catch (error) {
    return missing(name, words(error), "");
  }
}

export function checkZlib(): Check {
  const name = "libz";
  const sample = new Uint8Array(new ArrayBuffer(64));
  try {
    const encoder = new MemberEncoder(sample.length, 1);
    const length = encoder.encode(sample, sample.length);
    encoder.close();
    if (length > 0) return ok(name, "compresses");
    return limited(name, "it does not compress: no .gz logs", "apt install zlib1g; dnf install zlib");
  } catch (error) {
    return limited(name, `no .gz logs: ${words(error)}`, "");
  }
}

/** Runs a program under the preload library, as `uid` if that is given; "" if it works. */
function tryPreload(preload: string, uid?: number, gid?: number): string {
  const asUser = uid === undefined || gid === undefined ? {} : { uid, gid };
  try {
    const child = Bun.spawnSync(["/bin/sh", "-c", ":"], {
      cwd: "/",
      env: { PATH: "/usr/bin:/bin", LD_PRELOAD: preload },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      ...asUser,
    });
    const said = child.stderr.toString().trim().split("\n")[0]!;
    if (said !== "") return said;
    const end = child.signalCode ?? child.exitCode;
    return end === 0 ? "" : `a program under it ends with ${end}`;
  } catch (error) {
    return words(error);
  }
}

export function checkNative(): Check {
  const name = "native build";
  let preload: string;
  try {
    ({ preload } = nativeParts({ build: false }));
  } catch (error) {
    const compiler = "it needs a C compiler: apt install gcc libc6-dev; dnf install gcc glibc-devel";
    return missing(name, words(error), compiler);
  }
  const failure = tryPreload(preload);
  if (failure !== "") return missing(name, failure, `${ROOT}/bin/kqtime setup`);
  // Under sudo the command runs as the user who called it, and must be able to read the library.
  const { SUDO_UID: uid, SUDO_GID: gid, SUDO_USER: user } = process.env;
  if (process.getuid?.() === 0 && uid !== undefined && gid !== undefined && uid !== "0") {
    const denied = tryPreload(preload, Number(uid), Number(gid));
    if (denied !== "") {
      const finding = `the user ${user ?? uid} cannot load it: ${denied}`;
      return missing(name, finding, `let ${user ?? uid} read ${ROOT}, or install kqtime elsewhere`);
    }
  }
  return ok(name, "the preload library loads");
}

/** How this user can get CAP_NET_RAW. */
function captureRemedy(): string {
  if (process.getuid?.() === 0) {
    return "this root has no CAP_NET_RAW (capabilities(7)); in a container: --cap-add=NET_RAW";
  }
  return "run it with sudo, or without root as shown below";
}

export function checkCapture(device: string): Check {
  const name = "CAP_NET_RAW";
  try {
    const capture = Capture.live({
      interface: device,
      filter: "tcp",
      bufferBytes: CAPTURE_BUFFER_BYTES,
      timeoutMs: 1,
    });
    const { warnings } = capture;
    capture.close();
    const warning = warnings[0];
    if (warning === undefined) return ok(name, `captures on ${device}`);
    const remedy = "free memory, or ask for a smaller buffer (--buffer)";
    return limited(name, `captures on ${device}, but ${warning}`, remedy);
  } catch (error) {
    if (!(error instanceof KQTimeError)) throw error;
    if (error.code === "E_LIBRARY") {
      return missing(name, "not tried without libpcap", "install libpcap");
    }
    if (error.code === "E_PCAP_PERMISSION") {
      return missing(name, `no permission to capture on ${device}`, captureRemedy());
    }
    return missing(name, words(error), "");
  }
}

/** Bytes of the ring of one process, its socket table included, as the preload library sizes it. */
export function ringBytes(slots: number): number {
  const { entriesMin, entriesMax, headerBytes, slotBytes, entryBytes } = Constant;
  const entries = Math.min(Math.max(slots / 4, entriesMin), entriesMax);
  return headerBytes + slots * slotBytes + entries * entryBytes;
}

export function checkMemory(): Check {
  const name = "ring memory";
  const bytes = ringBytes(Constant.slotsDefault);
  const what = `${mebibytes(bytes)} a process`;
  const failure = tryMemory(bytes);
  if (failure === null) return ok(name, `${what} can be had`);
  const text = getSystemErrorMap().get(-failure.errno)?.[1] ?? `errno ${failure.errno}`;
  return missing(
    name,
    `${what} cannot be had (${failure.op}: ${text})`,
    "raise the limit (cgroup memory.max; container --memory; ulimit -f), or use a smaller --ring",
  );
}

function inode(path: string): number | null {
  try {
    return statSync(path).ino;
  } catch {
    return null;
  }
}

export function checkNamespaces(): Check {
  const name = "namespaces";
  let self = "";
  try {
    self = readFileSync("/proc/self/stat", "latin1").split(" ")[0]!;
  } catch {
    // Answered below: without /proc there is no telling who lives.
  }
  if (self !== String(process.pid)) {
    const finding = "/proc does not show this pid namespace: the end of processes cannot be told";
    return missing(name, finding, "mount a /proc of its own (unshare --mount-proc)");
  }
  const own = inode("/proc/self/ns/net");
  const first = inode("/proc/1/ns/net");
  if (own === null) return limited(name, "the network namespace cannot be told", "mount /proc");
  const elsewhere = "programs in another network namespace are measured by a kqtime started in it";
  if (first !== null && first !== own) {
    return ok(name, `network namespace ${own}, not that of process 1 (${first}); ${elsewhere}`);
  }
  const which = first === own ? ", that of process 1" : "";
  return ok(name, `network namespace ${own}${which}; ${elsewhere} (ip netns exec NAME …)`);
}

export function checkNetlink(): Check {
  const name = "netlink";
  try {
    const devices = interfaces().length;
    const sockets = socketQueues().length;
    return ok(name, `${devices} interfaces, ${sockets} TCP sockets`);
  } catch (error) {
    const finding = `what is left in send queues at the end cannot be read: ${words(error)}`;
    return limited(name, finding, "load the kernel modules inet_diag and tcp_diag (modprobe tcp_diag)");
  }
}
