// Faults that are planted into a copy of the sources, to show that the fuzzers find such: each takes
// a guard away, or gets a bound wrong by one.

export interface Planted {
  readonly fuzzer: string;
  readonly file: string;
  readonly was: string;
  readonly is: string;
}

const of = (fuzzer: string, file: string) => (was: string, is: string): Planted => ({ fuzzer, file, was, is });
const decoder = of("frames", "src/capture/decode.ts");
const source = of("frames", "src/capture/source.ts");
const ring = of("rings", "src/ring/ring.ts");
const rings = of("rings", "src/ring/rings.ts");
const engine = of("rings", "src/match/engine.ts");
const calls = of("rings", "src/match/calls.ts");
const scanner = of("logs", "src/analysis/log-scanner.ts");
const pairs = of("logs", "src/analysis/log-pairs.ts");
const reader = of("logs", "src/analysis/log-reader.ts");
const input = of("logs", "src/analysis/input.ts");
const books = of("logs", "src/output/books.ts");
const histogram = of("logs", "src/output/histogram.ts");
const name = of("logs", "src/output/name.ts");
const parsed = of("logs", "src/analysis/parse.ts");
const parquet = of("logs", "src/analysis/parquet.ts");
const csv = of("logs", "src/analysis/report-csv.ts");
const tape = of("recordings", "src/session/tape.ts");
const player = of("recordings", "src/session/replay.ts");
const recorded = of("recordings", "src/session/recorded.ts");
const libc = of("messages", "src/ffi/libc.ts");
const arrivals = of("messages", "src/ring/arrivals.ts");
const requests = of("messages", "src/session/requests.ts");

