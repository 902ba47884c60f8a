// The API in programs of its own (scenario.ts): which bytes count, what the errors say, and that
// the collector it starts comes and goes.

import { afterAll, beforeAll, expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { CallSample } from "../../src/api/index.ts";
import { parseLog } from "../lib/kqlog.ts";
import { BASE_SEC, ROOT } from "../lib/kqtime.ts";
import { enter, makeNamespace } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { type Running, Scope, type StartOptions, until } from "../lib/process.ts";

const PRELOAD = join(ROOT, "build", "libkqtime-preload.so");
const KQTIME = join(ROOT, "bin", "kqtime");
const SCENARIO = join(import.meta.dir, "scenario.ts");

let scope: Scope;
let prefix: string[];

beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

interface Failure {
  code: string;
  message: string;
}
/** Outbound called and matched, inbound called and matched, by label. */
type Bytes = Record<string, [number, number, number, number]>;

async function start(name: string, options: StartOptions = {}): Promise<Running> {
  prefix ??= enter(await makeNamespace(scope, "k"));
  const words = [process.execPath, SCENARIO, name, scope.folder];
  const env = { ...process.env, LD_PRELOAD: PRELOAD, ...options.env };
  return scope.start(words, { ...options, prefix: [...prefix, ...(options.prefix ?? [])], env });
}

async function play<T>(name: string, options: StartOptions = {}): Promise<T> {
  const exit = await (await start(name, options)).success(20_000);
  expect(exit.stderr).toBe("");
  return JSON.parse(exit.stdout.trim().split("\n").at(-1)!) as T;
}

function each(bytes: number): [number, number, number, number] {
  return [bytes, bytes, bytes, bytes];
}

const ways = {
  "with a collector of its own": {},
  "under kqtime run": { prefix: [KQTIME, "run", "--quiet", "--"], env: { LD_PRELOAD: "" } },
};

for (const [way, options] of Object.entries(ways)) {
  needsNamespaces(`exactly the calls between register and deregister count, ${way}`, async () => {
    expect(await play<Bytes>("registration", options)).toEqual({
      first: each(1000), second: each(20), NULL: each(50),
    });
    const log = parseLog(readFileSync(scope.path("registration.log"), "utf8"), BASE_SEC);
    const out = log.calls.filter(({ direction }) => direction === 0);
    expect(out.slice(-3).map(({ name, bytes }) => [name, bytes])).toEqual([
      ["first", 1000], ["second", 20], ["NULL", 50],
    ]);
    expect(statSync(scope.path("registration.log")).mode & 0o777).toBe(0o600);
  });

  needsNamespaces(`handles are opened and closed in any order, ${way}`, async () => {
    const { together, closed, gone, bytes } = await play<{
      together: number; closed: Failure; gone: Failure; bytes: Bytes[];
    }>("handles", options);
    expect(together).toBe(way === "under kqtime run" ? 0 : 1);
    expect([closed.code, gone.code]).toEqual(["E_CLOSED", "E_CLOSED"]);
    expect(bytes).toEqual([{ "to b": each(130) }, { "to c": each(30) }, { "to d": each(5) }]);
    const a = parseLog(gunzipSync(readFileSync(scope.path("a.log.gz"))).toString(), BASE_SEC);
    expect(new Set(a.calls.map(({ name }) => name))).toEqual(new Set(["to a", "to d"]));
  });
}

needsNamespaces("a descriptor that is used again is another socket", async () => {
  expect(await play<unknown>("reuse")).toEqual({ same: true, bytes: { once: each(500) } });
});

needsNamespaces("sockets of node:net, before, while and after they are connected", async () => {
  const { early, bytes, late } = await play<{ early: Failure; bytes: Bytes; late: Failure }>("node");
  expect(bytes).toEqual({ node: each(700) });
  expect([early.code, late.code]).toEqual(["E_FD", "E_FD"]);
  for (const { message } of [early, late]) expect(message).toContain("not connected yet");
});

needsNamespaces("deregister ignores what is closed, not connected yet, or not known", async () => {
  expect(await play<Failure[]>("closedSockets")).toEqual([]);
});

needsNamespaces("wrong arguments are one line that names them", async () => {
  const { failures, labels } = await play<{
    failures: Record<string, Failure>; labels: number;
  }>("wrongArguments");
  const codes: Record<string, string> = {
    "port text": "E_PORT", "port symbol": "E_PORT", "port nothing": "E_PORT",
    "peer nothing": "E_PEER", "peer empty": "E_PEER", "peer address": "E_PEER",
    "samples capacity": "E_CAPACITY",
  };
  for (const [call, { code, message }] of Object.entries(failures)) {
    expect([call, code, message]).toEqual([
      call, codes[call] ?? "E_ARGUMENT", expect.stringMatching(/^[^\n]{20,200}$/),
    ]);
  }
  expect(failures["register name"]!.message).toBe("register: the name is 7: it takes a string");
  expect(failures["port text"]!.message).toContain('"80" is no TCP port');
  expect(failures["samples option"]!.message).toContain('"capacty": there are capacity');
  expect(labels).toBe(0);
});

needsNamespaces("Bun.serve by remote address: named, renamed, taken back", async () => {
  const { one, all, wrong, none } = await play<{
    one: Bytes; all: Bytes; wrong: Failure; none: Failure;
  }>("peers");
  // The request that named the connection was read before; its response was not sent yet.
  expect(Object.keys(all).sort()).toEqual(["one", "two"]);
  expect(one["one"]!.slice(2)).toEqual([0, 0]);
  expect(all["one"]!.slice(0, 2)).toEqual(one["one"]!.slice(0, 2));
  expect(all["one"]![3]).toBeGreaterThan(0);
  expect(all["two"]![1]).toBe(all["one"]![1]);
  expect([wrong.code, none.code]).toEqual(["E_PEER", "E_PEER"]);
});

needsNamespaces("a local port: open connections and those to come, renamed, taken back", async () => {
  const { bytes, wrong } = await play<{ bytes: Bytes; wrong: Failure }>("ports");
  // Both ends are in this process, but the client's local port is another one.
  expect(bytes).toEqual({ a: each(1100), b: each(520) });
  expect(wrong.code).toBe("E_PORT");
});

needsNamespaces("samples tell what the log tells, to each reader", async () => {
  const { taken, ended, rest, lost } = await play<{
    taken: CallSample[]; ended: object; rest: CallSample[]; lost: number[];
  }>("samples");
  expect(taken).toEqual(rest.slice(0, 3));
  expect(ended).toEqual({ done: true });
  expect(lost).toEqual([0, 0]);
  const log = parseLog(readFileSync(scope.path("samples.log"), "utf8"), BASE_SEC);
  expect(log.calls.length).toBe(8);
  for (const [i, line] of log.calls.entries()) {
    const sample = rest[i]!;
    const inbound = line.direction === 1;
    expect(sample).toMatchObject({
      kind: "call", direction: inbound ? "in" : "out", name: "a_b_c", bytes: line.bytes,
      offset: line.offset, fd: line.fd, pid: line.pid, sock: line.sock, localPort: line.lport,
      remotePort: line.rport, waitNs: line.endNs - line.startNs,
      firstByteWaitNs: inbound ? line.endNs - line.firstNs : line.firstNs - line.startNs,
      reassemblyNs: inbound ? line.inorderNs - line.startNs : 0,
    });
    expect(Math.abs((sample.startUnixMs - BASE_SEC * 1000) * 1e6 - line.startNs)).toBeLessThan(500);
  }
});

needsNamespaces("a reader of samples gets what is registered, before it came and later", async () => {
  expect(await play<string[]>("readers")).toEqual(["after", "before", "port"]);
});

needsNamespaces("the last close and another open wait for each other", async () => {
  expect(await play<number[]>("turns")).toEqual([0, 0, 0, 0, 0, 0, 0]);
});

needsNamespaces("the collector holds nothing of the program's", async () => {
  expect(await play<unknown>("collector")).toEqual({
    log: scope.path("collector.log"), preload: false, sockets: [], sameSession: false,
    standard: ["0 /dev/null", "1 /dev/null", "2 /dev/null"],
  });
});

needsNamespaces("what a reader of samples has no room for is counted", async () => {
  expect(await play<unknown>("overflow")).toEqual({
    taken: 10, inbound: 0, dropped: 190, lost: 190,
  });
});

needsNamespaces("opening, closing and asking hold up nothing", async () => {
  const { opening, closing, closeMs } = await play<{
    opening: number; closing: number; closeMs: number;
  }>("turnsOfTheLoop");
  expect(opening).toBeGreaterThan(5);
  expect(closing).toBeGreaterThan(5);
  expect(closeMs).toBeLessThan(1500);
});

needsNamespaces("a collector that is killed is told of, and another one takes over", async () => {
  const { end, snapshot, warnings, again } = await play<{
    end: Failure; snapshot: Failure; warnings: (Failure & { name: string })[]; again: string[];
  }>("killed");
  // Closing fails nobody: it warns, once.
  expect(warnings.map(({ name }) => name)).toEqual(["KQTimeWarning"]);
  for (const failure of [end, snapshot, warnings[0]!]) {
    expect(failure.code).toBe("E_COLLECTOR_GONE");
    expect(failure.message).toContain("open a new one");
  }
  expect(warnings[0]!.message).toContain("what it measured is in the log up to its last second");
  expect(again).toEqual([]);
});

needsNamespaces("lines that cannot be written are told of, at once and at the end", async () => {
  const { logLines, warnings } = await play<{ logLines: number; warnings: object[] }>("full");
  // The calls that were joined by then, of two.
  expect(logLines).toBeWithin(1, 3);
  expect(warnings).toEqual([{
    name: "KQTimeWarning", code: "E_INCOMPLETE",
    message:
      "close: the measurement is not complete: /dev/full: 5 lines were lost: no space left on the " +
      "device (ENOSPC)",
  }]);
});

needsNamespaces("a program that just ends leaves a complete log, and no collector", async () => {
  const pids = await play<number[]>("exit");
  expect(pids.length).toBe(1);
  await until("end of the collector", () => {
    try {
      return /\) Z /.test(readFileSync(`/proc/${pids[0]}/stat`, "latin1"));
    } catch {
      return true;
    }
  });
  const text = gunzipSync(readFileSync(scope.path("exit.log.gz"))).toString();
  const log = parseLog(text, BASE_SEC);
  expect(log.books.map(({ name }) => name)).toEqual(["x", "x"]);
  expect(log.calls.map(({ bytes }) => bytes)).toEqual([1234, 1234]);
});

