// The lines of a log, whole and damaged, as the reader tells them.

import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { writeFileSync } from "node:fs";
import { LogScanner } from "../../src/analysis/log-scanner.ts";
import { ascii, LineBuffer } from "../../src/output/line.ts";
import { collect, Collector } from "../lib/read-log.ts";
import { Scope } from "../lib/process.ts";
import { SyntheticLog } from "../lib/synthetic-log.ts";

let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

const OUT =
  "KQTIME-OUT;start=1700000000.000000001,end=1700000000.500000002,fd=3,bytes=100," +
  "first=1700000000.100000000,off=0,pid=7,sock=1,lport=4000,rport=443;out:443;\n";
const MISS =
  "KQTIME-MISS;start=1700000001.5,end=1700000001.5,fd=3,bytes=40,off=9,pid=7,sock=2,lport=1,rport=2," +
  "dir=1,reason=3;relay;\n";
const STATS =
  "KQTIME-STATS;start=1700000002.000000000,end=1700000002.000100000,num_fds=2;" +
  "fd=3,snd_sz=1,snd_len=2,rcv_sz=3,rcv_len=4;fd=4,snd_sz=1,snd_len=20,rcv_sz=3,rcv_len=40,rtt=9;\n";

function scan(text: string): Collector & { scanner: LogScanner } {
  const collector = new Collector();
  const scanner = new LogScanner(collector);
  const bytes = new TextEncoder().encode(text.endsWith("\n") ? text : `${text}\n`);
  scanner.scan(bytes, 0, bytes.length);
  scanner.finish();
  return Object.assign(collector, { scanner });
}

test("a call's line is numbers, to the nanosecond", () => {
  const { told, scanner } = scan(OUT);
  expect(scanner.line.baseSec).toBe(1700000000);
  expect(told).toEqual([
    {
      kind: "call", direction: 0, startNs: 1, waitNs: 500000001, firstNs: 100000000, bytes: 100,
      sock: 1, reason: -1, sndLen: -1, rcvLen: -1, name: "out:443",
    },
  ]);
});

test("misses have a direction and a reason; queues a row for each socket and their sums", () => {
  const { told } = scan(MISS + STATS);
  const seen = told.map(({ kind, direction, reason, sndLen, rcvLen, startNs }) => [
    kind, direction, reason, sndLen, rcvLen, startNs,
  ]);
  expect(seen).toEqual([
    ["miss", 1, 3, -1, -1, 5e8],
    ["socket", 0, -1, 2, 4, 1e9],
    ["socket", 0, -1, 20, 40, 1e9],
    ["queues", 0, -1, 22, 44, 1e9],
  ]);
});

test("lines of buffer statistics with the same start are one moment", () => {
  const line = (start: string, sndLen: number) =>
    `KQTIME-STATS;start=${start},end=9.5,num_fds=1;` +
    `fd=3,snd_len=${sndLen},rcv_len=1,unsent=5,rtt_us=6,cwnd=7,delivery_Bps=8,retrans=9,snd_age_ns=10;\n`;
  const { told, scanner } = scan(line("1.0", 1) + line("1.0", 2) + OUT + "cut;\n" + line("1.0", 4) + line("2.0", 8));
  expect(told.filter(({ kind }) => kind === "queues").map(({ sndLen, rcvLen }) => [sndLen, rcvLen])).toEqual([
    [7, 3], [8, 1],
  ]);
  expect([scanner.lines, scanner.damaged]).toEqual([5, 1]);
  const fields: number[][] = [];
  const spy = new Collector();
  spy.socketQueues = ({ unsent, rttUs, cwnd, deliveryBytesPerSec, retrans, sndAgeNs, rcvAgeNs }) => {
    fields.push([unsent, rttUs, cwnd, deliveryBytesPerSec, retrans, sndAgeNs, rcvAgeNs]);
  };
  const bytes = new TextEncoder().encode(line("1.0", 1));
  new LogScanner(spy).scan(bytes, 0, bytes.length);
  expect(fields).toEqual([[5, 6, 7, 8, 9, 10, -1]]);
});

