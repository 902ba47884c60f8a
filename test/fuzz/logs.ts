// Logs that are none: lines of all kinds with numbers, names and separators changed, cut and
// doubled, plain or within damaged members of gzip, xz and zstd. Read from a file, as the tools read
// it, for all of them at once: parse, report, compare, plot, export.

import {
  mkdtempSync, readFileSync, rmSync, writeFileSync, openSync, closeSync, ftruncateSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareSides, SideBuilder } from "../../src/analysis/compare.ts";
import type { LogLine, LogVisitor } from "../../src/analysis/log-line.ts";
import { readLogs } from "../../src/analysis/log-reader.ts";
import { ParsedOutput } from "../../src/analysis/parse.ts";
import { ReportBuilder } from "../../src/analysis/report.ts";
import { reportCsv } from "../../src/analysis/report-csv.ts";
import { TextOutput } from "../../src/analysis/text-output.ts";
import { Window } from "../../src/analysis/window.ts";
import { KQTimeError } from "../../src/errors.ts";
import { MEMBER_SIGNATURE, MemberEncoder } from "../../src/ffi/zlib.ts";
import { writeBooks } from "../../src/output/books.ts";
import { encodeName } from "../../src/output/name.ts";
import { DirectionStats } from "../../src/output/stats.ts";
import type { Distribution } from "../../src/output/summary.ts";
import { renderSummary } from "../../src/output/table.ts";
import { drawPages } from "../../src/plot/pages.ts";
import { Font } from "../../src/plot/fonts.ts";
import { PlotSamples } from "../../src/plot/samples.ts";
import type { Random } from "../match/random.ts";
import { checkTables, ExportCheck } from "./exports.ts";
import { type Fuzzer, must } from "./harness.ts";

const HEAD_BYTES = 4;
const MEMBER_TEXT_BYTES = 1 << 16;
const LENGTH_AT = MEMBER_SIGNATURE.length;
const BASE = 1_700_000_000;
const NUMBERS = [
  "0", "-1", "1", "9007199254740993", "9007199254740991", "1700000000123", "1e5", "-0",
  "99999999999999999999999999", "1".repeat(400), "0.5", ".5",
  "5.", "1700000000.999999999", "4294967296", "00000000001", "", "nan", "-", "65536", "1700000001.1234567890123",
];
const NAMES = [
  "out:443", "in:9001", "NULL", "", "\x1b[31mred\x07", "\u202egnp", "\ufffd", "a\0b", "x".repeat(600), "\x9b2J", "é😀",
  "__proto__", "constructor", "KQTIME-OUT;start=1", "=1+1", "\r", "\u2028", "(others)",
  'say "no", she did', '"',
];
const KINDS = [
  "OUT", "IN", "MISS", "STATS", "BOOKS", "LOSS", "META", "FUTURE", "OUT", "IN", "OUT", "IN", "parsed", "plain",
];

function books(): string {
  const stats = new DirectionStats();
  stats.sockets = 1;
  stats.calls = 3;
  stats.bytesCalled = stats.bytesMatched = 300;
  for (const ns of [5, 700, 90_000]) stats.callNs.record(ns, 1);
  stats.byteNs.record(700, 300);
  return new TextDecoder().decode(writeBooks(0, 0, 5e9, stats, encodeName("out:443"), BASE));
}
const BOOKS = books();

