// Several files of one log are read in the order of their time, however they are named: else the
// calls of a run that come behind its books would be counted twice.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { orderLogs } from "../../src/analysis/log-order.ts";
import { encodeName } from "../../src/output/name.ts";
import { Log } from "../../src/output/log.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import { kqtime } from "../lib/kqtime.ts";
import { Scope } from "../lib/process.ts";

const BASE = 1700000000;
const NAME = encodeName("a");
const PARTS = 3;
const CALLS = 300;
let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

/** A run's log in three parts, oldest first; the books stand in the last. */
function parts(folder: string): Buffer[] {
  mkdirSync(scope.path(folder));
  const path = scope.path(`${folder}/whole`);
  const log = Log.open(path, { baseSec: BASE, onError: (message) => expect(message).toBe("") });
  const stats = new DirectionStats();
  stats.sockets = 2;
  for (let i = 0; i < CALLS; i++) {
    // The second and the third part begin with a line that comes late, as those of bytes do whose
    // last packet was joined late.
    const at = i % (CALLS / PARTS) === 0 && i > 0 ? 500 - i : i * 1e6;
    const startNs = at - 1000;
    const sock = 1 + (i % 2);
    log.call(0, startNs, at, at, at, 7, 0, 77, 5, sock, 4000, 443, NAME);
    stats.calls++;
    stats.bytesCalled += 7;
    stats.bytesMatched += 7;
    stats.callNs.record(at - startNs, 1);
    stats.byteNs.record(at - startNs, 7);
  }
  log.books(0, -2000, 1e9, stats, NAME);
  log.close();
  const lines = readFileSync(path, "utf8").split(/(?<=\n)/);
  const size = CALLS / PARTS;
  return [0, 1, 2].map((n) =>
    Buffer.from(lines.slice(n * size, n === 2 ? undefined : (n + 1) * size).join("")),
  );
}

function orders<T>(all: readonly T[]): T[][] {
  if (all.length < 2) return [[...all]];
  return all.flatMap((one, i) => orders(all.toSpliced(i, 1)).map((rest) => [one, ...rest]));
}

/** Names of three parts, oldest first. */
const SETS: [string, string[]][] = [
  ["kqtime", ["web.log.2", "web.log.1", "web.log"]],
  ["kqtime-gz", ["web.log.2.gz", "web.log.1.gz", "web.log.gz"]],
  ["logrotate", ["web.log.10.gz", "web.log.2.gz", "web.log"]],
  ["dateext", ["web.log-20261121.gz", "web.log-20261122", "web.log"]],
  ["extension", ["relay-1-2026-11-21.log", "relay-1-2026-11-22.log", "relay-1.log"]],
];

for (const [folder, names] of SETS) {
  test(`${folder}: the files of a log in any order are one run`, async () => {
    const texts = parts(folder);
    const paths = names.map((name, i) => {
      const path = scope.path(`${folder}/${name}`);
      writeFileSync(path, name.endsWith(".gz") ? gzipSync(texts[i]!) : texts[i]!);
      return path;
    });
    for (const given of orders(paths)) expect(orderLogs(given).paths).toEqual(paths);
    expect(orderLogs(paths).problems).toEqual([]);
    const newestFirst = [...paths].sort();
    for (const given of [paths, newestFirst, paths.toReversed(), [...paths, paths[0]!]]) {
      const exit = await kqtime(scope, ["report", "--json", ...given]).success();
      const { directions, report } = JSON.parse(exit.stdout);
      expect(report.source).toBe("run");
      expect(directions.out).toMatchObject({ sockets: 2, calls: CALLS, bytesCalled: CALLS * 7 });
    }
  });
}

test("a file is read once, whatever it is called, and what is not read as named is told", () => {
  const [a, b] = [scope.path("one.log"), scope.path("two.log")];
  const call = (sec: number) => `KQTIME-OUT;start=${sec}.0,end=${sec}.5,fd=3,bytes=1;x;\n`;
  writeFileSync(a, call(BASE));
  writeFileSync(b, call(BASE + 9));
  const [hard, soft] = [scope.path("hard.log"), scope.path("soft.log")];
  linkSync(a, hard);
  symlinkSync(a, soft);
  const { paths, problems } = orderLogs([b, a, hard, soft, b]);
  expect(paths).toEqual([a, b]);
  expect(problems).toEqual([
    `${hard} is the same file as ${a}: it is read once`,
    `${soft} is the same file as ${a}: it is read once`,
    `${b} was named twice: it is read once`,
    `the logs are read in the order of their time: ${a}, ${b}`,
  ]);
});

test("what cannot be looked at is told as what cannot be read, in one line", async () => {
  const log = scope.path("fine.log");
  writeFileSync(log, `KQTIME-OUT;start=${BASE}.0,end=${BASE}.5,fd=3,bytes=1;x;\n`);
  const circle = scope.path("circle.log");
  symlinkSync(circle, circle);
  const long = scope.path("x".repeat(300));
  for (const [path, why] of [
    [circle, "its symbolic links lead in a circle (ELOOP)"],
    [join(log, "a.log"), "part of the path is not a directory (ENOTDIR)"],
    [scope.path("none.log"), "there is no such file (ENOENT)"],
    [long, "the name is too long (ENAMETOOLONG)"],
  ] as const) {
    for (const given of [[path], [log, path]]) {
      const exit = await kqtime(scope, ["report", ...given]).exit();
      const line = `kqtime: ${path} cannot be read: ${why}\n`;
      expect([exit.code, exit.stdout, exit.stderr]).toEqual([125, "", line]);
    }
  }
});

test("logs of two runs at the same time stay apart; books alone have a time; without any, last", () => {
  const write = (name: string, text: string) => {
    const path = scope.path(name);
    writeFileSync(path, text);
    return path;
  };
  const call = (sec: number) => `KQTIME-IN;start=${sec}.0,end=${sec}.5,fd=3;x;\n`;
  const books = (sec: number) => `KQTIME-BOOKS;start=1.0,end=${sec}.0,dir=0;x;\n`;
  const meta = "KQTIME-META;start=1.0,end=1.0,log_min_ns=1,log_sample=1,log_seed=1;NULL;\n";
  const a1 = write("a.log.1", meta + call(BASE));
  const a = write("a.log", meta + books(BASE + 5));
  const b1 = write("b.log.1", call(BASE + 1));
  const b = write("b.log", call(BASE + 4));
  const parsed = write("parsed.dat", `${BASE + 2}.5 KQTIME-OUT 7.0\n`);
  const none = write("none.log", meta);
  for (const given of [[none, a, a1, b, parsed, b1], [b, b1, parsed, none, a1, a]]) {
    expect(orderLogs(given).paths).toEqual([a1, a, b1, b, parsed, none]);
  }
  // What can be read once cannot be looked at before.
  expect(orderLogs([a, "-", a1]).paths).toEqual([a, "-", a1]);
  expect(orderLogs([a, "/dev/null", a1]).paths).toEqual([a, "/dev/null", a1]);
});