needsNamespaces("what is no TCP socket is refused by its reason", async () => {
  const failures = await play<Record<string, Failure>>("wrongSockets");
  const codes = Object.fromEntries(Object.entries(failures).map(([key, { code }]) => [key, code]));
  expect(codes).toEqual({
    nodeHttp: "E_FD", listening: "E_FD", listener: "E_FD", nodeServer: "E_FD",
    nodeServerEarly: "E_FD", nodeHttpServer: "E_FD", server: "E_FD", deregisterServer: "E_FD",
    negative: "E_FD", text: "E_ARGUMENT", closed: "E_FD", unconnected: "E_FD", unused: "E_FD",
    file: "E_FD", udp: "E_UNSUPPORTED", udpNumber: "E_UNSUPPORTED", dgram: "E_UNSUPPORTED",
    capacity: "E_CAPACITY",
  });
  const servers = ["listening", "listener", "nodeServer", "nodeServerEarly", "nodeHttpServer"];
  for (const none of ["server", "nodeHttp", ...servers]) {
    expect(failures[none]!.message).toContain("registerPort");
  }
  for (const none of ["closed", "unconnected"]) {
    expect(failures[none]!.message).toContain("not connected yet");
  }
});

async function refused(options: object, how: StartOptions = {}): Promise<Failure> {
  const env = { ...how.env, OPTIONS: JSON.stringify(options) };
  return play<Failure>("open", { ...how, env });
}

