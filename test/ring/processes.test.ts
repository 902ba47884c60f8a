// Whose end is noticed, where the kernel tells it and where it must be looked for: a process ends with
// the last of its threads, whether or not it was waited for.

import { expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { ProcessEnds } from "../../src/ffi/process-ends.ts";
import { Processes } from "../../src/ring/processes.ts";
import { fixture } from "../lib/fixtures.ts";
import { type Scope, until, withScope } from "../lib/process.ts";
import { isLinux, lacks, reason, testUnless } from "../lib/requires.ts";

const why = reason(!isLinux && "needs /proc", lacks("cc", "python3"));
/** Those that watch processes: of all open files the collection of garbage may close some at any time. */
const openFiles = () => readdirSync("/proc/self/fd").filter(isWatch).length;
function isWatch(fd: string): boolean {
  try {
    return /pidfd|eventpoll/.test(readlinkSync(`/proc/self/fd/${fd}`));
  } catch {
    return false;
  }
}

const all = (processes: Processes) => processes.takeEnded(Infinity);

/** A child of a process that does not wait for it. */
async function startUnawaited(scope: Scope): Promise<number> {
  const parent = scope.start(["sh", "-c", "sleep 60 & echo $!; exec sleep 60"]);
  return Number((await parent.says(/\d+/))[0]);
}

for (const [how, most] of [["told", Infinity], ["looked for", 0], ["told of two and looked for", 2]] as const) {
  testUnless(why, `ends that are ${how}`, () => withScope(async (scope) => {
    const processes = new Processes(new ProcessEnds(most));
    const running = Array.from({ length: 5 }, () => scope.start(["sleep", "60"]));
    const zombie = await startUnawaited(scope);
    const files = openFiles();
    for (const pid of [...running.map(({ pid }) => pid), zombie]) processes.add(pid);
    // One of each, and one for all.
    expect(openFiles() - files).toBe(most === 0 ? 0 : Math.min(most, 6) + 1);
    expect(all(processes)).toEqual([]);
    process.kill(zombie, "SIGKILL");
    const ended = await until("end of the child", () => {
      const pids = all(processes);
      return pids.length > 0 && pids;
    });
    expect(ended).toEqual([zombie]);
    for (const one of running.slice(1)) await one.stop("SIGKILL");
    expect(all(processes).sort()).toEqual(running.slice(1).map(({ pid }) => pid).sort());
    // Each is told once.
    expect(all(processes)).toEqual([]);
    const open = openFiles();
    processes.close();
    // The first one's, where it has any, and the one for all.
    expect(open - openFiles()).toBe(most === 0 ? 0 : 2);
  }));

  testUnless(why, `${how}: a process without its first thread`, () => withScope(async (scope) => {
    const server = scope.start([
      "python3", "-c",
      "import socket; l = socket.create_server(('127.0.0.1', 0)); print(l.getsockname()[1], flush=True)\n" +
        "c = l.accept()[0]\nwhile d := c.recv(100): c.send(d)",
    ]);
    const program = scope.start([await fixture("leaderless"), (await server.says(/\d+/))[0]]);
    const threads = () => readdirSync(`/proc/${program.pid}/task`);
    await until("the other thread", () => threads().length > 1);
    const processes = new Processes(new ProcessEnds(most));
    processes.add(program.pid);
    const isZombie = async () => /^State:\s+Z/m.test(await Bun.file(`/proc/${program.pid}/status`).text());
    await until("a first thread that has ended", isZombie);
    expect(all(processes)).toEqual([]);
    await program.success();
    expect(all(processes)).toEqual([program.pid]);
    processes.close();
  }));
}

test("who must be looked at is, one at a time where there is no time", () => {
  const processes = new Processes(new ProcessEnds(0));
  const gone = [4194301, 4194302, 4194303];
  for (const pid of gone) processes.add(pid);
  expect([processes.takeEnded(0), processes.takeEnded(0), processes.takeEnded(Infinity)]).toEqual([
    [gone[0]!], [gone[1]!], [gone[2]!],
  ]);
});
