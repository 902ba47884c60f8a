// kqtime as a command: its exit codes and errors, the signals that it passes on, what its target
// finds itself in, and its outputs as files.

import { expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fixture } from "../lib/fixtures.ts";
import { BARE, kqtime, ROOT } from "../lib/kqtime.ts";
import { expectError, loopback } from "../lib/loopback.ts";
import type { Node } from "../lib/network.ts";
import { withScope, type Exit, type Scope } from "../lib/process.ts";

function run(scope: Scope, node: Node, words: readonly string[], stdin?: string): Promise<Exit> {
  return kqtime(scope, ["run", "--quiet", ...words], {
    prefix: node.prefix, ...(stdin !== undefined && { stdin }),
  }).exit();
}

test.skipIf(BARE)("help and version need no privilege and no target", async () => {
  await withScope(async (scope) => {
    const help = await kqtime(scope, ["--help"]).success();
    expect(help.stdout).toMatch(/run/);
    expect(help.stdout).toMatch(/replay/);
    const version = await kqtime(scope, ["--version"]).success();
    const written = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version as string;
    expect(version.stdout).toBe(`kqtime ${written}\n`);
    const run = await kqtime(scope, ["run", "--help"]).success();
    expect(run.stdout).toContain("$ kqtime run [options] -- command [args…]");
    expect(run.stdout).toContain("Exit codes:");
    expect((await kqtime(scope, ["help", "run"]).success()).stdout).toBe(run.stdout);
    expect((await kqtime(scope, ["help"]).success()).stdout).toBe(help.stdout);
  });
});

test.skipIf(BARE)("a command line that is not understood is 2, but for run", async () => {
  await withScope(async (scope) => {
    const cases: [string[], RegExp][] = [
      [["no-such-command"], /no command "no-such-command"/],
      [["replay"], /<dir>/],
      [["replay", "a", "b"], /"b"/],
      [["demo", "--Such-Option"], /unknown option --Such-Option /],
      [["demo", "--seconds", "many"], /not "many"/],
      [["doctor", "-x"], /unknown option -x /],
    ];
    for (const [words, pattern] of cases) {
      expectError(await kqtime(scope, words).exit(), 2, pattern);
    }
  });
});

loopback("the command's exit code is kqtime's", async (node, scope) => {
  expect((await run(scope, node, ["--", "true"])).code).toBe(0);
  expect((await run(scope, node, ["--", "sh", "-c", "exit 37"])).code).toBe(37);
  expect((await run(scope, node, ["--", "sh", "-c", "kill -SEGV $$"])).code).toBe(139);
  expect((await run(scope, node, ["--", "sh", "-c", "kill -KILL $$"])).code).toBe(137);
});

loopback("a command that cannot be started", async (node, scope) => {
  expectError(await run(scope, node, ["--", "no-such-command-here"]), 127, /no-such-command-here/);
  const path = scope.path("not-executable");
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, 0o644);
  expectError(await run(scope, node, ["--", path]), 126, /not-executable/);
});

loopback("errors of kqtime itself are 125 and say what to do", async (node, scope) => {
  const cases: [string[], ...RegExp[]][] = [
    [["--"], /command/i],
    [["--interface", "nosuch0", "--", "true"], /nosuch0/, /\blo\b/],
    [["--filter", "tcp and and", "--", "true"], /tcp and and/],
    [["--log", "/nonexistent/folder/kq.log", "--", "true"], /nonexistent/],
    [["--such-option", "--", "true"], /such-?option/i],
    [["--ring", "many", "--", "true"], /ring/],
    [["--direction", "sideways", "--", "true"], /direction/],
    [["--user", "no-such-user", "--", "true"], /no-such-user/],
  ];
  const exits = await Promise.all(cases.map(([words]) => run(scope, node, words)));
  cases.forEach(([, ...patterns], i) => expectError(exits[i], 125, ...patterns));
});

