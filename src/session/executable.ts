// Looks at a command before it is started: LD_PRELOAD works on dynamically linked glibc programs
// that do not change privileges. See ld.so(8) (secure-execution mode) and elf(5).

import { accessSync, closeSync, constants, existsSync, openSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { ExitCode, KQTimeError } from "../errors.ts";
import { readAttribute } from "../ffi/libc.ts";

const PT_INTERP = 3;
const MACHINES: Record<string, number> = { x64: 62, arm64: 183 };
const MAX_INTERPRETERS = 4;
const S_ISUID = 0o4000;
/** Without the right to execute, the bit means something else (inode(7)). */
const SETGID = 0o2010;
const VFS_CAP_EFFECTIVE = 1;

/** Finds a command as execvp(3) does. @throws KQTimeError exit codes 126 and 127 */
export function findCommand(command: string, path = process.env.PATH ?? "/usr/bin:/bin"): string {
  const notFound = () =>
    new KQTimeError("E_NOT_FOUND", "exec", `${command}: command not found`, ExitCode.NotFound);
  if (command === "") {
    const why = "the command's name is empty: what is measured stands after `--`";
    throw new KQTimeError("E_NOT_FOUND", "exec", why, ExitCode.NotFound);
  }
  const candidates = command.includes("/")
    ? [command]
    : path.split(":").map((folder) => join(folder === "" ? "." : folder, command));
  let denied: string | null = null;
  for (const candidate of candidates) {
    try {
      const stat = statSync(candidate);
      if (stat.isDirectory()) {
        denied ??= command.includes("/") ? candidate : null;
        continue;
      }
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EACCES") denied ??= candidate;
    }
  }
  if (denied === null) throw notFound();
  const why = `${denied} cannot be run: permission denied`;
  throw new KQTimeError("E_CANNOT_RUN", "exec", why, ExitCode.CannotRun);
}

/** Whom a program will run as, and where its interpreters are looked for. */
export interface RunsAs {
  readonly uid: number;
  readonly gid: number;
  readonly path: string | undefined;
}

/** Why the preload library would have no effect on a program, or null if it has. */
export function whyUnmeasurable(file: string, as: RunsAs): string | null {
  let program = file;
  for (let n = 0; n < MAX_INTERPRETERS; n++) {
    const head = read(program);
    if (head === null) return null;
    if (head[0] !== 0x23 || head[1] !== 0x21) return whyNoPreload(program, head, as);
    const line = new TextDecoder("latin1").decode(head.subarray(2)).split("\n")[0]!.trim();
    const [interpreter = "", ...words] = line.split(/\s+/);
    program = interpreter;
    const behindEnv = interpreter.endsWith("/env") ? envCommand(words) : null;
    if (behindEnv === null) continue;
    try {
      program = findCommand(behindEnv, as.path);
    } catch {
      return null;
    }
  }
  return null;
}

/** The interpreter that a file needs and that is not there, in words; null if that is not what it lacks. */
export function whyNoInterpreter(file: string): string | null {
  const head = read(file);
  if (head === null) return null;
  if (head[0] === 0x23 && head[1] === 0x21) {
    // As the kernel reads it: a carriage return belongs to the name (binfmt_script.c).
    const [line = ""] = new TextDecoder("latin1").decode(head.subarray(2)).split("\n");
    const interpreter = line.replace(/^[ \t]+/, "").split(/[ \t]/)[0]!;
    if (existsSync(interpreter)) return null;
    if (interpreter.endsWith("\r")) {
      return `the first line of ${file} ends as in DOS (CR LF), so that its interpreter is not found: convert the file`;
    }
    return (
      `the interpreter "${interpreter}" in the first line of ${file} does not exist: install it, or ` +
      "correct that line"
    );
  }
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const loader = isProgram(head, view) ? findInterpreter(head, view) : null;
  if (loader === null || loader === "" || existsSync(loader)) return null;
  return `the loader "${loader}" of ${file} does not exist: install the libc that it is linked with`;
}

/** The command among the words that env(1) is given; null if there is none. */
function envCommand(words: string[]): string | null {
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!.replace(/^(-S|--split-string=)/, "");
    if (/^(-u|--unset|-C|--chdir)$/.test(word)) i++;
    else if (word !== "" && !word.startsWith("-") && !word.includes("=")) return word;
  }
  return null;
}

function whyNoPreload(program: string, head: Uint8Array, as: RunsAs): string | null {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (!isProgram(head, view)) return null;
  const machine = MACHINES[process.arch];
  if (head[4] !== 2 || (machine !== undefined && view.getUint16(18, true) !== machine)) {
    return `${program} is of another architecture than the preload library`;
  }
  const { mode, uid, gid } = statSync(program);
  const newUser = (mode & S_ISUID) !== 0 && uid !== as.uid;
  const newGroup = (mode & SETGID) === SETGID && gid !== as.gid;
  if (newUser || newGroup) {
    const what = newUser ? "setuid" : "setgid";
    return `${program} is a ${what} program, which ignores LD_PRELOAD: run it as its owner`;
  }
  if (as.uid !== 0 && hasCapabilities(program)) {
    return `${program} has file capabilities, with which it ignores LD_PRELOAD: run it as root`;
  }
  const interpreter = findInterpreter(head, view);
  if (interpreter === null) return `${program} is statically linked: LD_PRELOAD has no effect on it`;
  if (interpreter.includes("ld-musl")) {
    return `${program} is linked with musl, the preload library with glibc`;
  }
  return null;
}

/** An ELF file, with the whole of its first header. */
function isProgram(head: Uint8Array, view: DataView): boolean {
  return head.length >= 64 && view.getUint32(0, false) === 0x7f454c46;
}

/** Whether executing a file gives capabilities: struct vfs_cap_data of linux/capability.h. */
function hasCapabilities(program: string): boolean {
  const value = readAttribute(program, "security.capability");
  if (value === null || value.length < 12) return false;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const effective = (view.getUint32(0, true) & VFS_CAP_EFFECTIVE) !== 0;
  const permitted = view.getUint32(4, true) | (value.length >= 20 ? view.getUint32(12, true) : 0);
  return effective || permitted !== 0;
}

function findInterpreter(head: Uint8Array, view: DataView): string | null {
  const headersAt = Number(view.getBigUint64(32, true));
  const headerBytes = view.getUint16(54, true);
  const headers = view.getUint16(56, true);
  for (let i = 0; i < headers; i++) {
    const at = headersAt + i * headerBytes;
    if (at + 56 > head.length) return "";
    if (view.getUint32(at, true) !== PT_INTERP) continue;
    const nameAt = Number(view.getBigUint64(at + 8, true));
    const end = head.indexOf(0, nameAt);
    if (nameAt >= head.length || end < 0) return "";
    return new TextDecoder("latin1").decode(head.subarray(nameAt, end));
  }
  return null;
}

/** The first pages of a file, null if it cannot be read. */
function read(file: string): Uint8Array | null {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch {
    return null;
  }
  try {
    const bytes = new Uint8Array(new ArrayBuffer(16384));
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0));
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}