test("the ancestor's lines, and those of its parser, have fewer fields", () => {
  const { told, scanner } = scan(
    "KQTIME-IN;start=1400000000.5,end=1400000000.4,fd=9;unknown;\n" +
      "KQTIME-STATS;start=1400000000.5,end=1400000000.6,num_fds=0;\n" +
      "1400000001.123457 KQTIME-OUT 1.20997428894\n" +
      "1400000001.123457 KQTIME-IN 7.15255737305e-05\r\n" +
      "1400000001.123457 KQLEN-IN 12345.0\n",
  );
  expect(scanner.damaged).toBe(0);
  const seen = told.map(({ kind, direction, waitNs, bytes, sndLen, rcvLen }) => [
    kind, direction, waitNs, bytes, sndLen, rcvLen,
  ]);
  expect(seen[0]).toEqual(["call", 1, -1e8, -1, -1, -1]);
  expect(seen[1]).toEqual(["call", 0, 1209974, -1, -1, -1]);
  expect(seen[2]).toEqual(["call", 1, 72, -1, -1, -1]);
  expect(seen[3]!.slice(3)).toEqual([-1, -1, 12345]);
  expect(seen[4]).toEqual(["queues", 0, 1e8, -1, 0, 0]);
});

test("books and losses come as text; a kind of a later version is neither read nor damaged", () => {
  const { texts, scanner } = scan("KQTIME-BOOKS;dir=0;x;\nKQTIME-LOSS;a=1;;\nKQTIME-NEW;a=b;\n");
  expect(texts).toEqual(["books KQTIME-BOOKS;dir=0;x;", "loss KQTIME-LOSS;a=1;;"]);
  expect([scanner.lines, scanner.damaged, scanner.unknown]).toEqual([2, 0, 1]);
  // Also those that begin as a kind that is known does.
  for (const kind of ["MARK", "SOCKET", "LIMIT", "OUT2", "INFO", "STATS_2", "OPEN", "BOOK", "METAL"]) {
    for (const end of ["\n", "\r\n"]) {
      const { lines, damaged, unknown, foreign } = scan(`KQTIME-${kind};start=1.0,x=a;y;${end}`).scanner;
      expect([kind, lines, damaged, unknown, foreign]).toEqual([kind, 0, 0, 1, 0]);
    }
  }
});

test("what is no line is damaged, once a line", () => {
  for (const line of [
    "KQTIME-OUT", "KQTIME-OUT;", "KQTIME-NEW", "KQTIME-NEW;", "KQTIME-NEW;start=1.0,a", "KQTIME-OUT;start=1,end=2,fd=3", "KQTIME-OUT;start=1;x;",
    "KQTIME-OUT;start=1,end=2;x;y;", "KQTIME-OUT;start=1,end=two;x;", "KQTIME-OUT;start=1,end=2.;x;",
    "KQTIME-OUT;start=1,end=2,=3;x;", "KQTIME-MISS;start=1,end=1,bytes=3;x;",
    "KQTIME-STATS;start=1,end=2,num_fds=1;fd=3,snd_len=;", "KQTIME-STATS;start=1;fd=3,snd_len=1;", "1.5 KQTIME-OUT", "1.5 KQTIME-OUT x",
    "1.5 KQLEN-SIDE 3", "\0\0\0\0", "KQTIME-new;a;", "KQTI", "K",
    "00,fd=3,bytes=100;out:443;", "KQTIME-OUT;start=1,end=two;x;\r",
    // Numbers and moments that nothing has written.
    `KQTIME-OUT;start=${"9".repeat(400)}.0,end=1.0,fd=3;x;`, `KQTIME-OUT;start=1.0,end=${"9".repeat(400)}.0;x;`,
    `KQTIME-OUT;start=1.0,end=1.5,bytes=${"9".repeat(400)};x;`, "KQTIME-OUT;start=-1.0,end=1.0;x;",
    `KQTIME-OUT;start=1.0,end=1.5,later=${"9".repeat(400)};x;`, "KQTIME-OUT;start=1.0,end=8589934592.0;x;",
    "KQTIME-OUT;start=1.0,end=1.5,first=1e9;x;", "KQTIME-IN;start=1.0,end=1.5,first=99999999999.0;x;",
    "KQTIME-IN;start=1.0,end=1.5,inorder=99999999999.0;x;", "99999999999.5 KQTIME-OUT 1.0",
    "1.5 KQTIME-OUT 1e400", "1.5 KQTIME-OUT 9e15", `1.5 KQLEN-OUT ${"9".repeat(400)}.0`,
  ]) {
    const { told, scanner } = scan(`${line}\n`);
    expect([line, scanner.damaged, scanner.lines, scanner.unknown, told.length]).toEqual([line, 1, 0, 0, 0]);
  }
});

