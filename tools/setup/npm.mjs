// The npm packages, Bun among them, and the native build.

import { spawnSync } from "child_process";
import { existsSync, readdirSync, readFileSync, symlinkSync, unlinkSync } from "fs";
import { join } from "path";
import { childEnvironment, Failure, findProgram, requireWritable, root, run, say } from "./process.mjs";

/** Bun as this package runs it. */
export const bun = join(root, "node_modules", ".bin", "bun");

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (_) {
    return null;
  }
}

/** Whether a package of the lock file is for this kind of machine (npm leaves the others out). */
function isForHere(entry) {
  const allows = (list, value) => list === undefined || list.includes(value);
  const libc = process.platform === "linux" ? "glibc" : undefined;
  return (
    allows(entry.os, process.platform) &&
    allows(entry.cpu, process.arch) &&
    allows(entry.libc, libc)
  );
}

/** Names of the locked packages that node_modules lacks or has in another version. */
function stalePackages() {
  const lock = readJson(join(root, "package-lock.json"));
  if (lock === null) throw new Failure("package-lock.json is missing or damaged");
  const stale = [];
  for (const folder of Object.keys(lock.packages)) {
    const entry = lock.packages[folder];
    if (folder === "" || entry.link === true || !isForHere(entry)) continue;
    const installed = readJson(join(root, folder, "package.json"));
    if (installed === null || installed.version !== entry.version) {
      stale.push(`${folder.replace(/^.*node_modules\//, "")}@${entry.version}`);
    }
  }
  return stale;
}

function bunVersion(program) {
  const answer = spawnSync(program, ["--version"], { encoding: "utf8" });
  return answer.status === 0 ? answer.stdout.trim() : null;
}

/** Bun's own folder of binaries for this machine, where its postinstall script finds them. */
function vendoredBun() {
  const vendor = join(root, "node_modules", "@oven");
  for (const name of existsSync(vendor) ? readdirSync(vendor) : []) {
    const program = join(vendor, name, "bin", "bun");
    if (existsSync(program) && bunVersion(program) !== null) return program;
  }
  return null;
}

/**
 * npm may have been told to run no install scripts (`ignore-scripts`); Bun's package is then a
 * text that says so. Its script is run here, or its binary linked.
 */
async function repairBun() {
  if (bunVersion(bun) !== null) return;
  requireWritable();
  const script = join(root, "node_modules", "bun", "install.js");
  if (existsSync(script)) {
    say("Bun's install script was not run by npm: running it.");
    const cwd = join(root, "node_modules", "bun");
    spawnSync(process.execPath, [script], { stdio: "inherit", cwd });
    if (bunVersion(bun) !== null) return;
  }
  const vendored = vendoredBun();
  if (vendored === null) {
    throw new Failure(
      "Bun does not run here: `npm ci --ignore-scripts=false` may tell why " +
        "(kqtime needs Bun 1.4.5 or later)",
    );
  }
  try {
    unlinkSync(bun);
  } catch (_) {
    // There was no link.
  }
  symlinkSync(vendored, bun);
  if (bunVersion(bun) === null) throw new Failure(`${vendored} does not run`);
}

/** npm as it was started for this script, else the one on PATH. */
function npmCommand() {
  const started = process.env.npm_execpath;
  if (started !== undefined && /npm-cli\.js$/.test(started) && existsSync(started)) {
    return [process.execPath, started];
  }
  const found = findProgram("npm");
  if (found === null) throw new Failure("npm is not on PATH");
  return [found];
}

/** `npm ci` when the packages are missing or other than locked; then a Bun that runs. */
export async function installNodeModules() {
  const stale = stalePackages();
  if (stale.length > 0) {
    requireWritable();
    say(`installing into node_modules with npm: ${stale.join(" ")}`);
    const [program, ...first] = npmCommand();
    const environment = childEnvironment();
    // Under NODE_ENV=production npm would leave out what the tests need.
    const code = await run(program, [...first, "ci", "--include=dev"], environment);
    if (code !== 0) throw new Failure("npm ci failed", code);
  }
  await repairBun();
}

/** The preload library and the launcher; the script builds only what is older than its sources. */
export async function buildNative() {
  const code = await run("sh", [join(root, "tools", "build-native.sh")]);
  if (code !== 0) throw new Failure("building the C library failed", code);
}
