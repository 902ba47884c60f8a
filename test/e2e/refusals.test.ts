// What cannot be measured is not started, and the one line that says so names the remedy; what
// shows only later is warned of in the summary.

import { expect } from "bun:test";
import { chmodSync, chownSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { kqtime, ROOT, type Summary } from "../lib/kqtime.ts";
import { aboutKqtime } from "../lib/loopback.ts";
import type { Node } from "../lib/network.ts";
import type { Exit, Scope } from "../lib/process.ts";

const NOBODY = 65534;
/** Says that it ran, so that a test sees whether the target was started. */
const SOURCE = `#include <stdio.h>\nint main(void) { puts("started"); return 7; }\n`;

function run(
  scope: Scope,
  node: Node,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<Exit> {
  return kqtime(scope, ["run", "--quiet", ...words], {
    prefix: node.prefix,
    env: { ...process.env, ...env } as Record<string, string>,
  }).exit();
}

async function compile(scope: Scope, name: string, flags: readonly string[]): Promise<string> {
  const source = scope.path(`${name}.c`);
  writeFileSync(source, SOURCE);
  const program = scope.path(name);
  await scope.start(["cc", ...flags, source, "-o", program]).success();
  return program;
}

function expectRefusal(exit: Exit, ...patterns: RegExp[]): void {
  expect(exit).toMatchObject({ code: 125, stdout: "" });
  for (const pattern of patterns) expect(exit.stderr).toMatch(pattern);
  expect(exit.stderr.trim().split("\n")).toHaveLength(1);
}

async function warningsOf(scope: Scope, node: Node, command: readonly string[], options: string[] = []) {
  const json = scope.path("summary.json");
  const exit = await run(scope, node, ["--json", json, ...options, "--", ...command]);
  const summary = JSON.parse(readFileSync(json, "utf8")) as Summary & { warnings: string[] };
  return { exit, warnings: summary.warnings.join("\n") };
}

aboutKqtime("too little address space for Bun", async (node, scope) => {
  const prefix = [...node.prefix, "sh", "-c", 'ulimit -v 1500000; exec "$@"', "sh"];
  const exit = await kqtime(scope, ["run", "--quiet", "--", "true"], { prefix }).exit();
  expectRefusal(exit, /raise `ulimit -v` from 1500000 to \d+ or more/);
});

// A socket is written to by a library's call, which may be what cannot be done.
const SOCKET_STDERR = `
import socket, subprocess, sys
ours, theirs = socket.socketpair()
code = subprocess.call(sys.argv[1:], stderr=theirs.fileno())
theirs.close()
sys.stderr.write(ours.makefile().read())
sys.exit(code)
`;

aboutKqtime("no library can be called, and stderr is a socket", async (node, scope) => {
  const words = ["run", "--quiet", "--anyway", "--", "sh", "-c", "echo started; exit 7"];
  const exit = await kqtime(scope, words, {
    prefix: [...node.prefix, "python3", "-c", SOCKET_STDERR],
    env: { ...process.env, BUN_JSC_useJIT: "0" } as Record<string, string>,
  }).exit();
  expect(exit).toMatchObject({ code: 7, stdout: "started\n" });
  expect(exit.stderr).toMatch(/^kqtime: Bun has no room .*MemoryDenyWriteExecute=; running the command .*\n$/);
});

aboutKqtime("kqtime within kqtime says which of them measures the command", async (node, scope) => {
  const inner = [join(ROOT, "bin", "kqtime"), "run", "--quiet", "--", "true"];
  const exit = await run(scope, node, ["--", ...inner]);
  expect(exit).toMatchObject({ code: 0, stdout: "" });
  const why = "kqtime runs within a session of another kqtime: this one measures the command, that one does not";
  expect(exit.stderr).toBe(`kqtime: ${why}\n`);
});

aboutKqtime("a static program", async (node, scope) => {
  const program = await compile(scope, "static", ["-static"]);
  expectRefusal(await run(scope, node, ["--", program]), /statically linked/, /--anyway/);
  const anyway = await run(scope, node, ["--anyway", "--", program]);
  expect(anyway).toMatchObject({ code: 7, stdout: "started\n" });
  expect(anyway.stderr).toMatch(/statically linked/);
});

aboutKqtime("a script whose interpreter is static", async (node, scope) => {
  const program = await compile(scope, "interpreter", ["-static"]);
  const script = scope.path("script");
  writeFileSync(script, `#!${program}\n`);
  chmodSync(script, 0o755);
  expectRefusal(await run(scope, node, ["--", script]), /statically linked/);
});

aboutKqtime("a setuid program", async (node, scope) => {
  const program = await compile(scope, "setuid", []);
  chownSync(program, NOBODY, NOBODY);
  chmodSync(program, 0o4755);
  expectRefusal(await run(scope, node, ["--", program]), /setuid/, /owner/);
});

aboutKqtime("a setuid program of the user that the command runs as is none to that user", async (node, scope) => {
  chmodSync(scope.folder, 0o755);
  const program = await compile(scope, "setuid", []);
  chownSync(program, NOBODY, NOBODY);
  chmodSync(program, 0o4755);
  expect(await run(scope, node, ["--user", "nobody", "--", program])).toMatchObject({ code: 7 });
  chownSync(program, 0, 0);
  chmodSync(program, 0o4755);
  expectRefusal(await run(scope, node, ["--user", "nobody", "--", program]), /setuid/);
  expect((await run(scope, node, ["--", program])).code).toBe(7);
});

aboutKqtime("a program with file capabilities, unless it runs as root", async (node, scope) => {
  chmodSync(scope.folder, 0o755);
  const program = await compile(scope, "capable", []);
  const set = `import os, struct, sys
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))`;
  await scope.run(["python3", "-c", set, program]);
  expectRefusal(await run(scope, node, ["--user", "nobody", "--", program]), /file capabilities/);
  expect((await run(scope, node, ["--", program])).code).toBe(7);
});

aboutKqtime("an interpreter behind env -S", async (node, scope) => {
  const program = await compile(scope, "behind-env", ["-static"]);
  const script = scope.path("script");
  for (const words of [`-S A=1 ${program} -x`, `-S${program} -x`, `-S -u A ${program}`, program]) {
    writeFileSync(script, `#!/usr/bin/env ${words}\n`);
    chmodSync(script, 0o755);
    expectRefusal(await run(scope, node, ["--", script]), /statically linked/);
  }
});

aboutKqtime("a command or an environment that is not UTF-8", async (node, scope) => {
  const bun = join(ROOT, "node_modules", ".bin", "bun");
  const start = (words: string) =>
    scope.start(["bash", "-c", `${words} -- printf started`], {
      prefix: node.prefix, env: { ...process.env, KQ: `${bun} ${join(ROOT, "kqtime.ts")} run --quiet` },
    }).exit();
  expectRefusal(await start("X=$'\\xff' $KQ"), /environment is not UTF-8/, /--anyway/);
  expect((await start("X=$'\\xff' $KQ --anyway")).stdout).toBe("started");
  expectRefusal(await start("$KQ --json /dev/null --log $'/tmp/\\xff'"), /command line is not UTF-8/);
  expect((await start("X=$'\\u00fc' $KQ"))).toMatchObject({ code: 0, stdout: "started" });
});

aboutKqtime("outputs that are one file", async (node, scope) => {
  const path = scope.path("one");
  const other = `${scope.folder}/./one`;
  writeFileSync(path, "precious");
  const twice = await run(scope, node, ["--log", path, "--json", other, "--", "echo", "started"]);
  expectRefusal(twice, /--log and --json name the same file/);
  expect(readFileSync(path, "utf8")).toBe("precious");
  const record = scope.path("record");
  for (const name of ["events.kqt", "headers.pcap"]) {
    mkdirSync(record);
    const words = ["--record", record, "--log", join(record, name), "--", "echo", "started"];
    expectRefusal(await run(scope, node, words), /it is there already/);
    rmSync(record, { recursive: true });
  }
  expect((await run(scope, node, ["--log", "/dev/null", "--json", "/dev/null", "--", "true"])).code).toBe(0);
});

aboutKqtime("what is refused leaves nothing behind", async (node, scope) => {
  const made = ["one", "other", "record"].map((name) => scope.path(name));
  const [one, other, record] = made as [string, string, string];
  const file = scope.path("file");
  writeFileSync(file, "");
  const same = /name the same file: give each its own/;
  const cases: [string[], RegExp][] = [
    [["--log", one, "--json", one], same],
    [["--log", one, "--interval-log", one, "--interval", "1"], same],
    [["--log", one, "--record", one], same],
    [["--log", one, "--json", join(other, "no", "folder")], /no such directory/],
    [["--log", one, "--json", scope.path("n".repeat(300))], /the name is too long/],
    [["--log", `${one}.gz`, "--json", other, "--record", join(record, "in"), "--interface", "none0"], /no interface/],
    [["--log", one, "--json", other, "--record", file], /"[^"]*file" is a file, where a folder is needed/],
  ];
  const before = readdirSync(scope.folder).sort();
  for (const [words, why] of cases) {
    expectRefusal(await run(scope, node, [...words, "--", "echo", "started"]), why);
    expect(readdirSync(scope.folder).sort()).toEqual(before);
  }
  // Found out only when it is started.
  const script = scope.path("script");
  writeFileSync(script, "#!/no/such/interpreter\n");
  chmodSync(script, 0o755);
  const words = ["--log", one, "--json", other, "--record", join(record, "in"), "--", script];
  const exit = await run(scope, node, words);
  expect(exit).toMatchObject({ code: 127, stdout: "" });
  expect(exit.stderr).toMatch(/^kqtime: the interpreter "\/no\/such\/interpreter" in the first line of .* does not exist: .*\n$/);
  expect(readdirSync(scope.folder).sort()).toEqual([...before, "script"].sort());
  const missing = await kqtime(scope, ["replay", file, "--json", one], { prefix: node.prefix }).exit();
  expectRefusal(missing, /file is a file: replay takes the folder that `run --record` has made/);
  expect(readdirSync(scope.folder).sort()).toEqual([...before, "script"].sort());
});

aboutKqtime("what cannot be run: why, and what to do", async (node, scope) => {
  const expectLine = (exit: Exit, code: number, ...patterns: RegExp[]) => {
    expect(exit).toMatchObject({ code, stdout: "" });
    for (const pattern of patterns) expect(exit.stderr).toMatch(pattern);
    expect(exit.stderr.trim().split("\n")).toHaveLength(1);
  };
  const program = await compile(scope, "hidden", []);
  chmodSync(scope.folder, 0o700);
  const hidden = await run(scope, node, ["--user", "nobody", "--", program]);
  expectLine(hidden, 126, /cannot be run by nobody: permission denied/, /all folders above it/);
  const script = scope.path("dos");
  writeFileSync(script, "#!/bin/sh\r\necho started\r\n");
  chmodSync(script, 0o755);
  expectLine(await run(scope, node, ["--", script]), 127, /the first line of .*dos ends as in DOS \(CR LF\)/);
  expectLine(await run(scope, node, ["--", ""]), 127, /the command's name is empty/);
});

// With a /run that cannot be written to, and another such folder.
const READ_ONLY = 'mount -t tmpfs -o ro none /run && mount -t tmpfs -o ro none "$0" && exec "$@"';

aboutKqtime("no place for the session's folder, and the variable that names one", async (node, scope) => {
  const closed = scope.path("closed");
  mkdirSync(closed);
  const prefix = [...node.prefix, "unshare", "--mount", "sh", "-c", READ_ONLY, closed];
  const start = (folder: string) =>
    kqtime(scope, ["run", "--quiet", "--", "echo", "started"], {
      prefix, env: { ...process.env, TMPDIR: folder } as Record<string, string>,
    }).exit();
  expectRefusal(await start(closed), /folder can be made in .*closed: the file system is read-only/, /set TMPDIR to one/);
  expect(await start(scope.folder)).toMatchObject({ code: 0, stdout: "started\n", stderr: "" });
});

aboutKqtime("what was not measured is said with --quiet too, in one line each", async (node, scope) => {
  const sleep = ["sleep", "1"];
  const bare = await run(scope, node, ["--", "env", "-i", ...sleep]);
  expect(bare.code).toBe(0);
  expect(bare.stderr).toMatch(/^kqtime: 1 process of the command ran without the preload library \(sleep\) .*\n$/);
  const hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"];
  const inside = await run(scope, node, ["--", ...hidden, ...sleep]);
  expect(inside.code).toBe(0);
  expect(inside.stderr).toMatch(/^kqtime: 1 process of the command could not reach kqtime \(sleep\) .*\n$/);
  expect(await run(scope, node, ["--", "true"])).toMatchObject({ code: 0, stderr: "" });
});

aboutKqtime("a log that is no gzip file, and outputs that nobody reads", async (node, scope) => {
  const path = scope.path("text.gz");
  writeFileSync(path, "text\n");
  expectRefusal(await run(scope, node, ["--log", path, "--", "echo", "started"]), /no gzip file/);
  expect(readFileSync(path, "utf8")).toBe("text\n");
  const pipe = scope.path("pipe");
  await scope.run(["mkfifo", pipe]);
  for (const option of ["--log", "--json"]) {
    expectRefusal(await run(scope, node, [option, pipe, "--", "echo", "started"]), /nobody reads/);
    expectRefusal(await run(scope, node, [option, "-", "--", "echo", "started"]), /\/dev\/stdout/);
  }
});

aboutKqtime("a program for musl, and one for another architecture", async (node, scope) => {
  const musl = await compile(scope, "musl", ["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
  expectRefusal(await run(scope, node, ["--", musl]), /musl/);
  const foreign = await compile(scope, "foreign", []);
  const bytes = readFileSync(foreign);
  bytes.writeUInt16LE(8, 18); // EM_MIPS
  writeFileSync(foreign, bytes);
  expectRefusal(await run(scope, node, ["--", foreign]), /architecture/);
});

aboutKqtime("no libpcap, no libz", async (node, scope) => {
  const program = await compile(scope, "plain", []);
  const noPcap = { KQTIME_LIBPCAP: "/nonexistent/libpcap.so" };
  expectRefusal(await run(scope, node, ["--", program], noPcap), /libpcap/, /nonexistent/);
  const noZ = { KQTIME_LIBZ: "/nonexistent/libz.so" };
  const words = ["--log", scope.path("x.log.gz"), "--", program];
  expectRefusal(await run(scope, node, words, noZ), /libz|zlib/);
  // With --anyway the program runs, and is not measured.
  const anyway = await run(scope, node, ["--anyway", "--", program], noPcap);
  expect(anyway).toMatchObject({ code: 7, stdout: "started\n" });
  expect(anyway.stderr).toMatch(/without measuring/);
});

aboutKqtime("a preload library that the user cannot read", async (node, scope) => {
  const folder = scope.path("private");
  mkdirSync(folder);
  const preload = join(folder, "libkqtime-preload.so");
  copyFileSync(join(ROOT, "build", "libkqtime-preload.so"), preload);
  chmodSync(preload, 0o600);
  chmodSync(folder, 0o700);
  const exit = await run(scope, node, ["--user", "nobody", "--", "true"], { KQTIME_PRELOAD: preload });
  expectRefusal(exit, /cannot read/, /libkqtime-preload\.so/);
});

aboutKqtime("a build that is not there", async (node, scope) => {
  const exit = await run(scope, node, ["--", "true"], { KQTIME_PRELOAD: scope.path("none.so") });
  expectRefusal(exit, /not built/, /npm run setup/);
});

aboutKqtime("no memory for the ring", async (node, scope) => {
  const { exit, warnings } = await warningsOf(scope, node, ["sh", "-c", "ulimit -f 100; exec true"]);
  expect(exit.code).toBe(0);
  expect(warnings).toMatch(/no memory, or no descriptor, for a ring/);
  expect(warnings).toMatch(/--ring/);
});

aboutKqtime("a program in another network namespace", async (node, scope) => {
  // One process, and three programs.
  const command = ["unshare", "--net", "sh", "-c", "exec env true"];
  const { exit, warnings } = await warningsOf(scope, node, command);
  expect(exit.code).toBe(0);
  expect(warnings).toMatch(/^1 process ran in another network namespace/m);
  expect(warnings).toMatch(/ip netns exec/);
});

aboutKqtime("a command whose environment is cleared", async (node, scope) => {
  const program = await compile(scope, "static", ["-static"]);
  const { exit, warnings } = await warningsOf(scope, node, [program], ["--anyway"]);
  expect(exit.code).toBe(7);
  expect(warnings).toMatch(/no process loaded the preload library/);
});
