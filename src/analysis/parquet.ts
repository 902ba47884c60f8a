// A log as Parquet: one row a sample, typed, times as nanosecond timestamps, texts as dictionaries.
// Rows are collected into columns and written as a row group each: memory is that of one group.

import { ParquetWriter } from "hyparquet-writer";
import { REASONS } from "../output/reasons.ts";
import { VERSION } from "../version.ts";
import { callTimeNs } from "./groups.ts";
import { ABSENT, Direction, type LogLine, type LogVisitor } from "./log-line.ts";
import { NameTable } from "./name-table.ts";
import { ParquetFile } from "./parquet-file.ts";
import type { Window } from "./window.ts";

const GROUP_ROWS = 65536;
const TWO_31 = 2 ** 31;
const TWO_53 = 2 ** 53;
const ZSTD_LEVEL = 3;

type Cell = number | bigint | string | null;
type Kind = "time" | "int64" | "int32" | "text";

/** In the order of the file. `docs/tools.md` says what they mean. */
const COLUMNS = [
  ["kind", "text"],
  ["start_time", "time"],
  ["end_time", "time"],
  ["wait_ns", "int64"],
  ["first_time", "time"],
  ["inorder_time", "time"],
  ["bytes", "int64"],
  ["off", "int64"],
  ["pid", "int32"],
  ["fd", "int32"],
  ["sock", "int64"],
  ["lport", "int32"],
  ["rport", "int32"],
  ["name", "text"],
  ["reason", "text"],
  ["snd_len", "int64"],
  ["snd_size", "int64"],
  ["rcv_len", "int64"],
  ["rcv_size", "int64"],
  ["unsent", "int64"],
  ["snd_age_ns", "int64"],
  ["rcv_age_ns", "int64"],
  ["rtt_us", "int64"],
  ["rttvar_us", "int64"],
  ["min_rtt_us", "int64"],
  ["mss", "int64"],
  ["cwnd", "int64"],
  ["delivery_bytes_per_s", "int64"],
  ["busy_us", "int64"],
  ["rwnd_limited_us", "int64"],
  ["sndbuf_limited_us", "int64"],
  ["retrans", "int64"],
] as const satisfies readonly (readonly [string, Kind])[];

type ColumnName = (typeof COLUMNS)[number][0];
type Columns = Record<ColumnName, Cell[]>;

function element(name: string, kind: Kind) {
  const repetition_type = "OPTIONAL" as const;
  switch (kind) {
    case "time": {
      // UTC, but not said to be: of a time with a zone DuckDB keeps microseconds only.
      const type = "TIMESTAMP" as const;
      const logical_type = { type, isAdjustedToUTC: false, unit: "NANOS" as const };
      return { name, type: "INT64" as const, repetition_type, logical_type };
    }
    case "int64":
      return { name, type: "INT64" as const, repetition_type };
    case "int32":
      return { name, type: "INT32" as const, repetition_type };
    case "text":
      return { name, type: "BYTE_ARRAY" as const, repetition_type, converted_type: "UTF8" as const };
  }
}

export class ParquetOutput implements LogVisitor {
  rows = 0;
  readonly #file: ParquetFile;
  readonly #writer: ParquetWriter;
  readonly #names = new NameTable();
  readonly #columns: Columns;
  #filled = 0;
  /** The second that was converted last: most of a row's times share it with those before. */
  #sec = 0;
  #secNs = 0n;