function line(random: Random): string {
  const at = (spread = 1e9) => `${BASE + random.below(20)}.${String(random.below(spread)).padStart(9, "0")}`;
  const pairs = `start=${at()},end=${BASE + 20 + random.below(9)}.${String(random.below(1e9)).padStart(9, "0")}`;
  const name = random.chance(0.7) ? random.pick(["out:443", "in:80", "NULL"]) : random.pick(NAMES);
  const common = `${pairs},fd=${random.below(99)},bytes=${random.below(1e5)},first=${at()}`;
  const rest = `off=${random.below(1e6)},pid=7,sock=${random.below(5)},lport=40000,rport=443`;
  switch (random.pick(KINDS)) {
    case "OUT": return `KQTIME-OUT;${common},${rest};${name};`;
    case "IN": return `KQTIME-IN;${common},inorder=${at()},${rest};${name};`;
    case "MISS": {
      const what = `dir=${random.below(2)},fd=3,bytes=9,reason=${random.below(20)}`;
      return `KQTIME-MISS;${pairs},${what},${rest};${name};`;
    }
    case "STATS": {
      const groups = Array.from({ length: random.below(4) }, (_, i) => {
        return `fd=${i},snd_sz=9,snd_len=${random.below(1e6)},rcv_sz=9,rcv_len=4,unsent=1,rtt_us=4;`;
      });
      return `KQTIME-STATS;${pairs},num_fds=${groups.length};${groups.join("")}`;
    }
    case "BOOKS": return BOOKS.trimEnd();
    case "LOSS": return `KQTIME-LOSS;${pairs},ringRecords=${random.below(9)},badRecords=0;NULL;`;
    case "META": {
      const choice = `log_min_ns=${random.below(9)},log_sample=${random.below(9)},log_seed=1`;
      return `KQTIME-META;${pairs},${choice};NULL;`;
    }
    case "FUTURE": return `KQTIME-FUTURE;${pairs};${name};`;
    case "parsed": {
      const kind = random.pick(["KQTIME-OUT", "KQTIME-IN", "KQLEN-OUT", "KQLEN-IN"]);
      return `${at()} ${kind} ${random.pick(["1.5", "2", "3e-05", "-1", ...NUMBERS])}`;
    }
    default: return `KQTIME-OUT;start=${at()},end=${at()},fd=9;;`;
  }
}

/** A line whose structure is whole, and whose values are odd. */
function oddLine(random: Random): string {
  let text = line(random);
  for (let left = random.pick([0, 0, 1, 1, 2]); left > 0; left--) {
    const how = random.below(5);
    if (how < 2) {
      const values = [...text.matchAll(/=(-?[\d.]+)/g)];
      if (values.length === 0) continue;
      const value = values[random.below(values.length)]!;
      text = text.slice(0, value.index + 1) + random.pick(NUMBERS) + text.slice(value.index + value[0].length);
    } else if (how === 2) text = text.slice(0, random.below(text.length + 1));
    else if (how === 3) text = text.slice(random.below(text.length + 1));
    else text += line(random);
  }
  return text;
}

function plain(random: Random): Uint8Array {
  let text = "";
  for (let left = 1 + random.below(12); left > 0; left--) {
    text += oddLine(random) + random.pick(["\n", "\n", "\n", "\n", "\r\n", "\n\n", "", "\0\n"]);
  }
  const bytes = new TextEncoder().encode(text);
  if (random.chance(0.3)) {
    for (let left = random.below(6); left > 0 && bytes.length > 0; left--) {
      bytes[random.below(bytes.length)] = random.pick([0, 10, 59, 44, 61, 255, 0x80, 75, random.below(256)]);
    }
  }
  return bytes;
}

/** In gzip, half of the members are those of a log, with their length in the header. */
function compress(kind: number, bytes: Uint8Array, random: Random, encoder: MemberEncoder): Uint8Array {
  const whole = bytes as Uint8Array<ArrayBuffer>;
  if (kind === 0 && random.chance(0.5) && whole.length <= MEMBER_TEXT_BYTES) {
    const member = encoder.output.slice(0, encoder.encode(whole, whole.length));
    // One that lies.
    if (random.chance(0.1)) new DataView(member.buffer).setUint32(LENGTH_AT, random.below(2 * member.length), true);
    return member;
  }
  return kind === 0 ? Bun.gzipSync(whole) : Bun.zstdCompressSync(whole);
}

/** Counts what visitors are told, and passes it on. */
class All implements LogVisitor {
  /** What parsed data is to hold, in its order: ms, or bytes. */
  readonly values: number[] = [];
  constructor(private readonly visitors: readonly LogVisitor[]) {}
  call(line: LogLine): void {
    this.values.push(line.waitNs / 1e6);
    must(line.parsed || isWhole(line), "a call without times");
    for (const visitor of this.visitors) visitor.call(line);
  }
  miss(line: LogLine): void {
    for (const visitor of this.visitors) visitor.miss(line);
  }
  queues(line: LogLine): void {
    this.values.push(...[line.sndLen, line.rcvLen].filter((bytes) => bytes >= 0));
    for (const visitor of this.visitors) visitor.queues(line);
  }
  socketQueues(line: LogLine): void {
    for (const visitor of this.visitors) visitor.socketQueues(line);
  }
  text(kind: "books" | "loss", text: string, line: LogLine): boolean {
    return this.visitors.map((visitor) => visitor.text(kind, text, line)).every(Boolean);
  }
}