export const PLANTED: readonly Planted[] = [
  decoder("if (limit < ip + 20) return", "if (limit < ip + 8) return"),
  decoder("if (limit < ip + 40) return", "if (limit < ip + 32) return"),
  decoder("if (limit < tcp + 20) return", "if (limit < tcp + 12) return"),
  decoder("if (end > wire) return DecodeResult.Malformed;\n    const result = this.#tcp(bytes, limit, ip + headerBytes", "const result = this.#tcp(bytes, limit, ip + headerBytes"),
  decoder("if (headerBytes < 20 || tcp + headerBytes > end)", "if (headerBytes < 20)"),
  decoder("if (limit < offset + 8) return this.#truncated(limit);", ""),
  decoder("if (limit < offset + 4) return this.#truncated(limit);", ""),
  decoder("if (limit < offset) return this.#truncated(limit);", ""),
  decoder("const limit = capturedBytes < bytes.length ? capturedBytes : bytes.length;", "const limit = bytes.length;"),
  source("from += (bytes[options + 1] + 1) << 3;", "from += (bytes[options + 1] + 1) << 9;"),

  ring("if (mapping.bytes < size) throw", "if (mapping.bytes < 0) throw"),
  ring("slots > Constant.slotsMax || (slots & (slots - 1)) !== 0", "slots > Constant.slotsMax"),
  ring("const at = HEADER_WORDS + (tail & this.#mask) * SLOT_WORDS;\n    // Acquire", "const at = HEADER_WORDS + tail * SLOT_WORDS;\n    // Acquire"),
  ring("if (index >= this.entryCount) return false;", ""),
  ring("return Math.min(Atomics.load(this.#words, HeaderWord.entryHigh), this.entryCount);", "return Atomics.load(this.#words, HeaderWord.entryHigh);"),
  rings("if (entry >= table.ring.entryCount) {\n        this.#badRecords++;\n        return;\n      }", ""),
  rings("if (ring.backlog() > ring.slotCount) {", "if (ring.backlog() < 0) {"),
  rings("if (known !== undefined) return known;\n      throw", "return known!;\n      throw"),
  engine("if (port < 65536) this.instances.listen(port, timeNs);\n      else this.badRecords++;", "if (port >= 65536) throw new Error(`port ${port}`);"),
  calls("for (const call of held) this.#appendCall(call, Reason.concurrent);\n    }\n    held.length = 0;", "held.pop();\n    }\n    held.length = 0;"),

  pairs("if (at === first || !(value < NUMBER_LIMIT)) return -1;", "if (at === first) return -1;"),
  scanner("    this.damaged++;\n    // The last one", "    // The last one"),
  scanner("if (pairs < 0 || this.seen !== 3) return at;\n    const next = this.#lastField(bytes, pairs + 1);\n    if (next < 0) return at;\n    this.setTimes();\n    line.direction", "if (pairs < 0) return at;\n    const next = this.#lastField(bytes, pairs + 1);\n    this.setTimes();\n    line.direction"),
  scanner("while (bytes[to]! >= SPACE && bytes[to] !== SEMICOLON) to++;", "while (bytes[to] !== SEMICOLON) to++;"),
  reader("buffer[end++] = NEWLINE;", "end++;"),
  reader("held = end - newline - 1;", "held = 0;"),
  input("if (!this.#resume(decoder, decoder.failure)) return 0;", "throw new Error(decoder.failure);"),
  input("let from = Math.max(begun + 1, this.#from - KEPT_BYTES, 0);", "let from = Math.max(begun, this.#from - KEPT_BYTES, 0);"),
  books("if (!key || !value || !form.test(value)) return null;", "if (!key || !value) return null;"),
  histogram("if (!fits) throw", "if (false) throw"),
  name("const UNSAFE = /[;\\p{Cc}", "const UNSAFE = /[;"),
  parsed("if (value < 0) {", "if (value < -1e300) {"),

  parquet("if (this.#filled === this.groupRows) this.#writeGroup();", "if (this.#filled === this.groupRows + 1) this.#writeGroup();"),
  parquet("      this.#sec = sec;\n", ""),
  parquet("? cells : cells.slice(0, this.#filled);", "? cells : cells.slice(0, Math.max(1, this.#filled - 1));"),
  parquet("return Math.abs(value) < TWO_53 ? BigInt(Math.round(value)) : null;", "return BigInt(Math.round(value));"),
  parquet("if (line.parsed) this.socketQueues(line);", "this.socketQueues(line);"),
  parquet("return value > ABSENT && value < TWO_31 ? value : null;", "return value > ABSENT ? value : null;"),
  csv("`\"${plain.replaceAll('\"', '\"\"')}\"`", "`\"${plain}\"`"),

  tape("if (body + padded > chunk.length) throw damaged(path, \"a frame's length is wrong\");", ""),
  player("if (error instanceof KQTimeError) throw error;\n      throw damaged", "if (error !== null) throw error;\n      throw damaged"),
  player("if (Number.isSafeInteger(value) && value >= 0) return value;", "return value;"),
  player("if (count > this.#batch.capacity) throw damaged(this.#events, \"a batch of packets is too large\");", "while (count > this.#batch.capacity);"),
  recorded("direction: oneOf(\"in\", \"out\", \"both\"),", ""),

  libc("if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) {", "if (seals < 0 && (seals & F_SEAL_SHRINK) === 0) {"),
  libc("if (size <= 0 || size > mostBytes) {", "if (size <= 0 || size > 2 ** 36) {"),
  libc("if (received >= 0) closeForeign(view.getInt32(f, true));\n          else received", "received"),
  arrivals("if (message.length < Constant.messageHeadBytes) return false;", ""),
  arrivals("mapping?.close();\n", ""),
  requests("const path = printable(text.slice(-PATH_SHOWN));", "const path = text.slice(-PATH_SHOWN);"),
  requests("if (table < 0) {", "if (table < -1) {"),
  requests("      this.#drop(fd);\n      this.#reply(connection, -1, \"the handle was freed already", "      this.#reply(connection, -1, \"the handle was freed already"),
];
