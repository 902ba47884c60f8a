// Installs the C API into a prefix, as the programs that are built against it expect it, and all of
// kqtime with it, so that this folder may go away:
//
//     include/kqtime.h          lib/libkqtime.so          lib/pkgconfig/kqtime.pc
//     bin/kqtime                lib/libkqtime-preload.so  lib/kqtime/ (what bin/kqtime runs)
//
// Every file is written beside its place and renamed, so that running programs keep what they have.
// What is made belongs to the owner of the folder that it is made in, also under sudo.

import {
  chmodSync, constants, copyFileSync, cpSync, existsSync, lchownSync, lstatSync, mkdirSync,
  readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/version.ts";

const ROOT = resolve(import.meta.dir, "..");
const USAGE = `usage: bun ${relative(process.cwd(), Bun.main)} --prefix DIR [--debug]`;

const HELP = `${USAGE}

Builds the C parts of kqtime and installs them, with kqtime itself and its Bun:

  DIR/bin/kqtime           the command line
  DIR/include/kqtime.h     DIR/lib/libkqtime.so     DIR/lib/pkgconfig/kqtime.pc
  DIR/lib/libkqtime-preload.so
  DIR/lib/kqtime           what bin/kqtime runs: this folder may go away

  --prefix DIR             for example /usr/local or ~/.local; made if it is not there
  --debug                  the API's library prints what it does to stderr (also KQTIME_DEBUG=1)
  --help

Exit codes: 0 installed, 1 anything else`;

/** What bin/kqtime needs, from the folder of the package, */
const PACKAGE = [
  "bin/kqtime", "bunfig.toml", "kqtime.ts", "LICENSE", "package.json", "src", "tsconfig.json",
];
/** and from where the C parts were built. */
const BUILT = ["kqtime-launch", "libkqtime-preload.so"];

class InstallError extends Error {}

interface Options {
  readonly prefix: string;
  readonly debug: boolean;
}

function parse(argv: readonly string[]): Options {
  let prefix: string | undefined;
  let debug = process.env["KQTIME_DEBUG"] === "1";
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === "--debug") debug = true;
    else if (word === "--prefix") prefix = argv[++i];
    else if (word.startsWith("--prefix=")) prefix = word.slice("--prefix=".length);
    else throw new InstallError(`unknown argument ${word}; ${USAGE}`);
  }
  if (prefix === undefined || prefix === "") throw new InstallError(USAGE);
  const full = resolve(prefix.replace(/^~(?=\/|$)/, homedir()));
  // ld.so(8): there is no escape in LD_PRELOAD; neither do CFLAGS survive a space.
  if (/[\s:]/.test(full)) {
    throw new InstallError(
      `LD_PRELOAD cannot name files in "${full}": choose a path without spaces and colons`,
    );
  }
  return { prefix: full, debug };
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Who owns what is made in a folder that may not be there yet; null: who makes it, or root. */
function ownerOf(folder: string): Owner | null {
  if (process.getuid?.() !== 0) return null;
  let at = folder;
  while (!existsSync(at)) at = dirname(at);
  const { uid, gid } = statSync(at);
  return uid === 0 ? null : { uid, gid };
}