/** Whether start and end stand before the name. */
function isWhole({ buffer, nameFrom }: LogLine): boolean {
  const from = buffer.lastIndexOf(10, nameFrom - 1) + 1;
  const pairs = Buffer.from(buffer.buffer, buffer.byteOffset + from, nameFrom - from).toString("latin1");
  return pairs.includes("start=") && pairs.includes("end=");
}

/** What no output of a tool may hold, whatever the log does: it could command a terminal. */
const COMMANDS = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
const PARSED = /^-?\d+\.\d{6} (KQTIME|KQLEN)-(OUT|IN) -?\d+\.\d+$/;
const BY = ["label", "name", "socket"] as const;

export class LogFuzzer implements Fuzzer {
  readonly name = "logs";
  readonly past = "a line was understood";
  readonly headBytes = HEAD_BYTES;
  readonly unitBytes = 1;
  readonly #font: Font;
  #folder = "";
  #parsed = -1;
  #xz: Uint8Array[] = [];
  readonly #encoder = new MemberEncoder(MEMBER_TEXT_BYTES, 1);

  private constructor(font: Font) {
    this.#font = font;
  }

  static async open(): Promise<LogFuzzer> {
    const fuzzer = new LogFuzzer(await Font.load());
    const { Random: Numbers } = await import("../match/random.ts");
    const random = new Numbers(1);
    // There is no xz in the runtime: what is damaged are members that the program made.
    for (let i = 0; i < 8 && Bun.which("xz") !== null; i++) {
      const made = Bun.spawnSync(["xz", "-c", "-0"], { stdin: plain(random) });
      if (made.success) fuzzer.#xz.push(made.stdout);
    }
    return fuzzer;
  }

  make(random: Random): Uint8Array {
    const bytes = random.chance(0.75) ? plain(random) : this.#archive(random);
    const input = new Uint8Array(HEAD_BYTES + bytes.length);
    input[0] = random.below(3);
    // Pages are drawn for few: each takes as long as hundreds of logs.
    input[1] = random.chance(0.002) ? 1 : 0;
    // An export takes as long as what all the others do.
    input[2] = random.below(2);
    input.set(bytes, HEAD_BYTES);
    return input;
  }

