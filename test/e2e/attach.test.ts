// Taking over a session whose collector was killed: what was lost is said, what follows is exact.

import { expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { MessageListener } from "../../src/ffi/libc.ts";
import { Constant, Header, Loss } from "../../src/ring/layout.ts";
import { isOver, socketsOfAll } from "../../src/session/attach.ts";
import { SessionFolder } from "../../src/session/folder.ts";
import { findSession, usersNow } from "../../src/session/takeover.ts";
import { Attachment, interruptedTransfer, measured } from "../lib/attach.ts";
import { IN, OUT, readCallLog } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { readLog } from "../lib/kqlog.ts";
import { BASE_SEC, directionOf, kqtime } from "../lib/kqtime.ts";
import { repeatedBytes } from "../lib/judge.ts";
import { withLab, type LabOptions } from "../lib/network.ts";
import { childrenOf, until } from "../lib/process.ts";
import { Witness } from "../lib/tcpdump.ts";
import { compare } from "../lib/truth.ts";
import { entryWords } from "../match/words.ts";

const SHAPED: LabOptions = { shape: { rate: "20mbit" }, shapeBack: { rate: "20mbit" } };
/** What may have waited, unread, when the session was taken over. */
const MOST_WAITING = 600_000;

for (const mode of ["poll", "threads"]) {
  e2e(`a collector killed in the middle of a transfer (${mode})`, () =>
    withLab(SHAPED, async (lab) => {
      const flow = ["--both", "--total", "8000000", "--conns", "2", "--mode", mode];
      const { end, attachment, killedLog } = await interruptedTransfer(lab, flow, [], async () => {});
      const log = attachment.log();
      expect(compare(log, end, { lossy: true }).report()).toBe("");
      const summary = attachment.summary();
      expect(summary.booksBalance).toBe(true);
      expect(Object.values(summary.losses).every((count) => count === 0)).toBe(true);
      expect(summary.warnings[0]).toMatch(/^took over 1 process .* with 2 open connections/);
      for (const direction of [OUT, IN] as const) {
        const books = directionOf(summary, direction);
        // From the first call on that is in the books, none is missing.
        let called = 0;
        for (const stream of end.calls) {
          if (stream.direction !== direction) continue;
          const lines = [...log.calls, ...log.misses].filter(
            (line) => line.direction === direction && line.lport === stream.lport,
          );
          const first = Math.min(...lines.map((line) => line.offset));
          expect(first).toBeGreaterThan(0);
          called += stream.bytes - first;
        }
        expect(books.bytesCalled).toBe(called);
        const { "no anchor": unanchored = 0, ...others } = books.bytesUnmatched;
        expect(others).toEqual({});
        expect(unanchored).toBeLessThanOrEqual(direction === OUT ? 0 : MOST_WAITING);
        expect(books.bytesMatched).toBe(called - unanchored);
        expect(books.bytesMatched).toBeGreaterThan(2_000_000);
      }
      // As if both had written to one log: each call counts once, the killed run's from its lines.
      const before = readLog(killedLog, BASE_SEC);
      const both = lab.scope.path("both.log");
      writeFileSync(both, readFileSync(killedLog, "utf8") + readFileSync(attachment.logPath, "utf8"));
      for (const logs of [[both], [killedLog, attachment.logPath]]) {
        const { stdout } = await kqtime(lab.scope, ["report", "--json", ...logs]).success();
        for (const direction of [OUT, IN] as const) {
          const lines = [...before.calls, ...before.misses].filter((line) => line.direction === direction);
          const called = lines.reduce((sum, { bytes }) => sum + bytes, directionOf(summary, direction).bytesCalled);
          expect(directionOf(JSON.parse(stdout), direction).bytesCalled).toBe(called);
        }
      }
      // What was sent before and leaves its queue afterwards is none.
      expect(directionOf(summary, OUT).bytesRetransmitted).toBeLessThanOrEqual(repeatedBytes(end, OUT));
    }));
}

e2e("rings that overflow while nobody reads", () =>
  withLab(SHAPED, async (lab) => {
    const flow = ["--both", "--total", "15000000", "--size", "4000"];
    const { end, attachment } = await interruptedTransfer(
      lab, flow, ["--ring", "256"],
      (pid) => until("loss", () => lostRecords(pid) > 100).then(() => {}),
    );
    expect(compare(attachment.log(), end, { lossy: true }).report()).toBe("");
    const summary = attachment.summary();
    expect(summary.booksBalance).toBe(true);
    const told = summary.warnings.join("\n");
    expect(told).toMatch(/while nobody measured: 256 calls of .* recorded, at least .* without a record/);
    expect(told).toMatch(/\d+ records were dropped because rings were full/);
    expect(directionOf(summary, OUT).bytesMatched).toBeGreaterThan(1_000_000);
  }));

function lostRecords(pid: number): number {
  const session = findSession(pid, { isForeign: true });
  const lost = session.rings.reduce((sum, { ring }) => sum + ring.losses(Loss.RingFull), 0);
  for (const { ring } of session.rings) ring.close();
  return lost;
}

e2e("processes that are started afterwards are measured, and so is what they accept", () =>
  withLab(SHAPED, async ({ scope, left, right }) => {
    const program = await fixture("flow");
    const go = scope.path("go");
    await scope.run(["mkfifo", go]);
    const log = scope.path("flow");
    const words = `--address ${right.v4} --port 7000 --log ${log} --both --total 300000 --conns 5`;
    const witness = await Witness.start(scope, right);
    const shell = `read -r word < ${go}; ${program} server ${words}`;
    const { measurement, pid } = await measured(scope, ["bash", "-c", shell], right);
    measurement.running.kill("SIGKILL");
    await measurement.running.exited;
    const attachment = new Attachment(scope, pid, right);
    await attachment.running.says(/took over/);
    writeFileSync(go, "now\n");
    const client = await until("server", async () => {
      const running = scope.start([program, "client", ...words.split(" ")], { prefix: left.prefix });
      const exit = await running.exit();
      return exit.code === 0 ? running : null;
    });
    expect(client.ended).toBe(true);
    await attachment.running.success();
    const seen = await witness.finish(BASE_SEC, right.v4, left);
    const calls = readCallLog(`${log}.server`, BASE_SEC);
    const comparison = compare(attachment.log(), { calls, seen }, {});
    expect(comparison.report()).toBe("");
    const summary = attachment.summary();
    for (const direction of [OUT, IN] as const) {
      expect(directionOf(summary, direction).coverage).toBe(1);
      expect(directionOf(summary, direction).bytesCalled).toBe(1_500_000);
    }
    expect(summary.warnings.length).toBe(1);
  }));

e2e("a connection that is being made meanwhile is measured whole", () =>
  withLab(SHAPED, async ({ scope, left, right }) => {
    const program = await fixture("flow");
    const log = scope.path("flow");
    const words = `--address ${right.v4} --port 7000 --log ${log} --both --total 300000`.split(" ");
    const witness = await Witness.start(scope, left);
    const server = scope.start([program, "server", ...words], { prefix: right.prefix });
    await server.says(/ready/);
    // Nobody answers the SYN, for now.
    const route = ["blackhole", `${left.v4}/32`];
    await scope.run(["ip", "route", "add", ...route], { prefix: right.prefix });
    const { measurement, pid } = await measured(scope, [program, "client", ...words], left);
    await until("SYN", async () => {
      const { stdout } = await scope.run(["ss", "-Htn", "state", "syn-sent"], { prefix: left.prefix });
      return stdout.includes(":7000");
    });
    measurement.running.kill("SIGKILL");
    await measurement.running.exited;
    const folder = scope.path("recording");
    const attachment = new Attachment(scope, pid, left, ["--record", folder]);
    await attachment.running.says(/took over/);
    await scope.run(["ip", "route", "del", ...route], { prefix: right.prefix });
    await attachment.running.success();
    await server.success();
    const seen = await witness.finish(BASE_SEC, right.v4, left);
    const calls = readCallLog(`${log}.client`, BASE_SEC);
    expect(compare(attachment.log(), { calls, seen }, {}).report()).toBe("");
    const summary = attachment.summary();
    for (const direction of [OUT, IN] as const) {
      expect(directionOf(summary, direction).coverage).toBe(1);
      expect(directionOf(summary, direction).bytesCalled).toBe(300_000);
    }
    expect(summary.warnings.length).toBe(1);
    const again = scope.path("again.log");
    await kqtime(scope, ["replay", folder, "--log", again, "--quiet"]).success();
    expect(readFileSync(again, "utf8")).toBe(readFileSync(attachment.logPath, "utf8"));
  }));

e2e("a child that is forked while the session is looked for belongs to it", () =>
  withLab({}, async ({ scope, left }) => {
    const [go, end] = [scope.path("go"), scope.path("end")];
    await scope.run(["mkfifo", go, end]);
    const { measurement, pid } = await measured(scope, ["bash", "-c", `read -r word < ${go}; (read -r word < ${end}); exit`], left);
    measurement.running.kill("SIGKILL");
    await measurement.running.exited;
    const session = findSession(pid, { isForeign: true });
    try {
      expect(session.pids).toEqual([pid]);
      writeFileSync(go, "now\n");
      const child = await until("child", () => childrenOf(pid)[0] ?? null);
      const users = [...usersNow(session).values()].flat().sort((a, b) => a - b);
      expect(users).toEqual([pid, child].sort((a, b) => a - b));
      // Two cannot read one ring, in one process either.
      expect(() => findSession(pid, { isForeign: true })).toThrow(/is being measured: its collector lives/);
    } finally {
      for (const { ring } of session.rings) ring.close();
    }
    for (const { ring } of findSession(pid, { isForeign: true }).rings) ring.close();
    writeFileSync(end, "now\n");
  }));

test("a socket is given back if nobody has it open, and nobody is in a call on it", () => {
  const inode = 77;
  const active = { active: 1, off: 0, callNs: 0 };
  const fields = {
    generation: 1, birthNs: 1, local: [0, 0, 0, 1], remote: [0, 0, 0, 1], lport: 1, rport: 2, pid: 1, fd: 3, inode,
  };
  expect(isOver(entryWords(fields), new Set([1]))).toBe(true);
  expect(isOver(entryWords(fields), new Set([inode]))).toBe(false);
  expect(isOver(entryWords({ ...fields, inode: 0 }), new Set([1]))).toBe(false);
  expect(isOver(entryWords({ ...fields, out: active }), new Set([1]))).toBe(false);
  expect(isOver(entryWords({ ...fields, in: active }), new Set([1]))).toBe(false);
});

test("processes that fork all the time are not followed for ever", () => {
  let last = 1;
  const socketsOf = (pids: readonly number[]) => pids.map((pid) => pid + 1000);
  const endless = socketsOfAll([1], socketsOf, () => {
    if (last > 100) throw new Error("followed for ever");
    return [++last];
  });
  expect(endless.isComplete).toBe(false);
  // The last ones that were found are in doubt, not those before.
  expect(endless.inodes.has(1001) && endless.inodes.has(1002)).toBe(true);
  const few = [[2, 3], [3], []];
  const live = socketsOfAll([1], socketsOf, () => few.shift()!);
  expect(live).toEqual({ inodes: new Set([1001, 1002, 1003]), isComplete: true });
});

e2e("a session whose process forks all the time is taken over, and the end can be asked for", () =>
  withLab({}, async ({ scope, left }) => {
    const end = scope.path("end");
    await scope.run(["mkfifo", end]);
    const forks = "while :; do (read -r -t 0.3 word <&3) & done";
    const { measurement, pid } = await measured(scope, ["bash", "-c", `exec 3<>${end}; ${forks}`], left);
    try {
      measurement.running.kill("SIGKILL");
      await measurement.running.exited;
      const attachment = new Attachment(scope, pid, left);
      await attachment.running.says(/took over/);
      expect((await attachment.running.stop("SIGINT")).code).toBe(0);
      expect(attachment.summary().warnings[0]).toMatch(/^took over/);
    } finally {
      process.kill(pid, "SIGKILL");
    }
  }));

test("a session's folder: made again once nobody listens there, and left alone by who made it first", () => {
  const first = SessionFolder.make();
  expect(SessionFolder.answers(first.socket)).toBe(true);
  expect(SessionFolder.again(first.socket, first.token)).toBe(null);
  expect(SessionFolder.answers(first.socket)).toBe(true);
  first.close();
  expect(existsSync(first.path)).toBe(false);
  const second = SessionFolder.again(first.socket, first.token)!;
  try {
    first.close();
    expect(SessionFolder.answers(first.socket)).toBe(true);
  } finally {
    second.close();
  }
  // Whoever listens at a path that is no session's is not bothered.
  const other = join(dirname(first.path), `kqtime-test-${process.pid}`);
  const listener = new MessageListener(other);
  expect(SessionFolder.answers(other)).toBe(false);
  expect(listener.next(1)).toBe(null);
  listener.close();
  rmSync(other);
});

e2e("what cannot be taken over, and why", () =>
  withLab({}, async ({ scope, left, right }) => {
    const refusal = async (pid: number | string, prefix: readonly string[] = left.prefix) => {
      const node = { ...left, prefix };
      const attachment = new Attachment(scope, pid as number, node);
      const exit = await attachment.running.exit();
      return { code: exit.code, why: exit.stderr.trim() };
    };
    const { measurement, pid } = await measured(scope, ["sleep", "1000"], left);
    expect(await refusal("tor")).toEqual({
      code: 2, why: 'kqtime: attach takes a process id, not "tor"',
    });
    expect(await refusal(2 ** 22 + 1)).toEqual({
      code: 125, why: `kqtime: cannot attach: there is no process ${2 ** 22 + 1}`,
    });
    expect(await refusal(process.pid, [])).toEqual({
      code: 125,
      why: `kqtime: cannot attach: process ${process.pid} is not measured by kqtime: start it with ` +
        "`kqtime run -- …`",
    });
    const lives = {
      code: 125,
      why: `kqtime: cannot attach: process ${pid} is being measured: its collector lives (end that one ` +
        "first)",
    };
    expect(await refusal(pid)).toEqual(lives);
    // Where the session's socket cannot be seen, its memory tells.
    const apart = [...left.prefix, "unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"];
    expect(await refusal(pid, apart)).toEqual(lives);
    measurement.running.kill("SIGKILL");
    await measurement.running.exited;
    const elsewhere = await refusal(pid, right.prefix);
    expect(elsewhere.code).toBe(125);
    expect(elsewhere.why).toMatch(/is in another network namespace: `ip netns exec NAME kqtime attach/);
    const nobody = await refusal(pid, [
      ...left.prefix, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
    ]);
    expect(nobody.code).toBe(125);
    expect(nobody.why).toMatch(/cannot be (read|opened) \(.*\): run it as root/);

    // Another attachment counts as well as the first collector did.
    const attachment = new Attachment(scope, pid, left);
    await attachment.running.says(/took over/);
    expect(await refusal(pid)).toEqual(lives);
    expect(await refusal(pid, apart)).toEqual(lives);
    expect((await attachment.running.stop("SIGINT")).code).toBe(0);
    process.kill(pid, 0);
    setVersion(pid, Constant.version - 1);
    expect((await refusal(pid)).why).toBe(
      `kqtime: cannot attach: process ${pid} is measured by another version of kqtime (layout ` +
        `${Constant.version - 1}, here ${Constant.version}): use that one`,
    );
    setVersion(pid, Constant.version);
    const again = new Attachment(scope, pid, left);
    await again.running.says(/took over/);
    process.kill(pid, "SIGTERM");
    expect((await again.running.exit()).code).toBe(0);
  }));

/** Makes a target's ring one of another layout. */
function setVersion(pid: number, version: number): void {
  const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
  const range = /^(\S+) rw-s .*memfd:kqtime/m.exec(maps)![1];
  const fd = openSync(`/proc/${pid}/map_files/${range}`, "r+");
  writeSync(fd, Uint32Array.of(version), 0, 4, Header.version);
  closeSync(fd);
}
