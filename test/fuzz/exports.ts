// What `kqtime export` writes of a log, whatever the log is: read again by a Parquet reader, it has
// the rows that the log's reader told of, in their order and with their values. Beside it the other
// outputs for programs: CSV and JSON.

import { readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";
import { parquetMetadata, parquetSchema } from "hyparquet";
import { readColumn } from "hyparquet/src/column.js";
import { DEFAULT_PARSERS } from "hyparquet/src/convert.js";
import { getTreePath } from "hyparquet/src/schema.js";
import { ABSENT, type LogLine, type LogVisitor } from "../../src/analysis/log-line.ts";
import { ParquetOutput } from "../../src/analysis/parquet.ts";
import { reportCsv } from "../../src/analysis/report-csv.ts";
import { Window } from "../../src/analysis/window.ts";
import { REASONS } from "../../src/output/reasons.ts";
import type { Summary } from "../../src/output/summary.ts";
import { must } from "./harness.ts";

/** So few that most logs fill several row groups, and some the last one to its end. */
const GROUP_ROWS = 4;
/** Compared cell by cell; the other columns are read, and counted. */
const COMPARED = [
  "kind", "start_time", "end_time", "wait_ns", "bytes", "fd", "reason", "snd_len", "name",
] as const;
const TWO_53 = 2 ** 53;
/** Times stay what they are in the file. */
const PARSERS = { ...DEFAULT_PARSERS, timestampFromNanoseconds: (ns: bigint) => ns as unknown as Date };
const compressors = { ZSTD: (bytes: Uint8Array) => Bun.zstdDecompressSync(bytes) };

export class ExportCheck implements LogVisitor {
  readonly #output: ParquetOutput;
  /** A row's cells in one text. */
  readonly #expected: string[] = [];

  constructor(readonly path: string) {
    this.#output = new ParquetOutput(path, new Window(null, null), GROUP_ROWS);
  }

  call(line: LogLine): void {
    this.#expect(line, line.direction === 0 ? "out" : "in", line.waitNs);
    this.#output.call(line);
  }

  miss(line: LogLine): void {
    this.#expect(line, line.direction === 0 ? "miss-out" : "miss-in");
    this.#output.miss(line);
  }

  queues(line: LogLine): void {
    if (line.parsed) this.#expect(line, "queue");
    this.#output.queues(line);
  }

  socketQueues(line: LogLine): void {
    this.#expect(line, "queue");
    this.#output.socketQueues(line);
  }

  text(): boolean {
    return this.#output.text();
  }

  /** Reading failed, or there is nothing: then there is no file either. */
  abandon(): void {
    this.#output.abandon();
    const left = readdirSync(dirname(this.path)).filter((name) => name.startsWith(basename(this.path)));
    must(left.length === 0, `an export that was given up left ${left.join()}`);
  }

  /** Ends the file and reads it. */
  finish(): void {
    const expected = this.#expected;
    must(this.#output.rows === expected.length, `${this.#output.rows} rows of ${expected.length}`);
    if (expected.length === 0) return this.abandon();
    this.#output.finish();
    let rows: string[] = [];
    try {
      rows = rowsOf(this.path);
    } finally {
      rmSync(this.path);
    }
    must(rows.length === expected.length, `${rows.length} rows in the file, not ${expected.length}`);
    rows.forEach((row, i) => must(row === expected[i], `row ${i} is ${row}, not ${expected[i]}`));
  }

  #expect(line: LogLine, kind: string, waitNs: number | null = null): void {
    const { startSec, startFractionNs, endSec, endFractionNs } = line;
    const startNs = BigInt(startSec) * 1_000_000_000n + BigInt(startFractionNs);
    const endNs = BigInt(endSec) * 1_000_000_000n + BigInt(endFractionNs);
    const isMiss = kind.startsWith("miss");
    const cells = [
      kind, startNs, endNs, waitNs === null || Math.abs(waitNs) >= TWO_53 ? null : Math.round(waitNs),
      count(line.bytes, TWO_53), count(line.fd, 2 ** 31),
      isMiss ? (REASONS[line.reason] ?? `reason ${line.reason}`) : null, count(line.sndLen, TWO_53),
      line.nameTo > line.nameFrom ? line.name() : null,
    ];
    this.#expected.push(cells.join(" "));
  }
}

function count(value: number, limit: number): number | null {
  return value > ABSENT && value < limit ? Math.round(value) : null;
}

/** The compared cells of each row, in one text. */
function rowsOf(path: string): string[] {
  const file = new Uint8Array(readFileSync(path)).buffer;
  const metadata = parquetMetadata(file);
  const schema = parquetSchema(metadata);
  const rows: string[] = [];
  for (const { columns, num_rows: groupRows } of metadata.row_groups) {
    const count = Number(groupRows);
    const cells = new Map<string, ArrayLike<unknown>>();
    for (const { meta_data: column } of columns) {
      const schemaPath = getTreePath(schema, column!.path_in_schema);
      const { element } = schemaPath.at(-1)!;
      const from = Number(column!.dictionary_page_offset ?? column!.data_page_offset);
      const view = new DataView(file, from, Number(column!.total_compressed_size));
      const select = { groupStart: 0, selectStart: 0, selectEnd: count, groupRows: count };
      const decoder = {
        pathInSchema: column!.path_in_schema, element, schemaPath, type: column!.type,
        codec: column!.codec, parsers: PARSERS, compressors,
      };
      const { data } = readColumn({ view, offset: 0 }, select, decoder);
      const all = data.flatMap((chunk) => Array.from(chunk as ArrayLike<unknown>));
      must(all.length === count, `${all.length} cells of ${element.name} in ${count} rows`);
      cells.set(element.name, all);
    }
    for (let row = 0; row < count; row++) {
      rows.push(COMPARED.map((name) => cells.get(name)![row] ?? null).join(" "));
    }
  }
  must(Number(metadata.num_rows) === rows.length, `${metadata.num_rows} rows in the footer`);
  return rows;
}

/** A summary for programs: every figure is one, and the CSV gives the same labels. */
export function checkTables(summary: Summary): void {
  mustHoldFigures(summary, "summary");
  const [head, ...rows] = csvRows(reportCsv(summary));
  must(rows.length === 2 * summary.labels.length, `${rows.length} rows of CSV`);
  rows.forEach((row, i) => {
    const { label } = summary.labels[i >> 1]!;
    must(row.length === head!.length, `${row.length} fields of CSV, not ${head!.length}`);
    must(row[0] === label || row[0] === `'${label}`, `CSV: ${row[0]}, not ${label}`);
    must(!/^[=+\-@\t]/.test(row[0]!), `a formula: ${row[0]}`);
    must(row[1] === (i % 2 === 0 ? "out" : "in"), `CSV: direction ${row[1]}`);
    for (const field of row.slice(2)) must(Number.isFinite(Number(field)), `CSV: ${field}`);
  });
}

/** JSON would make null of what is no number. */
function mustHoldFigures(value: unknown, where: string): void {
  if (typeof value === "number") must(Number.isFinite(value), `${where} is ${value}`);
  else if (typeof value === "object" && value !== null) {
    for (const [key, each] of Object.entries(value)) mustHoldFigures(each, `${where}.${key}`);
  }
}

/** Fields of CSV with its quotes (RFC 4180). */
function csvRows(text: string): string[][] {
  must(text.endsWith("\r\n"), "CSV without its end");
  const rows: string[][] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  for (let row: string[] = []; field.lastIndex < text.length; ) {
    const at = field.lastIndex;
    const found = field.exec(text);
    must(found !== null, `CSV: ${JSON.stringify(text.slice(at, at + 80))}`);
    row.push(found[1]?.replaceAll('""', '"') ?? found[2]!);
    if (found[3] === ",") continue;
    rows.push(row);
    row = [];
  }
  return rows;
}