test("a count is decimal digits within its range, and nothing else", () => {
  const lines = [OUT, MISS, STATS];
  const keys = [
    "bytes", "off", "pid", "sock", "lport", "rport", "dir", "reason", "snd_sz", "snd_len", "rcv_sz", "rcv_len",
  ];
  for (const key of keys) {
    for (const line of lines.filter((one) => one.includes(`,${key}=`))) {
      for (const value of ["-1", "-", "1.5", "9007199254740992", "1e3", "0x1", "+1", ""]) {
        const { told, scanner } = scan(line.replace(new RegExp(`,${key}=\\d+`), `,${key}=${value}`));
        expect([key, value, scanner.damaged, told.length]).toEqual([key, value, 1, 0]);
      }
    }
  }
  for (const [was, is] of [
    ["lport=4000", "lport=65536"], ["rport=443", "rport=65536"], ["fd=3", "fd=-2"], ["fd=3", "fd=-1.5"],
  ] as const) {
    expect([is, scan(OUT.replace(was, is)).scanner.damaged]).toEqual([is, 1]);
  }
  expect(scan(MISS.replace("dir=1", "dir=2")).scanner.damaged).toBe(1);
  // A descriptor that is not known, and keys that a later version may write.
  for (const [was, is] of [["fd=3", "fd=-1"], ["sock=1", "sock=1,skew=-0.5"], ["off=0", "off=0,offs=-3"]] as const) {
    expect([is, scan(OUT.replace(was, is)).scanner.damaged]).toEqual([is, 0]);
  }
});

test("text of other programs is unknown, not damaged", () => {
  for (const line of ["garbage", "-", "2026-11-23 12:00:00 started", "# a note\r", "1.5 s later", "Öl\tÜ"]) {
    const { told, scanner } = scan(`${line}\n`);
    const { lines, damaged, unknown, foreign } = scanner;
    expect([line, lines, damaged, unknown, foreign, told.length]).toEqual([line, 0, 0, 1, 1, 0]);
  }
  const path = scope.path("mixed.log");
  writeFileSync(path, `${OUT}hello\nKQTIME-NEW;start=1.0;x;\nKQTIME-OUT;cut\n${OUT}bye\n`);
  const { result } = collect(path);
  expect([result.lines, result.damaged, result.unknown]).toEqual([2, 1, 3]);
  expect(result.problems).toEqual([
    `${path}: 1 line damaged and skipped, 2 read`,
    `${path}: 1 line of a kind that this version does not know; skipped`,
    `${path}: 2 lines unknown, not kqtime's; skipped`,
  ]);
  writeFileSync(path, "root:x:0:0\n");
  expect(() => collect(path)).toThrow("holds no line of a kqtime log");
});

test("a line that is cut by another loses one, not two, wherever it is cut", () => {
  for (let cut = 1; cut < OUT.length - 1; cut++) {
    const { told, scanner } = scan(OUT.slice(0, cut) + MISS + OUT);
    expect([cut, told.map(({ kind }) => kind), scanner.damaged]).toEqual([cut, ["miss", "call"], 1]);
  }
  // A file system that lost a block left zeros.
  const { told, scanner } = scan(OUT + "\0".repeat(4096) + MISS);
  expect([told.length, scanner.damaged]).toEqual([2, 1]);
});

