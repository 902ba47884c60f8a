// What programs ask of their collector, without one: the answers, when they come, and what becomes
// of handles whose programs do not free them.

import { expect, spyOn, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LossCounts } from "../../src/analysis/loss-counts.ts";
import { makeMemory } from "../../src/ffi/descriptors.ts";
import { Reason } from "../../src/output/reasons.ts";
import type { Summary } from "../../src/output/summary.ts";
import { Constant, Kind, Message, MessageType, OpenFlag, Reply } from "../../src/ring/layout.ts";
import { Join, type JoinEnd } from "../../src/session/join.ts";
import { Requests } from "../../src/session/requests.ts";
import { Warnings, WARNINGS_MOST } from "../../src/session/warnings.ts";
import { Bench, CLIENT_PORT, MS } from "../match/bench.ts";
import { slotWords } from "../match/words.ts";
import { BASE_SEC, inFolder } from "../output/log-lines.ts";

const TABLE = 7;
const SESSION = 2 ** 52;

/** A session of one engine that is fed by hand, and a program that asks. */
class Session {
  readonly bench = new Bench({ everything: null });
  readonly losses = {
    ringRecords: 0, capturePackets: 0, interfacePackets: 0, badPackets: 0, memoryRecords: 0,
    tableSockets: 0, descriptorSockets: 0, addressSockets: 0, staleCalls: 0, inheritedRings: 0, unheardProcesses: 0,
    fragments: 0,
  };
  readonly answers = new Map<number, { handle: number; text: string }>();
  readonly used = new Set([TABLE]);
  readonly requests: Requests;
  readonly #join: Join;
  nowNs = 0;
  #connections = 0;

  constructor() {
    const setup = {
      baseSec: BASE_SEC, startNs: 0, direction: "both", label: "none", command: [], version: "0",
      everything: false, queues: false, isPartial: false, session: SESSION,
    } as const;
    const session = new Join({ ...setup, command: [] }, null);
    this.#join = session;
    // The join's own engine, fed by the bench.
    Object.assign(this.bench, { engine: session.engine, table: session.engine.addTable() });
    this.requests = new Requests({
      join: session,
      tape: null,
      listener: {
        reply: (connection: number, bytes: Uint8Array) => {
          const view = new DataView(bytes.buffer, bytes.byteOffset);
          const length = view.getUint32(Reply.textBytes, true);
          const text = new TextDecoder().decode(bytes.subarray(Reply.text, Reply.text + length));
          this.answers.set(connection, { handle: view.getInt32(Reply.handle, true), text });
        },
      },
      rings: {
        tableOf: (pid) => (pid === process.pid ? TABLE : -1),
        isUsed: (table) => this.used.has(table),
      },
      baseSec: BASE_SEC,
      nowNs: () => this.nowNs,
      end: () => this.#end(),
      onWarning: () => {},
    });
  }

  /** Asks; returns the connection that is answered. */
  ask(type: number, handle: number, { fd = -1, flags = 0, text = "", pid = process.pid } = {}): number {
    const words = new TextEncoder().encode(text);
    const message = new Uint8Array(new ArrayBuffer(Constant.messageHeadBytes + words.length));
    const view = new DataView(message.buffer);
    view.setUint32(Message.type, type, true);
    view.setUint32(Message.handle, handle, true);
    view.setUint32(Message.flags, flags, true);
    view.setUint32(Message.textBytes, words.length, true);
    message.set(words, Message.text);
    const connection = ++this.#connections;
    this.requests.take({ message, fd, pid, uid: 0, connection });
    return connection;
  }

  /** A handle whose log is this file. */
  open(path: string): number {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o600);
    const flags = OpenFlag.In | OpenFlag.Out;
    return this.answers.get(this.ask(MessageType.Open, 0, { fd, flags, text: path }))!.handle;
  }

  /** Everything that was captured until now is joined. */
  joined(): void {
    this.requests.answer(this.nowNs, false);
  }

  snapshot(handle: number): Summary {
    const fd = makeMemory("kqtime-test");
    // What is handed over is closed by the receiver.
    const kept = openSync(`/proc/self/fd/${fd}`, "r");
    this.ask(MessageType.Snapshot, handle, { fd });
    this.joined();
    const text = readFileSync(kept, "utf8");
    closeSync(kept);
    return JSON.parse(text) as Summary;
  }

  /** A socket of the handle with a call of 100 bytes, of which no packet was seen. */
  callOf(handle: number): void {
    const { bench } = this;
    const client = bench.connected(0);
    bench.handshake(1 * MS);
    bench.engine.handles.addRule(handle, { localPort: CLIENT_PORT, remote: null, name: "x" }, 0);
    bench.send(client, 2 * MS, 0, 100);
    bench.engine.flush();
  }

  /** The packet of that call. */
  sent(): void {
    this.bench.packet(3 * MS, true, 0, 100);
    this.bench.engine.flush();
  }

  finish(): void {
    this.requests.close();
    this.#join.finish(this.#end());
  }

  #end(): JoinEnd {
    const { nowNs, losses } = this;
    return {
      endNs: nowNs, exitCode: null, signal: null, pids: [], losses: { ...losses }, badRecords: 0,
      isDetached: false, warnings: [],
    };
  }
}

