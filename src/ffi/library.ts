// Opens a shared library of the system on first use: an override from the environment, then an
// ordered list of sonames. Exists because Bun's `dlopen` of a bare name that the loader does not
// find falls back to the current folder (under sudo that would run whatever lies there) and names
// only that path in its error. So libc's own dlopen(3) goes first: it searches as every program
// does, and once it has loaded a soname, the second dlopen finds that very library by its name.

import { dlopen, type FFIFunction, type Library } from "bun:ffi";
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

const loaderSymbols = {
  /** const char *filename, int flags → void * */
  dlopen: { args: ["cstring", "i32"], returns: "ptr" },
  /** → char *, owned by libc */
  dlerror: { args: [], returns: "cstring" },
} as const;

let loader: Library<typeof loaderSymbols> | null | undefined;

/** libc's loader, or null where libc has another name (musl): Bun's own search serves there. */
function systemLoader(): Library<typeof loaderSymbols> | null {
  if (loader === undefined) {
    try {
      loader = dlopen("libc.so.6", loaderSymbols);
    } catch {
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
      return dlopen(name, source.symbols);
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