needsNamespaces("open fails with what to do about it", async () => {
  const plain = await refused({}, { env: { LD_PRELOAD: "" } });
  expect(plain.code).toBe("E_NOT_PRELOADED");
  expect(plain.message).toMatch(/kqtime run -- bun .*scenario\.ts open/);
  expect(plain.message).toContain(`LD_PRELOAD=${PRELOAD} bun`);

  const log = await refused({ log: scope.path("none/x.log") });
  expect([log.code, log.message]).toEqual([
    "E_LOG", `log "${scope.path("none/x.log")}" cannot be opened: no such directory (ENOENT)`,
  ]);

  const wrong: [object, string][] = [
    [{ logg: "x" }, 'open: there is no option "logg": there are log, stats, inbound, outbound, '],
    [{ log: 5 }, "open: `log` is 5: it takes a string"],
    [{ log: "" }, "open: `log` is empty: leave it out for no log"],
    [{ filter: "" }, "open: `filter` is empty: leave it out for the default"],
    [{ interface: "a\0" }, "open: `interface` holds a zero byte"],
    [{ inbound: 1 }, "open: `inbound` is 1: it takes true or false"],
    [["x.log"], "open: an array where an object of options is expected"],
  ];
  for (const [options, message] of wrong) {
    const failed = await refused(options, { env: { LD_PRELOAD: "" } });
    expect([failed.code, failed.message]).toEqual(["E_ARGUMENT", expect.stringContaining(message)]);
  }

  // The collector's own words.
  const device = await refused({ interface: "none0" });
  expect(device.code).toBe("E_COLLECTOR");
  expect(device.message).toMatch(/none0/);
  const filter = await refused({ filter: "tcp and and" });
  expect(filter.code).toBe("E_COLLECTOR");
  expect(filter.message).toMatch(/tcp and and/);
});