test("no change to a log crashes or hangs the reader, or goes unnoticed", () => {
  const text = new LineBuffer(4096, 1700000000);
  new SyntheticLog(7).fill(text);
  const log = new Uint8Array(text.length + 600);
  log.set(text.bytes.subarray(0, text.length));
  log.set(ascii(STATS + MISS), text.length);
  const whole = log.subarray(0, text.length + STATS.length + MISS.length);
  const count = scan(new TextDecoder().decode(whole)).scanner.lines;
  const change = fc.record({
    at: fc.nat(whole.length - 2),
    remove: fc.nat(300),
    insert: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom("KQTIME-OUT;start=", "KQTIME-BOOKS;start=1;x;\n", "\n", ";", "=", ",", "KQ")
        .map(ascii),
    ),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      let bytes = whole;
      for (const { at, remove, insert } of changes) {
        const from = Math.min(at, bytes.length - 1);
        const to = Math.min(from + remove, bytes.length);
        const next = new Uint8Array(bytes.length - (to - from) + insert.length);
        next.set(bytes.subarray(0, from));
        next.set(insert, from);
        next.set(bytes.subarray(to), from + insert.length);
        bytes = next;
      }
      const input = new Uint8Array(bytes.length + 1);
      input.set(bytes);
      input[bytes.length] = 10;
      const collector = new Collector();
      const scanner = new LogScanner(collector);
      scanner.scan(input, 0, input.length);
      let lines = 0;
      let from = 0;
      for (let at = 0; at < input.length; at++) {
        if (input[at] !== 10) continue;
        if (at > from) lines++;
        from = at + 1;
      }
      const { lines: read, damaged, unknown } = scanner;
      // Each line is read, unknown, or damaged (and then one more may be found in it).
      expect(read + unknown + damaged).toBeGreaterThanOrEqual(lines);
      expect(read + unknown).toBeLessThanOrEqual(lines);
      expect(read + unknown + 2 * damaged).toBeGreaterThanOrEqual(lines);
      const removed = changes.reduce((sum, { remove }) => sum + Math.ceil(remove / 100) + 2, 0);
      expect(read).toBeGreaterThanOrEqual(count - removed);
    }),
    { numRuns: 2000 },
  );
});

test("bytes that are no log at all are damaged lines, however long", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), (noise) => {
      const bytes = new Uint8Array(noise.length + 1);
      bytes.set(noise);
      bytes[noise.length] = 10;
      const scanner = new LogScanner(new Collector());
      scanner.scan(bytes, 0, bytes.length);
      expect(scanner.lines).toBe(0);
    }),
  );
});

test("a line of any length is read or skipped, and the next one read", () => {
  const group = "fd=3,snd_sz=1,snd_len=2,rcv_sz=3,rcv_len=4,rtt=100000,cwnd=10,sock=123456;";
  const stats = `KQTIME-STATS;start=1.5,end=1.6,num_fds=50000;${group.repeat(50000)}\n`;
  const long = `KQTIME-OUT;start=1,end=2,${"x".repeat(40e6)}\n`;
  const path = scope.path("long.log");
  writeFileSync(path, OUT + stats + long + MISS + OUT.trimEnd());
  const { told, result } = collect(path);
  const kinds = told.map(({ kind }) => kind).filter((kind) => kind !== "socket");
  expect(kinds).toEqual(["call", "miss", "call", "queues"]);
  expect(told.find(({ kind }) => kind === "queues")!.sndLen).toBe(100000);
  expect(result.damaged).toBe(1);
  expect(result.problems).toEqual([`${path}: 1 line damaged and skipped, 4 read`]);
});

test("a line full of beginnings of lines takes no more time than it is long", () => {
  const path = scope.path("begins.log");
  writeFileSync(path, `${OUT}${"KQTIME-BOOKS;start=".repeat(500000)}\n${"KQTIME-".repeat(1e6)}\n${OUT}`);
  const began = performance.now();
  const { told, result } = collect(path);
  expect([told.length, result.damaged]).toEqual([2, 2]);
  expect(performance.now() - began).toBeLessThan(5000);
});
