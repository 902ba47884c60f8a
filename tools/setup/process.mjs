// Children, privileges and ownership: what the steps of the set-up share.

import { spawn, spawnSync } from "child_process";
import {
  accessSync,
  closeSync,
  constants,
  lchownSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from "fs";
import { constants as osConstants, tmpdir, userInfo } from "os";
import { dirname, join } from "path";
import { fileURLToPath } from "url";

/** The package's folder. */
export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export const isRoot = typeof process.getuid === "function" && process.getuid() === 0;

/** Ends the set-up with one line and an exit code; without a message the child has said it. */
export class Failure extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

export function say(line) {
  console.error(`setup: ${line}`);
}

// Programs of the system live in sbin, which a user's PATH often lacks.
const systemFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Full path of a program on PATH, in the system's folders or in `more`; null if there is none. */
export function findProgram(name, more = []) {
  const path = (process.env.PATH || "").split(":").filter((folder) => folder.startsWith("/"));
  for (const folder of [...path, ...systemFolders, ...more]) {
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch (_) {
      // Not here: the next folder.
    }
  }
  return null;
}

/**
 * The environment for children. npm before 9 runs scripts of a folder that root does not own as
 * the folder's owner, and leaves root's HOME and cache folder in the environment, where that user
 * cannot write.
 */
export function childEnvironment() {
  const environment = Object.assign({}, process.env);
  // The demo and the tests use programs of the system; and the tests, behind sudo's short PATH,
  // the node that runs the set-up.
  environment.PATH = [environment.PATH || "", ...systemFolders, dirname(process.execPath)].join(":");
  const home = environment.HOME || "";
  if (isRoot) return environment;
  let usable = false;
  try {
    usable = statSync(home).uid === process.getuid();
  } catch (_) {
    // Unset, missing or unreadable.
  }
  if (usable) return environment;
  let own;
  try {
    own = userInfo().homedir;
    accessSync(own, constants.W_OK);
  } catch (_) {
    own = mkdtempSync(join(tmpdir(), "kqtime-home-"));
  }
  environment.HOME = own;
  for (const key of Object.keys(environment)) {
    const foreign = home !== "" && environment[key].startsWith(`${home}/`);
    if (/^npm_config_(cache|userconfig|logs_dir)$/i.test(key) && foreign) delete environment[key];
  }
  return environment;
}

/**
 * Runs a command with this process's terminal; resolves to its exit code, 128 + n if signal n
 * ended it. A Ctrl-C reaches the child from the terminal itself; other signals are passed on.
 */
export function run(command, args, environment = childEnvironment()) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", cwd: root, env: environment });
    const ignore = () => {};
    const forward = (signal) => child.kill(signal);
    process.on("SIGINT", ignore);
    process.on("SIGQUIT", ignore);
    process.on("SIGTERM", forward);
    process.on("SIGHUP", forward);
    const done = () => {
      process.removeListener("SIGINT", ignore);
      process.removeListener("SIGQUIT", ignore);
      process.removeListener("SIGTERM", forward);
      process.removeListener("SIGHUP", forward);
    };
    child.on("error", (error) => {
      done();
      reject(new Failure(`${command} cannot be run: ${error.message}`));
    });
    child.on("exit", (code, signal) => {
      done();
      resolve(signal === null ? code : 128 + osConstants.signals[signal]);
    });
  });
}

/** With a node that is older than package.json asks for, npm leaves packages out. */
export function requireNode() {
  const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const oldest = parseInt(engines.node.replace(/^>=/, ""), 10);
  if (parseInt(process.versions.node, 10) >= oldest) return;
  const script = process.env.npm_lifecycle_event || "start";
  throw new Failure(
    `this is node ${process.versions.node}, kqtime's set-up needs ${oldest} or later; ` +
      `with one from npm: npx -y -p node@22 -p npm@10 npm run ${script}`,
  );
}

function hasTerminal() {
  try {
    closeSync(openSync("/dev/tty", "r+"));
    return true;
  } catch (_) {
    return false;
  }
}

/** Whether sudo is there and can be used: without a password, or with somebody to ask for it. */
export function sudoUsable() {
  const sudo = findProgram("sudo");
  if (sudo === null) return false;
  if (spawnSync(sudo, ["-n", "true"], { stdio: "ignore" }).status === 0) return true;
  return !process.env.CI && hasTerminal();
}

/** sudo clears the environment; these settings of the user still count behind it. */
const keptVariables = /^(CI|CC|DEBUG|NO_COLOR|FORCE_COLOR|TERM|KQTIME_\w+|(https?|ftp|no|all)_proxy)$/i;

/** Runs a command as root: itself when root, else by sudo. Only after `sudoUsable()`. */
export function runAsRoot(command, args) {
  if (isRoot) return run(command, args);
  const kept = Object.keys(process.env)
    .filter((key) => keptVariables.test(key))
    .map((key) => `${key}=${process.env[key]}`);
  return run(findProgram("sudo"), ["--", "env", ...kept, command, ...args]);
}

/** Whether npm (before version 9) has dropped root to this user, the owner of the folder. */
export function droppedByNpm() {
  if (isRoot) return false;
  // npm is the parent, or the parent of the shell that it runs scripts with.
  let pid = process.ppid;
  for (let generation = 0; generation < 2; generation++) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (/\bnpm\b/.test(words) && statSync(`/proc/${pid}`).uid === 0) return true;
      pid = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
    } catch (_) {
      return false;
    }
  }
  return false;
}

/** How a privileged step can be had where sudo cannot be used. */
export function privilegeAdvice() {
  return droppedByNpm() ? "npm has dropped root here; as root" : "as root";
}

/** Whether this user can make the demo's network in a user namespace of their own. */
export function canUnshare() {
  // Some systems (Ubuntu 24.04) give the namespace, but no rights in it: so something is made there.
  const link = ["ip", "link", "add", "kqt0", "type", "veth", "peer", "name", "kqt1"];
  const words = ["--user", "--map-root-user", "--net", "--mount", "--", ...link];
  return spawnSync("unshare", words, { stdio: "ignore", env: childEnvironment() }).status === 0;
}

/** Fails early, with one line, where npm and the compiler could not write. */
export function requireWritable() {
  try {
    accessSync(root, constants.W_OK);
  } catch (_) {
    let owner = "";
    try {
      owner = ` (uid ${statSync(root).uid})`;
    } catch (_error) {
      // Then the owner stays unnamed.
    }
    throw new Failure(`${root} cannot be written: run this as the owner of the folder${owner}`);
  }
}

/**
 * Root's set-up in a folder of another user leaves that user the owner of everything in it.
 * Does nothing unless this process is root and the folder is not.
 */
export function giveBack(folder) {
  if (!isRoot) return;
  const { uid, gid } = statSync(folder);
  if (uid === 0) return;
  const visit = (path) => {
    let status;
    try {
      status = lstatSync(path);
      if (status.uid === 0) lchownSync(path, uid, gid);
      if (!status.isDirectory()) return;
    } catch (_) {
      return; // Gone meanwhile.
    }
    for (const name of readdirSync(path)) visit(join(path, name));
  };
  for (const name of readdirSync(folder)) if (name !== ".git") visit(join(folder, name));
}