const nothing = { handle: 0, text: "" };

test("free is answered when what was captured until then is joined, and the log is complete", () =>
  inFolder((folder) => {
    const session = new Session();
    const handle = session.open(join(folder, "a.log"));
    expect(handle).toBeGreaterThan(0);
    session.nowNs = 5 * MS;
    const free = session.ask(MessageType.Free, handle);
    session.requests.answer(session.nowNs - 1, false);
    expect(session.answers.has(free)).toBe(false);
    session.joined();
    expect(session.answers.get(free)).toEqual(nothing);
    const log = readFileSync(join(folder, "a.log"), "utf8");
    const form = new RegExp(`^KQTIME-META;.*\\nKQTIME-LOSS;start=\\S+?,end=\\S+?,session=${SESSION},(\\S+);NULL;\\n$`);
    expect(log).toMatch(form);
    const keys = ["captureGaps", ...Object.keys(session.losses), "badRecords", "logLines"];
    expect(form.exec(log)![1]!.split(",").sort()).toEqual(keys.map((key) => `${key}=0`).sort());
    const again = session.ask(MessageType.Free, handle);
    expect(session.answers.get(again)!.text).toMatch(/^the handle was freed already/);
  }));

test("what the session lost counts once in a report of two handles' logs", () =>
  inFolder((folder) => {
    const session = new Session();
    const paths = ["a.log", "b.log"].map((name) => join(folder, name));
    const losses = new LossCounts();
    for (const handle of paths.map((path) => session.open(path))) {
      session.losses.ringRecords += 3;
      session.nowNs += 5 * MS;
      session.ask(MessageType.Free, handle);
      session.joined();
    }
    for (const path of paths) {
      expect(losses.add(readFileSync(path, "utf8").match(/^KQTIME-LOSS.*/m)![0])).toBe(true);
    }
    expect(losses.sums.ringRecords).toBe(6);
  }));

test("free waits for bytes that are still to be sent", () => {
  const session = new Session();
  const handle = session.open("/dev/null");
  session.callOf(handle);
  const free = session.ask(MessageType.Free, handle);
  session.joined();
  expect(session.answers.has(free)).toBe(false);
  expect(session.requests.pending).toBe(true);
  session.sent();
  session.joined();
  expect(session.answers.get(free)).toEqual(nothing);
});