loopback("without privilege it says which one is missing", async (node, scope) => {
  const exit = await scope.start(
    [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--", "true"],
    { prefix: [...node.prefix, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] },
  ).exit();
  expectError(exit, 125, /sudo|cap_net_raw/i);
});

loopback("bin/kqtime runs from any folder and with sudo's PATH", async (node, scope) => {
  const exit = await scope.start(
    [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--", "pwd"],
    { prefix: node.prefix, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } },
  ).success();
  expect(exit.stdout.trim()).toBe(scope.folder);
});

loopback("standard input and output are the target's own", async (node, scope) => {
  const exit = await run(scope, node, ["--", "cat"], "one\ntwo\n");
  expect(exit).toMatchObject({ code: 0, stdout: "one\ntwo\n", stderr: "" });
});

const SIGNALLED = `
import os, signal, sys, time
seen = []
def note(number, frame):
    seen.append(signal.Signals(number).name)
    # Two handlers may be inside of each other: print() is not for that.
    os.write(1, f"got {seen[-1]}\\n".encode())
for name in sys.argv[1:]: signal.signal(getattr(signal, name), note)
print("ready", flush=True)
# Not pause(): a signal that comes just before it would be seen with the next one only.
while len(seen) < len(sys.argv) - 1: time.sleep(0.02)
print("all", ",".join(seen), flush=True)
sys.exit(9)
`;

loopback("TERM, HUP, USR1 and USR2 reach the target, once each", async (node, scope) => {
  const signals = ["SIGUSR1", "SIGHUP", "SIGUSR2", "SIGTERM"] as const;
  const running = kqtime(
    scope, ["run", "--quiet", "--", "python3", "-c", SIGNALLED, ...signals], { prefix: node.prefix },
  );
  await running.says(/ready/);
  for (const signal of signals) {
    running.kill(signal);
    await running.says(new RegExp(`got ${signal}`));
  }
  const exit = await running.exit();
  expect(exit.stdout).toContain(`all ${signals.join(",")}`);
  expect(exit.code).toBe(9);
});

loopback("a signal that ends the target gives kqtime's exit code", async (node, scope) => {
  const running = kqtime(
    scope, ["run", "--quiet", "--", "sh", "-c", "echo ready; exec sleep 60"], { prefix: node.prefix },
  );
  await running.says(/ready/);
  running.kill("SIGTERM");
  expect((await running.exit()).code).toBe(143);
});

loopback("a signal that must not be sent to the target is told of", async (node, scope) => {
  const prefix = [...node.prefix, "setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill"];
  const nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
  const command = [...nobody, "sh", "-c", "echo ready $$; exec sleep 60"];
  const running = kqtime(scope, ["run", "--quiet", "--", ...command], { prefix });
  const [, pid] = await running.says(/ready (\d+)/);
  running.kill("SIGTERM");
  await running.says(new RegExp(`kqtime: SIGTERM cannot be passed on to process ${pid}, .*CAP_KILL`));
  process.kill(Number(pid), "SIGTERM");
  expect((await running.exit()).code).toBe(143);
});

// Runs a command on a terminal of its own, types Ctrl-C once the command is ready, and prints what
// it said and its exit code.
const TERMINAL = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
said, typed = b"", False
while True:
    try: data = os.read(terminal, 4096)
    except OSError: break
    if not data: break
    said += data
    if b"ready" in said and not typed:
        typed = True
        os.write(terminal, b"\\x03")
_, status = os.waitpid(pid, 0)
sys.stdout.write(said.decode(errors="replace"))
print("exit", os.waitstatus_to_exitcode(status))
`;

const INTERRUPTED = `
import signal, sys, time
count = 0
def note(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, note)
print("ready", flush=True)
while count == 0: time.sleep(0.01)
time.sleep(0.7)
print("interrupts", count, flush=True)
sys.exit(5)
`;

loopback("a Ctrl-C of the terminal reaches the target once", async (node, scope) => {
  const bun = join(ROOT, "node_modules", ".bin", "bun");
  const exit = await scope.start([
    "python3", "-c", TERMINAL, bun, "run", "kqtime", "run", "--quiet", "--",
    "python3", "-c", INTERRUPTED,
  ], { prefix: node.prefix, cwd: ROOT }).success();
  expect(exit.stdout).toContain("interrupts 1");
  expect(exit.stdout).toContain("exit 5");
});

// Types Ctrl-C once kqtime says that processes run on.
const LATE = TERMINAL.replace('b"ready" in said', 'b"Ctrl-C ends" in said');

loopback("a Ctrl-C after the command's end ends the measurement, not its daemons", async (node, scope) => {
  const pidFile = scope.path("pid");
  const daemon = `setsid sh -c 'echo $$ > ${pidFile}; exec sleep 50' > /dev/null 2>&1 & sleep 0.2; exit 3`;
  const started = performance.now();
  const exit = await scope.start([
    "python3", "-c", LATE, join(ROOT, "bin", "kqtime"), "run", "--quiet", "--drain", "0", "--",
    "sh", "-c", daemon,
  ], { prefix: node.prefix }).success();
  const pid = Number(readFileSync(pidFile, "utf8"));
  scope.finally(() => void process.kill(pid, "SIGKILL"));
  expect(exit.stdout).toContain("exit 3");
  expect(exit.stdout).toContain(`(pid ${pid}) runs on`);
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("sleep\n");
});

loopback("the exit code is the command's, whatever becomes of kqtime's own words", async (node, scope) => {
  const kq = join(ROOT, "bin", "kqtime");
  const words = `${kq} run -- sh -c 'exit 7'`;
  for (const command of [`${words} 2>/dev/full`, `(${words}; echo $? >&3) 2>&1 3>code | true; exit $(cat code)`]) {
    const exit = await scope.start(["bash", "-c", command], { prefix: node.prefix }).exit();
    expect(exit.code).toBe(7);
  }
});

loopback("values are taken as they are typed, flags any number of times", async (node, scope) => {
  const sessions = new Set<string>();
  for (const name of ["007", "1e3", "0x10"]) {
    const bin = [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--quiet"];
    const words = ["--log", name, `--json=${name}.0`, "--", "true"];
    const exit = await scope.start([...bin, ...words], { prefix: node.prefix }).success();
    expect(exit.stderr).toBe("");
    const log = readFileSync(scope.path(name), "utf8");
    expect(log).toMatch(/^KQTIME-META;[^\n]*,log_min_ns=0,log_sample=1,log_seed=0;NULL;\nKQTIME-LOSS;[^\n]*;NULL;\n$/);
    sessions.add(log.match(/,session=([1-9]\d*),/)![1]!);
    expect(JSON.parse(readFileSync(scope.path(`${name}.0`), "utf8")).target.exitCode).toBe(0);
  }
  expect(sessions.size).toBe(3);
});

loopback("outputs go into pipes, and behind what a file holds", async (node, scope) => {
  const flow = `${await fixture("flow")} pair --address ${node.v4} --port 7023 --conns 3 --total 60000 --size 300 --both`;
  const kq = `${join(ROOT, "bin", "kqtime")} run --quiet`;
  const script = `${kq} --log >(sleep 0.3; cat > log; echo > done) --json >(cat > json; echo > done2) -- ${flow} > /dev/null
    until [ -e done ] && [ -e done2 ]; do sleep 0.05; done`;
  const exit = await scope.start(["bash", "-c", script], { prefix: node.prefix }).success();
  expect(exit.stderr).toBe("");
  const summary = JSON.parse(readFileSync(scope.path("json"), "utf8"));
  expect(summary.losses.logLines).toBe(0);
  const calls = readFileSync(scope.path("log"), "utf8").split("\n").filter((line) => /^KQTIME-(OUT|IN)/.test(line));
  expect(calls).toHaveLength(summary.directions.out.calls + summary.directions.in.calls);
  await scope.start(
    ["bash", "-c", `${kq} --json /dev/stdout -- echo first > both`], { prefix: node.prefix },
  ).success();
  const both = readFileSync(scope.path("both"), "utf8");
  expect(both).toStartWith("first\n{");
  expect(both).toEndWith("}\n");
});

loopback("what cannot be written is named", async (node, scope) => {
  const exit = await run(scope, node, ["--json", "/dev/full", "--", "sh", "-c", "exit 4"]);
  expect(exit.code).toBe(4);
  expect(exit.stderr).toContain('the JSON summary "/dev/full" is incomplete: no space left');
});

loopback("a log on a full disk: said at once, and what was lost at the end, quiet or not", async (node, scope) => {
  const exit = await run(scope, node, [
    "--log", "/dev/full", "--", "python3", "-c",
    "import socket; l = socket.create_server(('127.0.0.1', 0)); " +
      "s = socket.create_connection(l.getsockname()); s.send(b'x'); l.accept()[0].recv(1)",
  ]);
  expect(exit.code).toBe(0);
  expect(exit.stderr).toMatch(/^kqtime: log "\/dev\/full" cannot be written: no space left .*$/m);
  expect(exit.stderr).toMatch(/^kqtime: \d+ lines of the log not written$/m);
});

loopback("under sudo, new files are the caller's, and old ones stay whose they were", async (node, scope) => {
  const [record, old] = [scope.path("deep/record"), scope.path("old.json")];
  writeFileSync(old, "{}");
  await kqtime(scope, ["run", "--quiet", "--record", record, "--json", old, "--", "true"], {
    prefix: node.prefix, env: { ...process.env, SUDO_UID: "1234", SUDO_GID: "5678" },
  }).success();
  for (const path of [scope.path("deep"), record, join(record, "events.kqt"), join(record, "headers.pcap")]) {
    const { uid, gid, mode } = statSync(path);
    expect([path, uid, gid, mode & 0o077]).toEqual([path, 1234, 5678, 0]);
  }
  expect(statSync(old).uid).toBe(0);
});

loopback("the target finds what it would have found without kqtime", async (node, scope) => {
  const look = `ulimit -Sn; ulimit -Hn; ls /proc/self/fd | wc -l
    grep -E '^(Sig(Blk|Ign|Cgt)|Groups|Uid|Cap)' /proc/self/status`;
  const command = ["bash", "-c", look];
  const plain = await scope.run(command, { prefix: [...node.prefix] });
  const measured = await run(scope, node, ["--", ...command]);
  expect(measured.stdout).toBe(plain.stdout);
});

loopback("LD_PRELOAD is added to, not replaced", async (node, scope) => {
  const libc = Bun.spawnSync(["sh", "-c", "ldconfig -p | awk '/libz.so.1 /{print $NF; exit}'"])
    .stdout.toString().trim();
  const exit = await kqtime(
    scope, ["run", "--quiet", "--", "sh", "-c", "echo $LD_PRELOAD"],
    { prefix: node.prefix, env: { ...process.env, LD_PRELOAD: libc } },
  ).success();
  expect(exit.stdout).toMatch(/libkqtime-preload\.so/);
  expect(exit.stdout).toContain(libc);
});

loopback("--user drops every privilege for good", async (node, scope) => {
  const look = `
import os
print(os.getresuid(), os.getresgid(), os.getgroups())
print(os.environ.get("HOME"), os.environ.get("USER"), os.environ.get("LOGNAME"))
print([l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))])
try:
    os.setuid(0)
    print("root again")
except PermissionError:
    print("no way back")
`;
  const exit = await run(scope, node, ["--user", "nobody", "--", "/usr/bin/python3", "-c", look]);
  expect(exit.stderr).toBe("");
  const id = (flag: string) => Bun.spawnSync(["id", flag, "nobody"]).stdout.toString().trim();
  const [uid, gid] = [id("-u"), id("-g")];
  const [ids, names, caps, back] = exit.stdout.split("\n");
  expect(ids).toBe(`(${uid}, ${uid}, ${uid}) (${gid}, ${gid}, ${gid}) [${gid}]`);
  expect(names).toMatch(/ nobody nobody$/);
  expect(caps.replace(/\W+/g, " ").trim()).toBe(Array(4).fill("0".repeat(16)).join(" "));
  expect(back).toBe("no way back");
});
