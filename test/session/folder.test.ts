// The session's folder, in a place where others may write as well: who may do what there, and what
// becomes of things that were put there instead.

import { afterEach, expect, test } from "bun:test";
import {
  chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync,
  statSync, symlinkSync, utimesSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { SessionFolder } from "../../src/session/folder.ts";
import { ROOT } from "../lib/kqtime.ts";
import { isRoot, lacks, reason, testUnless } from "../lib/requires.ts";

/** The kernel gives no such pid. */
const NOBODY_PID = (1 << 22) + 1;
const made: string[] = [];
let names = 0;

/** Where sessions are, and something precious elsewhere. */
function places(): { base: string; precious: string; file: string } {
  const session = SessionFolder.make();
  session.close();
  const precious = mkdtempSync(join(tmpdir(), "kqtime-precious-"));
  const file = join(precious, "file");
  writeFileSync(file, "precious");
  made.push(precious);
  return { base: dirname(session.path), precious, file };
}

/** A folder's name that a dead collector could have had. */
function leftOver(base: string, pid = NOBODY_PID): string {
  const own = process.pid.toString(36).padStart(4, "0").slice(-4);
  const path = join(base, `kqtime-${pid}-${own}${String(names++).padStart(2, "0")}`);
  made.push(path);
  return path;
}

afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});

test("only its user can look into the folder, and the socket's name is a secret", () => {
  const umask = process.umask(0);
  const [one, other] = [SessionFolder.make(), SessionFolder.make()];
  process.umask(umask);
  try {
    const stat = statSync(one.path);
    expect([stat.mode & 0o7777, stat.uid]).toEqual([0o711, process.getuid!()]);
    expect(basename(one.socket)).toMatch(/^[0-9a-f]{24}$/);
    expect(one.token).toMatch(/^[0-9a-f]{32}$/);
    expect(new Set([one, other].flatMap(({ socket, token }) => [basename(socket), token])).size).toBe(4);
  } finally {
    one.close();
    other.close();
  }
  expect(existsSync(one.path)).toBe(false);
});

const REPLACEMENTS: Record<string, (path: string, file: string) => void> = {
  nothing: () => {},
  "a folder with a file": (path, file) => {
    mkdirSync(path);
    writeFileSync(join(path, "x"), readFileSync(file));
  },
  "a link to a file": (path, file) => symlinkSync(file, path),
  "a link to a folder": (path, file) => symlinkSync(dirname(file), path),
  "a link to itself": (path) => symlinkSync(basename(path), path),
  "a pipe": (path) => void Bun.spawnSync(["mkfifo", path]),
};

for (const [what, put] of Object.entries(REPLACEMENTS)) {
  test(`a socket that was replaced by ${what} lets a session end, and nothing else is touched`, () => {
    const { precious, file } = places();
    const session = SessionFolder.make();
    made.push(session.path);
    rmSync(session.socket);
    put(session.socket, file);
    session.close();
    expect(readFileSync(file, "utf8")).toBe("precious");
    expect(statSync(precious).isDirectory()).toBe(true);
  });
}

test("a folder that was replaced by a link lets a session end, and nothing else is touched", () => {
  const { precious, file } = places();
  const session = SessionFolder.make();
  const moved = `${session.path}-moved`;
  made.push(moved, session.path);
  const namesake = join(precious, basename(session.socket));
  writeFileSync(namesake, "precious");
  renameSync(session.path, moved);
  symlinkSync(precious, session.path);
  session.close();
  for (const each of [file, namesake]) expect(readFileSync(each, "utf8")).toBe("precious");
  // The socket itself is gone, wherever its folder went.
  expect(readdirSync(moved)).toEqual([]);
});

test("a folder that was put in the place of a session's is not removed, nor what is in it", () => {
  const session = SessionFolder.make();
  const moved = `${session.path}-moved`;
  made.push(moved, session.path);
  renameSync(session.path, moved);
  mkdirSync(session.path);
  session.close();
  expect(existsSync(session.path)).toBe(true);
});

