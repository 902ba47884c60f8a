// Opens a shared library of the system on first use: an override from the environment, then an
// ordered list of sonames. Exists because Bun's `dlopen` of a bare name that the loader does not
// find falls back to the current folder (under sudo that would run whatever lies there) and names
// only that path in its error. So libc's own dlopen(3) goes first: it searches as every program
// does, and once it has loaded a soname, the second dlopen finds that very library by its name.

import { dlopen, type FFIFunction, type Library } from "bun:ffi";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { KQTimeError } from "../errors.ts";

type Symbols = Record<string, FFIFunction>;

export interface LibrarySource<Fns extends Symbols> {
  /** How users call it: `libpcap`. */
  readonly name: string;
  /** Environment variable that holds a path or soname to use instead: `KQTIME_LIBPCAP`. */
  readonly environment: string;
  /** Sonames, in the order in which they are tried. */
  readonly sonames: readonly string[];
  readonly symbols: Fns;
  /** The package that holds it. */
  readonly packages: { readonly apt: string; readonly dnf: string };
}

const RTLD_NOW = 2;
/** With a buffer and rings of the usual sizes; 2.4 million was enough at times. */
const ADDRESS_SPACE_KIB = 5_000_000;

const loaderSymbols = {
  /** const char *filename, int flags → void * */
  dlopen: { args: ["cstring", "i32"], returns: "ptr" },
  /** → char *, owned by libc */
  dlerror: { args: [], returns: "cstring" },
} as const;

let loader: Library<typeof loaderSymbols> | null | undefined;

/**
 * Binds symbols of a library that the loader finds, or has loaded.
 * @throws KQTimeError `E_LIBRARY` where Bun can call no library at all; else as `dlopen` does
 */
export function bind<const Fns extends Symbols>(soname: string, symbols: Fns): Library<Fns> {
  try {
    return dlopen(soname, symbols);
  } catch (error) {
    // Bun writes the code of each call itself, and says no more than that it cannot.
    if (!(error instanceof Error) || !error.message.includes("JIT")) throw error;
    const why = `Bun has no room for code of its own, and so can call no library${addressSpace()}`;
    throw new KQTimeError("E_LIBRARY", "dlopen", why, undefined, { cause: error });
  }
}

/** What to do about it, with the limit that this process has. */
function addressSpace(): string {
  const limits = readFileSync("/proc/self/limits", "latin1");
  const bytes = /^Max address space\s+(\d+)/m.exec(limits)?.[1];
  if (bytes === undefined) return ": unset BUN_JSC_useJIT, or a service's MemoryDenyWriteExecute=";
  return `: raise \`ulimit -v\` from ${Math.floor(Number(bytes) / 1024)} to ${ADDRESS_SPACE_KIB} or more`;
}

/** libc's loader, or null where libc has another name (musl): Bun's own search serves there. */
function systemLoader(): Library<typeof loaderSymbols> | null {
  if (loader === undefined) {
    try {
      loader = bind("libc.so.6", loaderSymbols);
    } catch (error) {
      if (error instanceof KQTimeError) throw error;
      loader = null;
    }
  }
  return loader;
}

/** What kept `name` from loading, or null if it is loaded now. */
function load(name: string): string | null {
  const system = systemLoader();
  if (system === null) return null;
  const handle = system.symbols.dlopen(name, RTLD_NOW);
  if (handle) return null;
  return system.symbols.dlerror() ?? `${name}: dlopen failed`;
}

/**
 * Opens a library and binds its symbols.
 * @throws KQTimeError `E_LIBRARY`, naming every path tried and the package to install.
 */
export function openLibrary<const Fns extends Symbols>(source: LibrarySource<Fns>): Library<Fns> {
  const override = process.env[source.environment];
  // A relative path of the user's is meant from the current folder; dlopen(3) would search the
  // system for one without a slash.
  const names = override
    ? [override.includes("/") ? resolve(override) : override]
    : source.sonames;
  const failures: string[] = [];
  let cause: unknown;
  for (const name of names) {
    const failure = load(name);
    if (failure !== null) {
      failures.push(failure);
      continue;
    }
    try {
      return bind(name, source.symbols);
    } catch (error) {
      cause = error;
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const how = override
    ? `${source.environment} names it; unset that to use the system's`
    : `install it (apt install ${source.packages.apt}, dnf install ${source.packages.dnf}) ` +
      `or set ${source.environment} to its path`;
  throw new KQTimeError(
    "E_LIBRARY",
    "dlopen",
    `${source.name} cannot be loaded (${failures.join("; ")}): ${how}`,
    undefined,
    { cause },
  );
}

/** libc's own functions. @throws KQTimeError `E_LIBRARY` */
export function openLibc<const Fns extends Symbols>(symbols: Fns): Library<Fns>["symbols"] {
  return openLibrary({
    name: "libc",
    environment: "KQTIME_LIBC",
    sonames: ["libc.so.6"],
    symbols,
    packages: { apt: "libc6", dnf: "glibc" },
  }).symbols;
}