needsNamespaces("open fails without the right to capture, and without a collector", async () => {
  const folder = scope.path("anybody");
  mkdirSync(folder, { mode: 0o777 });
  const nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
  const env = { HOME: folder, TMPDIR: folder, XDG_RUNTIME_DIR: folder };
  const why = await refused({}, { prefix: nobody, env, cwd: "/" });
  expect(why.code).toBe("E_COLLECTOR");
  expect(why.message).toMatch(/CAP_NET_RAW|permission|root/i);

  const gone = await refused({}, { env: { KQTIME_COLLECTOR: scope.path("none") } });
  expect(gone.code).toBe("E_COLLECTOR");
  expect(gone.message).toContain(scope.path("none"));
  const mute = scope.path("mute");
  writeFileSync(mute, "#!/bin/sh\nexit 3\n", { mode: 0o755 });
  const silent = await refused({}, { env: { KQTIME_COLLECTOR: mute } });
  expect(silent.message).toContain("ended without a word");
  expect(existsSync(PRELOAD)).toBe(true);
}, { programs: ["setpriv"] });

needsNamespaces("open fails under a preload library of another version", async () => {
  const source = scope.path("other.c");
  const library = scope.path("libkqtime-preload.so");
  writeFileSync(source, "unsigned kq_preload_version(void) { return 99; }\n");
  const soname = "-Wl,-soname,libkqtime-preload.so";
  await scope.run(["cc", "-shared", "-fPIC", soname, source, "-o", library]);
  const other = await refused({}, { env: { LD_PRELOAD: library } });
  expect(other.code).toBe("E_VERSION");
  expect(other.message).toContain("version 99");
}, { programs: ["cc"] });