test("what dead collectors left is removed; links of such a name are not followed", () => {
  const { base, file, precious } = places();
  const [dead, link] = [leftOver(base), leftOver(base)];
  mkdirSync(dead);
  writeFileSync(join(dead, "socket"), "");
  symlinkSync(precious, link);
  SessionFolder.make().close();
  expect(existsSync(dead)).toBe(false);
  expect(readFileSync(file, "utf8")).toBe("precious");
});

test("what a killed collector left is removed, even if its pid is in use again", () => {
  const { base } = places();
  const running = SessionFolder.make();
  const [same, other, starting] = [process.pid, process.ppid, process.ppid].map((pid) => leftOver(base, pid));
  for (const path of [same!, other!, starting!]) mkdirSync(path);
  writeFileSync(join(other!, "socket"), "");
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(other!, longAgo, longAgo);
  try {
    SessionFolder.make().close();
    expect([same!, other!, starting!].map(existsSync)).toEqual([false, false, true]);
    expect(existsSync(running.socket)).toBe(true);
  } finally {
    running.close();
  }
});

const PLACE = `
import { dirname } from "node:path";
import { SessionFolder } from "${join(ROOT, "src/session/folder.ts")}";
const folder = SessionFolder.make();
folder.close();
console.log(dirname(folder.path));
`;

testUnless(
  reason(!isRoot && "needs root", lacks("setpriv")),
  "a user's sessions are in the runtime folder, if that is the user's, else where all may write",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "kqtime-runtime-"));
    made.push(folder);
    chmodSync(folder, 0o755);
    const own = join(folder, "own");
    mkdirSync(own, { mode: 0o700 });
    chownSync(own, 65534, 65534);
    const user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, "-e", PLACE];
    const place = (runtime: string) => {
      const env = { PATH: process.env["PATH"], XDG_RUNTIME_DIR: runtime };
      const { stdout, stderr } = Bun.spawnSync(user, { cwd: own, env });
      return `${stderr}${stdout}`.trim();
    };
    expect(place(own)).toBe(own);
    for (const unfit of ["", ".", "../own", folder, join(own, "missing"), process.execPath]) {
      expect([unfit, place(unfit)]).toEqual([unfit, "/tmp"]);
    }
    expect(readdirSync(own)).toEqual([]);
  },
);

testUnless(reason(!isRoot && "needs root"), "another user's folder of such a name is left alone", () => {
  const { base } = places();
  const other = leftOver(base);
  mkdirSync(other);
  writeFileSync(join(other, "socket"), "");
  chownSync(other, 65534, 65534);
  SessionFolder.make().close();
  expect(existsSync(join(other, "socket"))).toBe(true);
});

test("a session is not made again through a link, nor elsewhere", () => {
  const { base, precious, file } = places();
  const link = leftOver(base);
  symlinkSync(precious, link);
  const name = "0123456789abcdef01234567";
  const token = "0".repeat(32);
  expect(SessionFolder.again(join(link, name), token)).toBeNull();
  expect(SessionFolder.again(join(precious, name), token)).toBeNull();
  expect(SessionFolder.again(join(leftOver(base), "../../etc/passwd"), token)).toBeNull();
  expect(SessionFolder.again(file, token)).toBeNull();
  // The pipe has its name from the token, which is the process's own word as well.
  const reached = join("/tmp", `kq${String(process.pid).padStart(12, "0")}`);
  writeFileSync(reached, "precious");
  made.push(reached);
  const climbing = `../../tmp/${basename(reached)}`.padEnd(32, "0");
  expect(SessionFolder.again(join(leftOver(base), name), climbing)).toBeNull();
  expect(readFileSync(reached, "utf8")).toBe("precious");
  expect(readFileSync(file, "utf8")).toBe("precious");
});