class Installer {
  readonly installed: string[] = [];
  readonly #prefix: string;
  readonly #owner: Owner | null;
  readonly #temporary: string[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.#owner = ownerOf(prefix);
  }

  /** Makes a folder in the prefix, and those above it. */
  folder(name: string): string {
    const path = join(this.#prefix, name);
    if (!existsSync(path)) {
      const first = mkdirSync(path, { recursive: true });
      if (first !== undefined) give(first, this.#owner);
    }
    return path;
  }

  /** Puts something that `make` writes to the path that it is given into its place. */
  put(name: string, make: (path: string) => void): void {
    const path = join(this.folder(dirname(name)), name.slice(name.lastIndexOf("/") + 1));
    const beside = `${path}.new${process.pid}`;
    this.#temporary.push(beside);
    rmSync(beside, { recursive: true, force: true });
    make(beside);
    give(beside, this.#owner);
    if (existsSync(path) && statSync(path).isDirectory()) {
      const old = `${path}.old${process.pid}`;
      this.#temporary.push(old);
      renameSync(path, old);
    }
    renameSync(beside, path);
    this.installed.push(path);
  }

  file(name: string, from: string, mode: number): void {
    this.put(name, (path) => {
      copyFileSync(from, path, constants.COPYFILE_FICLONE);
      chmodSync(path, mode);
    });
  }

  /** Removes what is not in its place: an old version, or after a failure a new one. */
  clean(): void {
    for (const path of this.#temporary) rmSync(path, { recursive: true, force: true });
  }
}

/** Gives what is in a folder to its owner. */
function give(folder: string, owner: Owner | null): void {
  if (owner === null) return;
  lchownSync(folder, owner.uid, owner.gid);
  if (!lstatSync(folder).isDirectory()) return;
  for (const name of readdirSync(folder)) give(join(folder, name), owner);
}

/** Builds the C parts; returns their folder. */
function build(debug: boolean): string {
  const folder = process.env["KQTIME_BUILD_DIR"] ?? join(ROOT, debug ? "build/debug" : "build");
  const owner = ownerOf(folder);
  const built = Bun.spawnSync(["sh", join(ROOT, "tools", "build-native.sh")], {
    env: { ...process.env, KQTIME_BUILD_DIR: folder, KQTIME_DEBUG: debug ? "1" : "0" },
    stdout: "inherit",
    stderr: "inherit",
  });
  if (built.exitCode !== 0) throw new InstallError("the C parts could not be built");
  give(folder, owner);
  return folder;
}

/** What kqtime imports: where a package manager put it, in this folder or beside it. */
function findCac(): string {
  try {
    return dirname(fileURLToPath(import.meta.resolve("cac/package.json")));
  } catch {
    throw missing("cac");
  }
}

function missing(what: string): InstallError {
  const remedy = existsSync(join(ROOT, "tools", "setup.mjs"))
    ? `run \`npm run setup\` in ${ROOT}`
    : "install the kqtime package again";
  return new InstallError(`${what} is missing: ${remedy}`);
}

/** All that bin/kqtime needs, Bun included: found there first, also under sudo's short PATH. */
function copyPackage(to: string, built: string): void {
  const copy = (from: string, part: string): void => {
    if (!existsSync(from)) throw missing(from);
    mkdirSync(dirname(join(to, part)), { recursive: true });
    cpSync(from, join(to, part), { recursive: true, dereference: true });
  };
  for (const part of PACKAGE) copy(join(ROOT, part), part);
  copy(findCac(), join("node_modules", "cac"));
  for (const part of BUILT) copy(join(built, part), join("build", part));
  const bun = join(to, "node_modules", ".bin", "bun");
  mkdirSync(dirname(bun), { recursive: true });
  copyFileSync(process.execPath, bun, constants.COPYFILE_FICLONE);
  chmodSync(bun, 0o755);
  openToAll(to);
}

/** Like files that a package manager installs, whatever the umask. */
function openToAll(path: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return;
  chmodSync(path, stat.isDirectory() || (stat.mode & 0o100) !== 0 ? 0o755 : 0o644);
  if (!stat.isDirectory()) return;
  for (const name of readdirSync(path)) openToAll(join(path, name));
}

function pkgConfig(prefix: string): string {
  return `prefix=${prefix}
includedir=\${prefix}/include
libdir=\${prefix}/lib
# To be named in LD_PRELOAD when the program is started.
preload=\${libdir}/libkqtime-preload.so

Name: kqtime
Description: How long the bytes of chosen sockets wait in the Linux kernel
Version: ${VERSION}
Cflags: -I\${includedir}
Libs: -L\${libdir} -lkqtime
`;
}

function install({ prefix, debug }: Options): void {
  if (process.platform !== "linux") throw new InstallError("the C API is for Linux");
  const built = build(debug);
  const installer = new Installer(prefix);
  try {
    installer.put("lib/kqtime", (path) => copyPackage(path, built));
    installer.put("bin/kqtime", (path) => symlinkSync("../lib/kqtime/bin/kqtime", path));
    installer.file("include/kqtime.h", join(ROOT, "c", "kqtime.h"), 0o644);
    installer.file("lib/libkqtime.so", join(built, "libkqtime.so"), 0o755);
    installer.file("lib/libkqtime-preload.so", join(built, "libkqtime-preload.so"), 0o755);
    installer.put("lib/pkgconfig/kqtime.pc", (path) => {
      writeFileSync(path, pkgConfig(prefix), { mode: 0o644 });
      chmodSync(path, 0o644);
    });
  } finally {
    installer.clean();
  }
  console.log(`installed${debug ? " (debug build)" : ""}:
${installer.installed.map((path) => `  ${path}`).join("\n")}

build a program:  CFLAGS="-I${prefix}/include" LDFLAGS="-L${prefix}/lib" LIBS="-lkqtime" ./configure
and run it:       sudo LD_LIBRARY_PATH=${prefix}/lib LD_PRELOAD=${prefix}/lib/libkqtime-preload.so ./program`);
}

/** Returns the exit code. */
export function main(argv: readonly string[]): number {
  if (argv.includes("--help") || argv.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  try {
    install(parse(argv));
    return 0;
  } catch (error) {
    const { code, syscall, path } = error as NodeJS.ErrnoException;
    if (error instanceof InstallError) {
      console.error(`install-native: ${error.message}`);
    } else if (code !== undefined) {
      const remedy = code === "EACCES" || code === "EROFS" ? ": choose another --prefix, or use sudo" : "";
      console.error(`install-native: ${syscall ?? "install"} ${path ?? ""} failed (${code})${remedy}`);
    } else {
      throw error;
    }
    return 1;
  }
}
