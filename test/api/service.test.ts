// The example service, both ways, against a client that counts its bytes by itself.

import { afterAll, beforeAll, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Summary } from "../../src/output/summary.ts";
import { parseLog } from "../lib/kqlog.ts";
import { BASE_SEC, flaws, Measurement, ROOT } from "../lib/kqtime.ts";
import { enter, makeNamespace } from "../lib/network.ts";
import { needsNamespaces } from "../lib/privilege.ts";
import { type Running, Scope } from "../lib/process.ts";

const SERVICE = join(ROOT, "examples", "service");
const PRELOAD = join(ROOT, "build", "libkqtime-preload.so");
const BUN = process.execPath;

let scope: Scope;
let prefix: string[];

beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

async function namespace(): Promise<string[]> {
  prefix ??= enter(await makeNamespace(scope, "s"));
  return prefix;
}

interface Exchanged {
  sockets: number;
  sent: number;
  received: number;
}

async function load(port: string): Promise<Exchanged> {
  const words = [BUN, join(import.meta.dir, "client.ts"), port, "5", "70000", "300000"];
  const { stdout } = await scope.run(words, { prefix });
  return JSON.parse(stdout) as Exchanged;
}

async function ports(service: Running): Promise<{ port: string; admin: string }> {
  const [, port, admin] = await service.says(/serving on port (\d+)(?:.*:(\d+)\/kqtime)?/);
  return { port: port!, admin: admin ?? "" };
}

async function figures(admin: string): Promise<Summary> {
  const words = ["curl", "-s", "--fail", `http://127.0.0.1:${admin}/kqtime`];
  return JSON.parse((await scope.run(words, { prefix })).stdout) as Summary;
}

function expectExact(summary: Summary, label: string, client: Exchanged): void {
  const found = summary.labels.find((each) => each.label === label)!;
  expect(found).toBeDefined();
  expect([found.in.bytesCalled, found.in.bytesMatched]).toEqual([client.sent, client.sent]);
  expect([found.out.bytesCalled, found.out.bytesMatched]).toEqual([
    client.received,
    client.received,
  ]);
  expect([found.in.sockets, found.out.sockets]).toEqual([client.sockets, client.sockets]);
  expect(found.out.callNs.p50).toBeGreaterThan(0);
}

function expectLog(path: string, client: Exchanged): void {
  const log = parseLog(gunzipSync(readFileSync(path)).toString(), BASE_SEC);
  expect(new Set(log.calls.map(({ name }) => name))).toEqual(new Set(["http"]));
  const bytes = (direction: number) =>
    log.calls.reduce((sum, line) => sum + (line.direction === direction ? line.bytes : 0), 0);
  expect([bytes(0), bytes(1)]).toEqual([client.received, client.sent]);
  expect(log.misses).toEqual([]);
  expect(log.books.map(({ name }) => name)).toEqual(["http", "http"]);
}

needsNamespaces("kqtime run -- bun server.ts, without code", async () => {
  const measurement = new Measurement(scope, [BUN, join(SERVICE, "server.ts")], {
    prefix: await namespace(),
    env: { ...process.env, PORT: "0" },
  });
  const { port } = await ports(measurement.running);
  const client = await load(port);
  measurement.running.kill("SIGTERM");
  await measurement.finish();
  expectExact(measurement.summary() as unknown as Summary, `in:${port}`, client);
  expect(flaws(measurement, { out: client.received, in: client.sent })).toEqual([]);
});

needsNamespaces("the service measures itself under LD_PRELOAD", async () => {
  const log = scope.path("self.log.gz");
  const env = { ...process.env, PORT: "0", ADMIN_PORT: "0", KQTIME_LOG: log, LD_PRELOAD: PRELOAD };
  const words = [BUN, join(SERVICE, "measured.ts")];
  const service = scope.start(words, { prefix: await namespace(), env });
  const { port, admin } = await ports(service);
  const client = await load(port);
  const summary = await figures(admin);
  expectExact(summary, "http", client);
  expect(summary.labels.length).toBe(1);
  expect(summary.warnings).toEqual([]);
  service.kill("SIGTERM");
  const exit = await service.exit(10_000);
  expect([exit.code, exit.stderr]).toEqual([0, ""]);
  expectLog(log, client);
}, { programs: ["curl"] });

needsNamespaces("the service measures itself under kqtime run", async () => {
  const log = scope.path("both.log.gz");
  const measurement = new Measurement(scope, [BUN, join(SERVICE, "measured.ts")], {
    prefix: await namespace(),
    env: { ...process.env, PORT: "0", ADMIN_PORT: "0", KQTIME_LOG: log },
  });
  const { port, admin } = await ports(measurement.running);
  const client = await load(port);
  const summary = await figures(admin);
  expectExact(summary, "http", client);
  measurement.running.kill("SIGTERM");
  await measurement.finish();
  expectLog(log, client);
  // The session's own books hold these sockets too, under the name that they were given.
  expectExact(measurement.summary() as unknown as Summary, "http", client);
}, { programs: ["curl"] });

needsNamespaces("the service serves without the preload library, and says so", async () => {
  const env = { ...process.env, PORT: "0", ADMIN_PORT: "0" };
  const words = [BUN, join(SERVICE, "measured.ts")];
  const service = scope.start(words, { prefix: await namespace(), env });
  const { port } = await ports(service);
  expect(service.stderr).toContain("not measured: this process was not started under");
  expect((await load(port)).sockets).toBe(10);
  service.kill("SIGTERM");
  expect((await service.exit(10_000)).code).toBe(0);
});
