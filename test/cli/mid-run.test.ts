// Messages of a measurement to a reader that does not read: nothing waits for it, and what it is
// not given is counted.

import { expect } from "bun:test";
import { join } from "node:path";
import { lacks, reason, testUnless } from "../lib/requires.ts";
import { BUN, ROOT } from "../lib/kqtime.ts";
import { withScope } from "../lib/process.ts";

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
