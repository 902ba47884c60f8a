// The package as a stranger gets it: packed, and installed into an empty folder, without a network.
// Its dependencies come from this checkout: those from npm as copies, and in Bun's place the Bun that
// runs the tests, under the same name.

import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../lib/kqtime.ts";
import type { Scope } from "../lib/process.ts";

interface PackReport {
  readonly filename: string;
  readonly files: readonly { readonly path: string; readonly mode: number }[];
}

export interface Packed {
  readonly tarball: string;
  /** Paths within the package, sorted. */
  readonly files: readonly string[];
}

/** Commands of npm that neither ask the network nor touch the user's own files. */
function npmEnvironment(scope: Scope): Record<string, string | undefined> {
  return {
    ...process.env,
    npm_config_cache: scope.path("npm-cache"),
    npm_config_userconfig: scope.path("npmrc"),
    npm_config_offline: "true",
    // Folders are linked to: some versions of npm 9 would copy them, without their links.
    npm_config_install_links: "false",
    npm_config_audit: "false",
    npm_config_fund: "false",
    npm_config_update_notifier: "false",
  };
}

export async function pack(scope: Scope): Promise<Packed> {
  const folder = scope.path("tarball");
  mkdirSync(folder);
  const words = ["npm", "pack", "--json", "--silent", "--pack-destination", folder];
  const { stdout } = await scope.run(words, { cwd: ROOT, env: npmEnvironment(scope) });
  const [report] = Object.values(JSON.parse(stdout) as Record<string, PackReport>);
  const [filename] = readdirSync(folder);
  return {
    tarball: join(folder, filename!),
    files: report!.files.map(({ path }) => path).sort(),
  };
}

/** A copy of an installed package that npm takes as it is: from a folder it would build it anew. */
function copyDependency(name: string, folder: string): string {
  const copy = join(folder, name);
  cpSync(join(ROOT, "node_modules", name), copy, { recursive: true });
  const path = join(copy, "package.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  delete manifest.scripts;
  delete manifest.devDependencies;
  writeFileSync(path, JSON.stringify(manifest));
  return copy;
}

/** Installs it into a new folder. Returns the folder; the package is in its node_modules. */
export async function install(scope: Scope, { tarball }: Packed): Promise<string> {
  const folder = scope.path("project");
  const local = scope.path("local");
  mkdirSync(folder);
  // npm links to them: they find each other where Node looks for packages.
  const copies: Record<string, string> = {};
  for (const name of ["cac", "hyparquet", "hyparquet-writer"]) {
    copies[name] = `file:${copyDependency(name, join(local, "node_modules"))}`;
  }
  // Pictures are not drawn here: what only they need is there by its name alone, without the packages
  // that it needs in turn.
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  for (const [name, version] of Object.entries(dependencies)) {
    if (name === "bun" || name in copies) continue;
    mkdirSync(join(local, name), { recursive: true });
    writeFileSync(join(local, name, "package.json"), JSON.stringify({ name, version }));
    copies[name] = `file:${join(local, name)}`;
  }
  const bun = join(local, "bun");
  mkdirSync(bun, { recursive: true });
  symlinkSync(process.execPath, join(bun, "bun"));
  const manifest = { name: "bun", version: Bun.version, bin: { bun: "bun" } };
  writeFileSync(join(bun, "package.json"), JSON.stringify(manifest));
  const project = {
    name: "project",
    private: true,
    type: "module",
    // In the versions that kqtime asks for, so that it finds its own in them. (`overrides` would say
    // more, but npm 9.2, that of Debian 12 and Ubuntu 24.04, takes none that are folders.)
    dependencies: { kqtime: `file:${tarball}`, bun: `file:${bun}`, ...copies },
  };
  writeFileSync(join(folder, "package.json"), JSON.stringify(project));
  await scope.run(["npm", "install", "--silent"], { cwd: folder, env: npmEnvironment(scope) });
  // The measured programs of another user pass through.
  chmodSync(folder, 0o755);
  return folder;
}
