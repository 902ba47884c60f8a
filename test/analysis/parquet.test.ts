// The Parquet that `kqtime export` writes, as DuckDB reads it.

import { afterAll, beforeAll, expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { SOCKET_KEYS } from "../../src/output/socket-fields.ts";
import { LineBuffer } from "../../src/output/line.ts";
import { BUN, kqtime, ROOT } from "../lib/kqtime.ts";
import { collect } from "../lib/read-log.ts";
import { peakOf } from "../lib/peak.ts";
import { isLinux, reason, testUnless } from "../lib/requires.ts";
import { Scope } from "../lib/process.ts";
import { SyntheticLog } from "../lib/synthetic-log.ts";

// Its native part is not to be had for every kind of machine.
const duckdb = await import("@duckdb/node-api").catch(() => null);
const noDuckDB = reason(duckdb === null && `needs @duckdb/node-api for ${process.platform}-${process.arch}`);

let scope: Scope;
beforeAll(() => {
  scope = new Scope();
});
afterAll(() => scope.end());

async function query(sql: string): Promise<unknown[][]> {
  const instance = await duckdb!.DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  try {
    const reader = await connection.runAndReadAll(sql);
    return reader.getRows().map((row) => row.map((cell) => (typeof cell === "bigint" ? Number(cell) : cell)));
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

async function exported(log: string, name: string, words: string[] = []): Promise<string> {
  const path = scope.path(name);
  const exit = await kqtime(scope, ["export", "--parquet", path, ...words, log]).success();
  expect(exit.stderr).toMatch(/^kqtime: [\d,]+ rows? written to /m);
  return path;
}

testUnless(noDuckDB, "a row a sample, typed, to the nanosecond, null where the line says nothing", async () => {
  const log = scope.path("small.log");
  writeFileSync(
    log,
    "KQTIME-OUT;start=1700000000.123456789,end=1700000000.623456790,fd=3,bytes=9007199254740991," +
      "first=1700000000.123456790,off=5,pid=7,sock=1,lport=4000,rport=443;grüße;\n" +
      "KQTIME-IN;start=1700000001.5,end=1700000001.25,fd=99999999999;NULL;\n" +
      "KQTIME-MISS;start=1700000001.5,end=1700000001.5,fd=3,bytes=4,off=0,pid=1,sock=2,lport=1,rport=2,dir=1,reason=6;x;\n" +
      "KQTIME-STATS;start=1700000002.0,end=1700000002.0,num_fds=1;fd=4,snd_sz=1,snd_len=2,rcv_sz=3,rcv_len=4;\n",
  );
  const path = await exported(log, "small.parquet");
  const types = await query(`describe select * from '${path}'`);
  expect(Object.fromEntries(types.map(([name, type]) => [name, type]))).toEqual({
    kind: "VARCHAR", start_time: "TIMESTAMP_NS", end_time: "TIMESTAMP_NS", wait_ns: "BIGINT",
    first_time: "TIMESTAMP_NS", inorder_time: "TIMESTAMP_NS", bytes: "BIGINT", off: "BIGINT",
    pid: "INTEGER", fd: "INTEGER", sock: "BIGINT", lport: "INTEGER", rport: "INTEGER", name: "VARCHAR",
    reason: "VARCHAR", snd_len: "BIGINT", snd_size: "BIGINT", rcv_len: "BIGINT", rcv_size: "BIGINT",
    unsent: "BIGINT", snd_age_ns: "BIGINT", rcv_age_ns: "BIGINT", rtt_us: "BIGINT", rttvar_us: "BIGINT",
    min_rtt_us: "BIGINT", mss: "BIGINT", cwnd: "BIGINT", delivery_bytes_per_s: "BIGINT", busy_us: "BIGINT",
    rwnd_limited_us: "BIGINT", sndbuf_limited_us: "BIGINT", retrans: "BIGINT",
  });
  const rows = await query(
    `select kind, epoch_ns(start_time)::varchar, wait_ns, epoch_ns(first_time)::varchar, bytes, fd, name,
       reason, snd_len, rcv_size from '${path}'`,
  );
  expect(rows).toEqual([
    ["out", "1700000000123456789", 500000001, "1700000000123456790", 9007199254740991, 3, "grüße", null, null, null],
    ["in", "1700000001500000000", -250000000, null, null, null, "NULL", null, null, null],
    ["miss-in", "1700000001500000000", null, null, 4, 3, "x", "nat", null, null],
    ["queue", "1700000002000000000", null, null, null, 4, null, null, 2, 3],
  ]);
  const encodings = await query(
    `select encodings, compression from parquet_metadata('${path}') where path_in_schema = 'name'`,
  );
  expect(String(encodings[0]![0])).toContain("RLE_DICTIONARY");
  expect(encodings[0]![1]).toBe("ZSTD");
});

testUnless(noDuckDB, "times of logs that are years apart are exact, and none is missing", async () => {
  const line = (sec: number): string =>
    `KQTIME-IN;start=${sec}.123456789,end=${sec + 1}.000000003,fd=3,bytes=1,first=${sec}.000000001,` +
    `inorder=${sec}.000000002,off=0,pid=1,sock=1,lport=1,rport=2;x;\n`;
  const secs = [1700000000, 1717280000, 1, 8589934590, 1700000000];
  const log = scope.path("apart.log");
  writeFileSync(log, secs.map(line).join("") + "1900000000.5 KQTIME-OUT 1500.000001\n" + line(8589934591));
  const path = await exported(log, "apart.parquet");
  const rows = await query(
    `select epoch_ns(start_time)::varchar, epoch_ns(end_time)::varchar, epoch_ns(first_time)::varchar,
       epoch_ns(inorder_time)::varchar, wait_ns from '${path}'`,
  );
  const ns = (sec: number, fraction: string): string => String(BigInt(`${sec}${fraction}`));
  expect(rows).toEqual([
    ...secs.map((sec) => [
      ns(sec, "123456789"), ns(sec + 1, "000000003"), ns(sec, "000000001"), ns(sec, "000000002"), 876543214,
    ]),
    [ns(1900000000, "500000000"), ns(1900000002, "000000001"), null, null, 1500000001],
  ]);
});

testUnless(noDuckDB, "of a socket's queues every key of the log is a column", async () => {
  const log = scope.path("queue.log");
  const values = SOCKET_KEYS.map((key, i) => `${key}=${100 + i}`).join(",");
  writeFileSync(
    log, `KQTIME-STATS;start=1700000002.0,end=1700000002.0,num_fds=1;fd=4,${values},snd_age_ns=1,rcv_age_ns=2,sock=3;\n`,
  );
  const path = await exported(log, "queue.parquet");
  const renamed: Record<string, string> = {
    snd_sz: "snd_size", rcv_sz: "rcv_size", delivery_Bps: "delivery_bytes_per_s",
  };
  const columns = SOCKET_KEYS.map((key) => renamed[key] ?? key);
  const rows = await query(`select ${columns.join()}, snd_age_ns, rcv_age_ns, sock from '${path}'`);
  expect(rows).toEqual([[...SOCKET_KEYS.map((_, i) => 100 + i), 1, 2, 3]]);
});

testUnless(noDuckDB, "many rows: as many as lines, in several row groups, the same sums", async () => {
  const log = scope.path("large.log");
  const text = new LineBuffer(36e6, 1700000000);
  new SyntheticLog(9).fill(text);
  writeFileSync(log, text.bytes.subarray(0, text.length));
  const { told } = collect(log);
  const path = await exported(log, "large.parquet");
  const [sums] = await query(
    `select count(*), sum(wait_ns)::double, sum(bytes)::double, count(distinct sock) from '${path}'`,
  );
  expect(sums).toEqual([
    told.length,
    told.reduce((sum, { waitNs }) => sum + waitNs, 0),
    told.reduce((sum, { bytes }) => sum + bytes, 0),
    100,
  ]);
  const [groups] = await query(`select num_row_groups, num_rows from parquet_file_metadata('${path}')`);
  expect(groups).toEqual([Math.ceil(told.length / 65536), told.length]);
  // Over what was there: a Parquet file is replaced.
  const window = await exported(log, "large.parquet", ["--until", "+1s"]);
  const [[count]] = (await query(`select count(*) from '${window}'`)) as [[number]];
  expect(count).toBeGreaterThan(20000);
  expect(count).toBeLessThan(60000);
}, 60_000);

testUnless(reason(!isLinux && "needs Linux"), "a log of any size takes the memory of one row group", async () => {
  const text = new LineBuffer(60e6, 1700000000);
  new SyntheticLog(1).fill(text);
  const log = scope.path("memory.log");
  writeFileSync(log, text.bytes.subarray(0, text.length));
  const peak = async (...logs: string[]): Promise<number> => {
    const words = ["export", "--parquet", scope.path("memory.parquet"), ...logs];
    const { code, mib } = await peakOf([BUN, "run", "kqtime", ...words], ROOT);
    expect(code).toBe(0);
    return mib;
  };
  const once = await peak(log);
  const fourTimes = await peak(log, log, log, log);
  expect(once).toBeLessThan(500);
  expect(fourTimes).toBeLessThan(once + 150);
}, 60_000);