test("free waits no longer than a second for bytes that are never sent", async () => {
  const session = new Session();
  const handle = session.open("/dev/null");
  session.callOf(handle);
  const startMs = performance.now();
  const free = session.ask(MessageType.Free, handle);
  while (!session.answers.has(free) && performance.now() - startMs < 10_000) {
    session.joined();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(1000);
  expect(session.answers.get(free)).toEqual(nothing);
});

test("a program learns which lines of its log are lost, and why", () => {
  const session = new Session();
  const handle = session.open("/dev/full");
  session.callOf(handle);
  session.sent();
  // Right at once, not when the log is closed.
  const { losses, warnings } = session.snapshot(handle);
  expect(losses.logLines).toBe(1);
  expect(warnings).toContain("1 line of the log not written");
  const free = session.ask(MessageType.Free, handle);
  session.joined();
  // The call, its books in two directions, and the losses.
  expect(session.answers.get(free)).toEqual({
    handle: 0, text: "/dev/full: 4 lines were lost: no space left on the device (ENOSPC)",
  });
});

test("a program learns what was not measured, and the summary warns of each loss", () => {
  const session = new Session();
  const handle = session.open("/dev/null");
  for (const key of Object.keys(session.losses) as (keyof Session["losses"])[]) {
    session.losses[key] = 2;
  }
  const { warnings } = session.snapshot(handle);
  expect(warnings.length).toBe(Object.keys(session.losses).length);
  expect(warnings).toContain("2 sockets not measured, the table was full");
  session.losses.tableSockets = 1;
  const free = session.ask(MessageType.Free, handle);
  session.joined();
  const { text } = session.answers.get(free)!;
  expect(text).toContain("; 1 socket not measured, the table was full; ");
  expect(text).not.toContain("interface");
});

test("a handle ends with the processes that opened it", () =>
  inFolder((folder) => {
    const session = new Session();
    const path = join(folder, "a.log");
    const handle = session.open(path);
    session.callOf(handle);
    session.joined();
    expect(session.requests.handles).toBe(1);
    session.used.clear();
    // As for one that is freed, what is still to be sent is waited for.
    session.joined();
    expect(session.requests.handles).toBe(1);
    session.sent();
    session.joined();
    expect([session.requests.handles, session.requests.pending]).toEqual([0, false]);
    const kinds = readFileSync(path, "utf8").trim().split("\n").map((line) => line.split(";")[0]);
    expect(kinds).toEqual(["KQTIME-META", "KQTIME-OUT", "KQTIME-BOOKS", "KQTIME-BOOKS", "KQTIME-LOSS"]);
    expect(session.bench.engine.handles.standing(handle)).toBeNull();
  }));

test("a handle of nobody waits ten seconds for bytes that are never sent", () => {
  const session = new Session();
  session.callOf(session.open("/dev/null"));
  session.used.clear();
  let nowMs = 1000;
  const clock = spyOn(performance, "now").mockImplementation(() => nowMs);
  try {
    session.joined();
    nowMs += 9999;
    session.joined();
    expect(session.requests.handles).toBe(1);
    nowMs += 1;
    session.joined();
    expect([session.requests.handles, session.requests.pending]).toEqual([0, false]);
  } finally {
    clock.mockRestore();
  }
});

test("at the session's end a handle of nobody ends with the join, which knows what became of its bytes", () =>
  inFolder((folder) => {
    const session = new Session();
    const path = join(folder, "a.log");
    const handle = session.open(path);
    session.callOf(handle);
    session.used.clear();
    session.joined();
    session.finish();
    const lines = readFileSync(path, "utf8").trim().split("\n");
    expect(lines.map((line) => line.split(";")[0])).toEqual([
      "KQTIME-META", "KQTIME-MISS", "KQTIME-BOOKS", "KQTIME-BOOKS", "KQTIME-LOSS",
    ]);
    expect(lines[1]).toContain(`,reason=${Reason.closedUnsent};`);
    expect(lines[2]).toContain(`,inflight=0,`);
  }));

test("a handle of an earlier collector names nobody's measurement, and that is told", () => {
  const [before, after] = [new Session(), new Session()];
  const earlier = before.open("/dev/null");
  const handle = after.open("/dev/null");
  expect(handle).not.toBe(earlier);
  const free = after.ask(MessageType.Free, earlier);
  after.joined();
  expect(after.answers.get(free)).toEqual({
    handle: -1, text: "the handle was freed already, or never opened",
  });
  expect(after.requests.handles).toBe(1);
  after.bench.connected(0);
  const { bench } = after;
  const register = (number: number) => {
    const common = { entry: 0, generation: 1, timeNs: 1, pid: 100, fd: 3, group: 1 };
    const words = slotWords({ ...common, kind: Kind.Register, off: number });
    bench.engine.record(bench.table, words);
  };
  register(earlier);
  expect(after.snapshot(handle).warnings).toEqual([
    "1 registration with a handle of an earlier collector had no effect: open a new one",
  ]);
  // One that was freed is another matter.
  const freed = after.open("/dev/null");
  after.ask(MessageType.Free, freed);
  after.joined();
  register(freed);
  expect(after.snapshot(handle).warnings.length).toBe(1);
});

test("what cannot be is refused in one line", () => {
  const session = new Session();
  const refused = (connection: number) => {
    const answer = session.answers.get(connection)!;
    expect(answer.handle).toBe(-1);
    return answer.text;
  };
  const open = MessageType.Open;
  expect(refused(session.ask(open, 0, { pid: 1 }))).toBe(
    "this process shares no memory with the collector",
  );
  const zero = { fd: openSync("/dev/zero", "w"), text: `/${"d".repeat(300)}/zero\x1b` };
  expect(refused(session.ask(open, 0, zero))).toBe(
    `log "${"d".repeat(194)}/zero_": a log is a file or a pipe`,
  );
  expect(refused(session.ask(MessageType.Snapshot, 9))).toMatch(/never opened$/);
  const handle = session.open("/dev/null");
  expect(refused(session.ask(99, handle))).toBe("a request of the unknown type 99");
  const snapshot = session.ask(MessageType.Snapshot, handle, { fd: openSync("/dev/null", "w") });
  session.joined();
  expect(refused(snapshot)).toMatch(/^a snapshot is written to memory/);
  const rules = Array.from({ length: 8193 }, () => session.ask(MessageType.Rule, handle));
  expect(refused(rules.at(-1)!)).toMatch(/^8192 requests wait/);
  session.joined();
  expect(refused(rules[0]!)).toMatch(/^not the address of sockets/);
});

test("of many requests some are answered, then records are read, and so on, in order", () => {
  const session = new Session();
  const handle = session.open("/dev/null");
  const asked = Array.from({ length: 2000 }, () => {
    return session.ask(MessageType.Snapshot, handle, { fd: makeMemory("kqtime-test") });
  });
  let rounds = 0;
  for (; session.requests.pending; rounds++) {
    const before = session.answers.size;
    session.joined();
    expect(session.answers.size).toBeGreaterThan(before);
    const isAnswered = asked.map((connection) => session.answers.has(connection));
    const count = isAnswered.filter(Boolean).length;
    expect(isAnswered.lastIndexOf(true)).toBe(count - 1);
    if (rounds === 0) expect(session.requests.pending).toBe(true);
    if (rounds > 2000) throw new Error("no end");
  }
  expect(session.answers.size).toBe(2001);
});

test("warnings are kept once each, and so many at the most", () => {
  const warnings = new Warnings();
  for (let i = 0; i < WARNINGS_MOST + 5; i++) {
    warnings.add(`warning ${i}`);
    warnings.add("warning 0");
  }
  const list = warnings.list();
  expect(list.length).toBe(WARNINGS_MOST + 1);
  expect(list.at(-1)).toBe("there were 5 more warnings, which are not shown");
});
