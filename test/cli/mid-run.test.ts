// Messages of a measurement to a reader that does not read, or is gone: nothing waits for it, and
// what it is not given is counted.

import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  closeSync, constants, mkdirSync, openSync, readFileSync, readSync, rmSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { isLinux, isRoot, lacks, reason, testUnless } from "../lib/requires.ts";
import { BUN, ROOT } from "../lib/kqtime.ts";
import { type Scope, withScope } from "../lib/process.ts";

const LINES = 3000;
const FILLER = "x".repeat(1000);

/** Says it all at once; tells on stdout when that is done, and ends when its stdin does. */
const SPEAKER = `
import { whileMeasuring } from ${JSON.stringify(join(ROOT, "src", "cli", "mid-run.ts"))};
await whileMeasuring(async ({ onInterval, onWarning }) => {
  for (let n = 0; n < ${LINES}; n++) {
    if (n % 2 === 0) onInterval(n + " ${FILLER}");
    else onWarning(n + " ${FILLER}");
  }
  console.log("said");
  await new Response(Bun.stdin.stream()).text();
});
`;

/** Gives it a stderr of a kind, and reads that only when everything is said, and then over. */
const READER = `
import os, pty, socket, subprocess, sys, tty
kind, bun, path = sys.argv[1:]
if kind == "pipe": r, w = os.pipe()
elif kind == "terminal":
    r, w = pty.openpty()
    tty.setraw(w)
else:
    a, b = socket.socketpair()
    r, w = a.detach(), b.detach()
p = subprocess.Popen([bun, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=w)
if p.stdout.readline() != b"said\\n": sys.exit("nothing said")
blocking = os.get_blocking(w)
os.close(w)
early = b""
if os.environ["WHEN"] == "before":
    while early.count(b"\\n") < 200: early += os.read(r, 65536)
p.stdin.close()
found = early
while True:
    try: piece = os.read(r, 65536)
    except OSError: break
    if not piece: break
    found += piece
sys.stdout.write(f"{blocking} {p.wait()}\\n")
sys.stdout.flush()
sys.stdout.buffer.write(found)
`;

for (const kind of ["pipe", "terminal", "socket"]) {
  for (const when of ["before", "after"]) {
    testUnless(reason(lacks("python3")), `a ${kind} that is read ${when} the end`, () =>
      withScope(async (scope) => {
        const path = scope.path("speaker.ts");
        await Bun.write(path, SPEAKER);
        const reader = scope.start(["python3", "-c", READER, kind, BUN, path], {
          env: { ...process.env, WHEN: when },
        });
        const [told, ...lines] = (await reader.success(20_000)).stdout.trim().split("\n");
        expect(told).toBe("True 0");
        let [next, leftOut] = [0, 0];
        for (const line of lines) {
          const gap = /^kqtime: (\d+) lines were left out here: /.exec(line);
          if (gap !== null) {
            leftOut += Number(gap[1]);
            next += Number(gap[1]);
          } else {
            expect(line).toBe(`${next % 2 === 0 ? "" : "kqtime: "}${next} ${FILLER}`);
            next++;
          }
        }
        expect(next).toBe(LINES);
        expect(leftOut).toBeGreaterThan(0);
      }),
    );
  }
}

/** Says what it is told to on stdin, "COUNT BYTES" a line, and then on stdout that it has. */
const PUPPET = `
import { whileMeasuring } from ${JSON.stringify(join(ROOT, "src", "cli", "mid-run.ts"))};
await whileMeasuring(async ({ onInterval }) => {
  let n = 0;
  for await (const line of console) {
    const [count, bytes] = line.split(" ").map(Number);
    for (let i = 0; i < count; i++) onInterval(String(n++).padEnd(bytes, "x"));
    console.log("said");
  }
});
`;

/** A speaker with this stderr; `say` returns when everything is said. */
async function puppet(scope: Scope, stderr: number) {
  const path = scope.path("puppet.ts");
  await Bun.write(path, PUPPET);
  const child = Bun.spawn([BUN, path], { stdin: "pipe", stdout: "pipe", stderr });
  scope.finally(async () => {
    child.kill();
    await child.exited;
  });
  const said = child.stdout.getReader();
  return {
    async say(count: number, bytes: number): Promise<void> {
      child.stdin.write(`${count} ${bytes}\n`);
      await child.stdin.flush();
      expect(new TextDecoder().decode((await said.read()).value)).toBe("said\n");
    },
    async end(): Promise<void> {
      await child.stdin.end();
      expect(await child.exited).toBe(0);
    },
  };
}

testUnless(reason(!isLinux && "needs Linux", lacks("mkfifo")), "a reader that is gone and comes back", () =>
  withScope(async (scope) => {
    const path = scope.path("pipe");
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    const { O_RDONLY, O_NONBLOCK } = constants;
    const open = () => openSync(path, O_RDONLY | O_NONBLOCK);
    let reader = open();
    const writer = openSync(path, "w");
    const { say, end } = await puppet(scope, writer);
    closeSync(writer);
    for (const [first, lost] of [[0, 3], [5, 1]] as const) {
      closeSync(reader);
      await say(lost, 4);
      reader = open();
      await say(2, 4);
      const were = lost === 1 ? "1 line was" : `${lost} lines were`;
      const text = Buffer.alloc(1000);
      const count = readSync(reader, text);
      expect(text.toString("latin1", 0, count)).toBe(
        `kqtime: ${were} left out here: stderr did not take them\n` +
          `${first + lost}xxx\n${first + lost + 1}xxx\n`,
      );
    }
    await end();
    closeSync(reader);
  }),
);

const noDisk = reason(
  !isLinux && "needs Linux",
  !isRoot && "needs root to mount a tmpfs",
  lacks("unshare", "mount", "umount"),
  spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status !== 0 &&
    "mounting is not permitted",
);

testUnless(noDisk, "a disk that is full for a while: half a line, then a line of what is missing", () =>
  withScope(async (scope) => {
    const disk = scope.path("disk");
    mkdirSync(disk);
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).status).toBe(0);
    scope.finally(() => void spawnSync("umount", [disk]));
    const ballast = join(disk, "ballast");
    const path = join(disk, "stderr");
    writeFileSync(ballast, Buffer.alloc(1024 * 1024 - 64 * 1024));
    const file = openSync(path, "a");
    const { say, end } = await puppet(scope, file);
    closeSync(file);
    await say(1, 10);
    await say(2, 100_000);
    rmSync(ballast);
    await say(1, 10);
    await end();
    const [first, torn, gap, last, ...rest] = readFileSync(path, "latin1").split("\n");
    expect([first, last, rest]).toEqual(["0xxxxxxxxx", "3xxxxxxxxx", [""]]);
    expect(torn).toMatch(/^1x{10000,}$/);
    expect(gap).toBe("kqtime: 2 lines were left out here: stderr did not take them");
  }),
);