  /** @throws KQTimeError `E_OUTPUT` */
  constructor(
    path: string,
    private readonly window: Window,
    private readonly groupRows = GROUP_ROWS,
  ) {
    this.#file = new ParquetFile(path);
    this.#columns = Object.fromEntries(
      COLUMNS.map(([name]) => [name, new Array<Cell>(groupRows).fill(null)]),
    ) as Columns;
    const root = { name: "root", num_children: COLUMNS.length };
    this.#writer = new ParquetWriter({
      writer: this.#file,
      schema: [root, ...COLUMNS.map(([name, kind]) => element(name, kind))],
      codec: "ZSTD",
      compressors: { ZSTD: (bytes: Uint8Array) => Bun.zstdCompressSync(bytes, { level: ZSTD_LEVEL }) },
      createdBy: `kqtime version ${VERSION}`,
    });
  }

  call(line: LogLine): void {
    if (!this.window.holds(line, callTimeNs(line))) return;
    const row = this.#row(line, line.direction === Direction.Out ? "out" : "in");
    this.#columns.wait_ns[row] = whole(line.waitNs);
  }

  miss(line: LogLine): void {
    if (!this.window.holds(line, line.startNs)) return;
    const row = this.#row(line, line.direction === Direction.Out ? "miss-out" : "miss-in");
    this.#columns.reason[row] = REASONS[line.reason] ?? `reason ${line.reason}`;
  }

  /** Of parsed data only: of a log's own line there was a row for each socket. */
  queues(line: LogLine): void {
    if (line.parsed) this.socketQueues(line);
  }

  socketQueues(line: LogLine): void {
    if (this.window.holds(line, line.startNs)) this.#row(line, "queue");
  }

  text(): boolean {
    return true;
  }

  /** Ends the file. Call once, after the last line. */
  finish(): void {
    this.#writeGroup();
    this.#writer.finish();
  }

  /** Instead of `finish`, if reading failed. */
  abandon(): void {
    this.#file.abandon();
  }

  /** Begins a row with what all kinds have; returns its number in the group. */
  #row(line: LogLine, kind: string): number {
    if (this.#filled === this.groupRows) this.#writeGroup();
    const row = this.#filled++;
    const columns = this.#columns;
    columns.kind[row] = kind;
    columns.start_time[row] = this.#time(line.startSec, line.startFractionNs);
    columns.end_time[row] = this.#time(line.endSec, line.endFractionNs);
    columns.wait_ns[row] = null;
    columns.first_time[row] = Number.isNaN(line.firstNs)
      ? null
      : this.#time(line.firstSec, line.firstFractionNs);
    columns.inorder_time[row] = Number.isNaN(line.inorderNs)
      ? null
      : this.#time(line.inorderSec, line.inorderFractionNs);
    columns.bytes[row] = wholeOrNull(line.bytes);
    columns.off[row] = wholeOrNull(line.off);
    columns.pid[row] = small(line.pid);
    columns.fd[row] = small(line.fd);
    columns.sock[row] = wholeOrNull(line.sock);
    columns.lport[row] = small(line.lport);
    columns.rport[row] = small(line.rport);
    columns.name[row] = line.nameTo > line.nameFrom ? this.#names.name(this.#names.of(line)) : null;
    columns.reason[row] = null;
    columns.snd_len[row] = wholeOrNull(line.sndLen);
    columns.snd_size[row] = wholeOrNull(line.sndSize);
    columns.rcv_len[row] = wholeOrNull(line.rcvLen);
    columns.rcv_size[row] = wholeOrNull(line.rcvSize);
    columns.unsent[row] = wholeOrNull(line.unsent);
    columns.snd_age_ns[row] = wholeOrNull(line.sndAgeNs);
    columns.rcv_age_ns[row] = wholeOrNull(line.rcvAgeNs);
    columns.rtt_us[row] = wholeOrNull(line.rttUs);
    columns.rttvar_us[row] = wholeOrNull(line.rttvarUs);
    columns.min_rtt_us[row] = wholeOrNull(line.minRttUs);
    columns.mss[row] = wholeOrNull(line.mss);
    columns.busy_us[row] = wholeOrNull(line.busyUs);
    columns.rwnd_limited_us[row] = wholeOrNull(line.rwndLimitedUs);
    columns.sndbuf_limited_us[row] = wholeOrNull(line.sndbufLimitedUs);
    columns.cwnd[row] = wholeOrNull(line.cwnd);
    columns.delivery_bytes_per_s[row] = wholeOrNull(line.deliveryBytesPerSec);
    columns.retrans[row] = wholeOrNull(line.retrans);
    this.rows++;
    return row;
  }

  /** Exact, however far the times of several logs are apart. The scanner's seconds fit into 64 bits. */
  #time(sec: number, fractionNs: number): bigint {
    if (sec !== this.#sec) {
      this.#sec = sec;
      this.#secNs = BigInt(sec) * 1000000000n;
    }
    return this.#secNs + BigInt(fractionNs);
  }

  #writeGroup(): void {
    if (this.#filled === 0) return;
    const columnData = COLUMNS.map(([name, kind]) => {
      const cells = this.#columns[name];
      const data = this.#filled === this.groupRows ? cells : cells.slice(0, this.#filled);
      return kind === "text" ? { name, data, encoding: "RLE_DICTIONARY" as const } : { name, data };
    });
    void this.#writer.write({ columnData, rowGroupSize: this.groupRows });
    this.#filled = 0;
  }
}

function whole(value: number): bigint | null {
  return Math.abs(value) < TWO_53 ? BigInt(Math.round(value)) : null;
}

/** What is not there, and what no log of kqtime's holds, is null. */
function wholeOrNull(value: number): bigint | null {
  return value <= ABSENT ? null : whole(value);
}

function small(value: number): number | null {
  return value > ABSENT && value < TWO_31 ? value : null;
}