  #archive(random: Random): Uint8Array {
    const members: Uint8Array[] = [];
    const kind = random.below(this.#xz.length > 0 ? 3 : 2);
    for (let left = 1 + random.below(3); left > 0; left--) {
      let member = kind === 2 ? random.pick(this.#xz) : compress(random.chance(0.9) ? kind : 1 - kind, plain(random), random, this.#encoder);
      if (random.chance(0.4)) member = member.subarray(0, random.below(member.length + 1));
      if (random.chance(0.4)) {
        member = member.slice();
        for (let flips = 1 + random.below(3); flips > 0 && member.length > 0; flips--) {
          member[random.below(member.length)]! ^= 1 << random.below(8);
        }
      }
      members.push(member);
    }
    if (random.chance(0.2)) members.push(Uint8Array.from({ length: random.below(200) }, () => random.below(256)));
    return Buffer.concat(members);
  }

  run(input: Uint8Array): boolean {
    if (this.#folder === "") {
      this.#folder = mkdtempSync(join(tmpdir(), "kqtime-fuzz-"));
      this.#parsed = openSync(join(this.#folder, "parsed"), "a+");
    }
    const path = join(this.#folder, "log");
    const bytes = input.subarray(HEAD_BYTES);
    writeFileSync(path, bytes);
    const by = BY[input[0]! % BY.length]!;
    const window = () => new Window(null, null);
    const report = new ReportBuilder({ by, window: window() });
    const plot = new PlotSamples(window());
    const options = { by, blockNs: 1e9, resamples: 3, seed: 1 };
    const sides = [0, 1].map((index) => new SideBuilder(options, window(), index)) as [SideBuilder, SideBuilder];
    const output = new TextOutput(this.#parsed);
    const parsed = new ParsedOutput(output);
    const exported = input[2] === 0 ? new ExportCheck(join(this.#folder, "parquet")) : null;
    const all = new All([report, plot, ...sides, parsed, ...(exported === null ? [] : [exported])]);
    let result;
    try {
      result = readLogs([path], all);
    } catch (error) {
      if (!(error instanceof KQTimeError) || error.code !== "E_INPUT") throw error;
      exported?.abandon();
      return false;
    }
    exported?.finish();
    const isPlain = !(bytes[0] === 0x1f || bytes[0] === 0xfd || bytes[0] === 0x28);
    if (isPlain) {
      must(result.textBytes === bytes.length, "bytes that were not read");
      must(result.lines + result.damaged + result.unknown >= linesOf(bytes), "a line that is counted nowhere");
    }
    for (const problem of result.problems) {
      must(problem.length < 1000 && !/NaN|Infinity/.test(problem), `a strange sentence: ${problem}`);
    }
    output.flush();
    if (parsed.samples > 0) {
      const text = readFileSync(join(this.#folder, "parsed"), "latin1");
      ftruncateSync(this.#parsed);
      const lines = text.trimEnd().split("\n");
      must(lines.length === parsed.samples, `${lines.length} lines, ${parsed.samples} samples`);
      lines.forEach((one, i) => {
        must(PARSED.test(one), `parsed: ${JSON.stringify(one)}`);
        const off = Math.abs(Number(one.split(" ")[2]) - all.values[i]!);
        must(off <= 1e-6 + Math.abs(all.values[i]!) * 1e-12, `parsed ${one}, read ${all.values[i]}`);
      });
    }
    const { summary, empty, notes, from, to } = report.finish();
    if (!empty) {
      checkTables(summary);
      const table = renderSummary(summary, { columns: 100, color: false });
      for (const text of [table, notes.join("\n"), from, to, reportCsv(summary).replaceAll("\r\n", "\n")]) {
        must(!COMMANDS.test(text), `a control character in ${JSON.stringify(text.slice(0, 2000))}`);
        must(!/\bNaN\b|undefined|\[object/.test(text), `no figure: ${text}`);
      }
      for (const label of summary.labels) {
        for (const side of [label.out, label.in]) {
          if (side !== null) for (const times of [side.callNs, side.byteNs]) mustBeOrdered(times);
        }
      }
    }
    const [a, b] = sides.map((side) => side.finish());
    for (const row of compareSides(a!, b!)) {
      for (const value of [row.aNs, row.bNs, row.differenceNs]) {
        must(value === null || Number.isFinite(value), "a difference that is no number");
      }
    }
    const { model, names } = plot;
    if (input[1] === 1 && model.times.count + model.lengths.count > 0) {
      model.originSec = result.baseSec;
      model.startSec = result.logStartNs / 1e9;
      const drawing = {
        model, font: this.#font, use: "still" as const, remarks: [], nameOf: (name: number) => names.name(name),
      };
      for (const page of drawPages(drawing, null).pages) {
        must(!/[\x00-\x1f\x7f-\x9f]/.test(page.title), "a title");
      }
    }
    return result.lines > 0;
  }

  close(): void {
    this.#encoder.close();
    if (this.#folder === "") return;
    closeSync(this.#parsed);
    rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = "";
  }
}

function mustBeOrdered({ min, mean, p50, p90, p99, p999, max }: Distribution): void {
  if (min === null || max === null) return;
  const figures = [min, p50!, p90!, p99!, p999!, max];
  const ordered = figures.every((figure, i) => i === 0 || figure >= figures[i - 1]!);
  must(ordered && mean! >= min && mean! <= max, `a distribution of ${figures.join()}, mean ${mean}`);
}

/** Lines that are not empty. */
function linesOf(bytes: Uint8Array): number {
  let lines = 0;
  let empty = true;
  for (const byte of bytes) {
    if (byte === 10) {
      if (!empty) lines++;
      empty = true;
    } else {
      empty = false;
    }
  }
  return empty ? lines : lines + 1;
}
