// What a measurement leaves to others: nobody else's eyes in its files and its session, no way from
// the command back to the rights of kqtime, no file reached through a link.

import { expect } from "bun:test";
import {
  existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { kqtime } from "../lib/kqtime.ts";
import { aboutKqtime } from "../lib/loopback.ts";

const SUDO = { SUDO_UID: "1234", SUDO_GID: "5678" };

function environment(more: Record<string, string>): Record<string, string> {
  return { ...process.env, ...more } as Record<string, string>;
}

/** All that is in a folder, with its own paths. */
function below(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
}

/** Calls enough for a few files of the log. */
const TALK = `
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
for i in range(2000):
    client.sendall(b"x" * 10)
    peer.recv(10, socket.MSG_WAITALL)
`;

for (const umask of ["0", "777"]) aboutKqtime(`with a umask of ${umask} every output is private, and under sudo the caller's`, async (node, scope) => {
  const folder = scope.path("out");
  mkdirSync(folder);
  const path = (name: string) => join(folder, name);
  const options = [
    "--log", path("a.log"), "--log-size", "64k", "--json", path("a.json"), "--record", path("deep/record"),
    "--interval", "0.25", "--interval-log", path("a.jsonl"),
  ];
  const anyone = [...node.prefix, "sh", "-c", `umask ${umask}; exec "$@"`, "sh"];
  await kqtime(scope, ["run", "--quiet", ...options, "--", "/usr/bin/python3", "-c", TALK], {
    prefix: anyone, env: environment(SUDO),
  }).success();
  const names = below(folder).map((each) => each.slice(folder.length + 1)).sort();
  for (const name of ["a.json", "a.jsonl", "a.log", "a.log.1", "deep", "deep/record/events.kqt"]) {
    expect(names).toContain(name);
  }
  for (const each of below(folder)) {
    const stat = statSync(each);
    const mode = stat.isDirectory() ? 0o700 : 0o600;
    expect([each, stat.mode & 0o7777, stat.uid, stat.gid]).toEqual([each, mode, 1234, 5678]);
  }
  const logs = kqtime(scope, ["plot", "-o", path("a.svg"), path("a.log")], { prefix: anyone });
  await logs.success();
  await kqtime(scope, ["export", "--parquet", path("a.parquet"), path("a.log")], { prefix: anyone }).success();
  for (const name of ["a.svg", "a.parquet"]) expect(statSync(path(name)).mode & 0o7777).toBe(0o600);
});

aboutKqtime("no output is written through a link", async (node, scope) => {
  const precious = scope.path("precious");
  mkdirSync(precious);
  writeFileSync(join(precious, "file"), "precious");
  const link = scope.path("link");
  symlinkSync(join(precious, "file"), link);
  const nowhere = scope.path("nowhere");
  symlinkSync(join(precious, "new"), nowhere);
  for (const path of [link, nowhere]) {
    for (const words of [["--log", path], ["--json", path], ["--interval", "1", "--interval-log", path]]) {
      const exit = await kqtime(scope, ["run", "--quiet", ...words, "--", "true"], { prefix: node.prefix }).exit();
      expect([words, exit.code]).toEqual([words, 125]);
      expect(exit.stderr).toMatch(/symbolic link, which is not followed/);
    }
  }
  const elsewhere = scope.path("elsewhere");
  symlinkSync(precious, elsewhere);
  const missing = scope.path("missing");
  symlinkSync(join(precious, "new"), missing);
  for (const path of [elsewhere, `${elsewhere}/`, missing]) {
    const refused = await kqtime(scope, ["run", "--quiet", "--record", path, "--", "true"], { prefix: node.prefix }).exit();
    expect([path, refused.code]).toEqual([path, 125]);
    expect(refused.stderr).toMatch(/symbolic link, which is not followed/);
  }
  const record = scope.path("record");
  mkdirSync(record);
  symlinkSync(join(precious, "new"), join(record, "events.kqt"));
  const exit = await kqtime(scope, ["run", "--quiet", "--record", record, "--", "true"], { prefix: node.prefix }).exit();
  expect(exit.code).toBe(125);
  expect(readdirSync(precious)).toEqual(["file"]);
  expect(readFileSync(join(precious, "file"), "utf8")).toBe("precious");
});

/** add_key(2) and keyctl(2); the session keyring is -3. */
const KEY_CALLS = `
import ctypes, os
NUMBERS = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
libc = ctypes.CDLL(None, use_errno=True)
`;
/** Runs its arguments with a session keyring that has a key. */
const WITH_KEY = `${KEY_CALLS}
import sys
libc.syscall(NUMBERS[1], 1, None)
libc.syscall(NUMBERS[0], b"user", b"kqtime-test", b"secret", 6, ctypes.c_int(-3))
os.execvp(sys.argv[1], sys.argv[1:])
`;
const PASSED = "+net_raw,+net_admin,+sys_ptrace,+setuid,+setgid";
/** What the command finds of its own rights, and of kqtime's. */
const LOOK = `
import json, os
own = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
# It may keep a file of its own open.
${KEY_CALLS}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
session = os.environ["KQTIME_SESSION"]
def denied(what):
    try:
        what()
        return False
    except PermissionError:
        return True
collector = int(session.split("/kqtime-")[1].split("-")[0])
print(json.dumps({
    "groups": os.getgroups(),
    "capabilities": [status["Cap" + name].strip() for name in ("Inh", "Prm", "Eff", "Amb")],
    "list": denied(lambda: os.listdir(os.path.dirname(session))),
    "remove": denied(lambda: os.unlink(session)),
    "create": denied(lambda: os.mkdir(os.path.dirname(session) + "/x")),
    "environment": denied(lambda: open(f"/proc/{collector}/environ").read()),
    "memory": denied(lambda: open(f"/proc/{collector}/mem", "rb")),
    "descriptors": denied(lambda: os.listdir(f"/proc/{collector}/fd")),
    "signal": denied(lambda: os.kill(collector, 0)),
    "trace": libc.ptrace(16, collector, 0, 0) == -1,
    "setgroups": denied(lambda: os.setgroups([0])),
    "key": libc.syscall(NUMBERS[1], 10, ctypes.c_int(-3), b"user", b"kqtime-test", 0) == -1,
    "raw": denied(lambda: __import__("socket").socket(17, 3, 0)),
    "own": own,
}))
`;

aboutKqtime("--user leaves nothing of kqtime's rights, even where they are to be inherited", async (node, scope) => {
  // Capabilities that pass an exec, groups besides, and "keep capabilities".
  const lavish = [
    ...node.prefix, "setpriv", `--inh-caps=${PASSED}`, `--ambient-caps=${PASSED}`, "--groups=0,4,27",
    "--securebits=+no_setuid_fixup", "--",
  ];
  for (const prefix of [[...node.prefix, "/usr/bin/python3", "-c", WITH_KEY], lavish]) {
    const words = ["run", "--quiet", "--user", "nobody", "--", "/usr/bin/python3", "-c", LOOK];
    const { stdout } = await kqtime(scope, words, { prefix }).success();
    const { groups, capabilities, own, ...denied } = JSON.parse(stdout) as Record<string, unknown>;
    expect(groups).toEqual([Number(Bun.spawnSync(["id", "-g", "nobody"]).stdout.toString())]);
    expect(capabilities).toEqual(Array(4).fill("0".repeat(16)));
    for (const [what, is] of Object.entries(denied)) expect([what, is]).toEqual([what, true]);
    // Standard streams, and the folder that is just being read.
    expect((own as number[]).length).toBe(4);
  }
});

aboutKqtime("--user root passes no capability on that was to be inherited", async (node, scope) => {
  const prefix = [...node.prefix, "setpriv", `--inh-caps=${PASSED}`, `--ambient-caps=${PASSED}`, "--"];
  const look = ["/usr/bin/grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status"];
  const words = (user: string[]) => ["run", "--quiet", ...user, "--", ...look];
  const none = "0".repeat(16);
  // Without --user it is as without kqtime.
  expect((await kqtime(scope, words([]), { prefix }).success()).stdout).not.toContain(none);
  const { stdout } = await kqtime(scope, words(["--user", "root"]), { prefix }).success();
  expect(stdout).toBe(`CapInh:\t${none}\nCapAmb:\t${none}\n`);
});

aboutKqtime("the session's folder is open to none but those who know its socket's name", async (node, scope) => {
  const look = 'umask; stat -c "%a %u" "$(dirname "$KQTIME_SESSION")" "$KQTIME_SESSION"';
  const command = ["sh", "-c", look];
  const prefix = [...node.prefix, "sh", "-c", 'umask 0; exec "$@"', "sh"];
  const { stdout } = await kqtime(scope, ["run", "--quiet", "--", ...command], { prefix }).success();
  expect(stdout.trim().split("\n")).toEqual(["0000", "711 0", "666 0"]);
});

aboutKqtime("no session stays behind, and no preloaded library in what kqtime starts for itself", async (node, scope) => {
  // What kqtime asks for the user, as a script that shows what is mapped into it.
  const bin = scope.path("bin");
  mkdirSync(bin);
  const helper = scope.path("helper");
  const getent = `#!/bin/sh\ncat /proc/self/maps /proc/$$/maps >> ${helper}\nexec /usr/bin/getent "$@"\n`;
  writeFileSync(join(bin, "getent"), getent, { mode: 0o755 });
  const source = scope.path("own.c");
  writeFileSync(source, "int kqtime_test_own;\n");
  const own = scope.path("libown.so");
  await scope.run(["cc", "-shared", "-fPIC", "-o", own, source]);
  const look = 'echo "$KQTIME_SESSION"; echo "$LD_PRELOAD"; cat /proc/$PPID/maps';
  const words = ["run", "--quiet", "--user", "root", "--", "sh", "-c", look];
  for (const preload of ["", own]) {
    const env = environment({ LD_PRELOAD: preload, PATH: `${bin}:${process.env["PATH"]}` });
    const started = kqtime(scope, words, { prefix: [...node.prefix, "env", `LD_PRELOAD=${preload}`], env });
    const [session, preloaded, ...maps] = (await started.success()).stdout.trim().split("\n");
    expect(existsSync(dirname(session!))).toBe(false);
    expect(preloaded).toMatch(preload === "" ? /libkqtime-preload\.so$/ : /libkqtime-preload\.so:.*libown\.so$/);
    const mapped = `${maps.join("\n")}\n${readFileSync(helper, "utf8")}`;
    expect(mapped).toContain("libc.so");
    expect(mapped).not.toContain("libkqtime-preload");
    // What its user chose for it stays: so the look sees what is preloaded.
    expect(mapped.includes("libown.so")).toBe(preload !== "");
  }
});

aboutKqtime("names that could command a terminal are shown harmless", async (_node, scope) => {
  const path = scope.path("\x1b[31mred\x07\u202e.log");
  writeFileSync(path, "no log\n");
  const exported = ["export", "--parquet", scope.path("x"), path];
  for (const words of [["report", path], ["parse", path], ["compare", path, path], exported]) {
    const { stdout, stderr } = await kqtime(scope, words).exit();
    expect(`${stdout}${stderr}`).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f\u202e]/);
    expect(stderr).toContain("_[31mred__.log");
  }
});
