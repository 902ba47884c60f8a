// A long run at a steady rate, with books that must agree to the byte with what the programs at both
// ends counted themselves, and a collector that must not grow.
//
//     bun run soak [--seconds N] [--mbit N] [--connections N]
//
// Two namespaces joined by a veth, shaped by a tbf; a sender and a receiver, each under a kqtime of its
// own with everything on: a log in files that follow each other, intervals, queue lengths. Nothing may be
// lost. Prints what it found; exits 1 if something is wrong. Needs root. Ten minutes at 1 Gbit/s unless told otherwise.

import { readFileSync } from "node:fs";
import { IN, OUT, type Direction } from "../test/lib/calllog.ts";
import { fixture } from "../test/lib/fixtures.ts";
import { directionOf, Measurement, type Summary } from "../test/lib/kqtime.ts";
import { type Lab, type Node, shapeDevice, withLab } from "../test/lib/network.ts";

const options = { seconds: 600, mbit: 1000, connections: 8 };

const SIZE = 16_384;
const PORT = 7900;
const SAMPLE_MS = 250;
/** Of the samples that there should be: fewer say nothing of the memory. */
const SAMPLES_LEAST = 0.5;
const INTERVAL_SECONDS = 2;
/** What the second half may have more than the first: the garbage collector's doing. */
const GROWTH_MIB = 24;
/** Each side: the capture's buffer is 64 of them. */
const MOST_MIB = 400;

class Side {
  readonly measurement: Measurement;
  readonly intervals: string;
  readonly rssMib: number[] = [];

  constructor(lab: Lab, readonly name: string, node: Node, command: readonly string[]) {
    this.intervals = lab.scope.path(`${name}.jsonl`);
    this.measurement = new Measurement(lab.scope, command, {
      prefix: node.prefix,
      options: [
        "--log", lab.scope.path(`${name}.log`), "--log-size", "64M", "--log-count", "3",
        "--interval", `${INTERVAL_SECONDS}`, "--interval-log", this.intervals,
      ],
    });
  }

  sample(): void {
    try {
      const status = readFileSync(`/proc/${this.measurement.running.pid}/status`, "utf8");
      const kib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? NaN);
      if (kib > 0) this.rssMib.push(kib / 1024);
    } catch {
      // It has ended.
    }
  }

  /** What is wrong with it; `bytes` is what its program says that it moved. */
  check(direction: Direction, bytes: number): string[] {
    const wrong: string[] = [];
    const summary = this.measurement.summary();
    const word = direction === OUT ? "out" : "in";
    const books = directionOf(summary, direction);
    const unmatched = Object.values(books.bytesUnmatched).reduce((sum, each) => sum + each, 0);
    const inFlight = books.bytesInFlight ?? 0;
    const expectSame = (what: string, found: number, wanted: number) => {
      if (found !== wanted) wrong.push(`${this.name}: ${what}: ${found}, not ${wanted}`);
    };
    expectSame("bytes called, against the program's own count", books.bytesCalled, bytes);
    expectSame("matched + unmatched + in flight", books.bytesMatched + unmatched + inFlight, bytes);
    expectSame("in flight", inFlight, 0);
    expectSame("unexplained", books.bytesUnexplained, 0);
    expectSame("unread", books.bytesUnread ?? 0, 0);
    if (!summary.booksBalance) wrong.push(`${this.name}: the books do not balance`);
    if (books.coverage !== 1) wrong.push(`${this.name}: coverage is ${books.coverage}, not 1`);
    for (const [reason, missed] of Object.entries(books.bytesUnmatched)) {
      wrong.push(`${this.name}: ${missed} bytes are ${reason}`);
    }
    for (const [loss, count] of Object.entries(summary.losses)) expectSame(loss, count, 0);
    const lines = readFileSync(this.intervals, "utf8").trim().split("\n");
    const intervals = lines.map((line) => JSON.parse(line) as Summary);
    for (const key of ["bytesCalled", "bytesMatched", "calls"] as const) {
      const sum = intervals.reduce((total, each) => total + each.directions[word][key], 0);
      expectSame(`${key} of all intervals together`, sum, books[key]);
    }
    const due = (options.seconds * 1000) / SAMPLE_MS;
    if (this.rssMib.length < Math.max(2, due * SAMPLES_LEAST)) {
      wrong.push(`${this.name}: kqtime's memory was seen ${this.rssMib.length} times, not ${due}`);
    }
    const { first, second } = this.memory();
    if (second > first + GROWTH_MIB) {
      wrong.push(`${this.name}: kqtime grew from ${first.toFixed(0)} to ${second.toFixed(0)} MiB`);
    }
    if (second > MOST_MIB) wrong.push(`${this.name}: kqtime had ${second.toFixed(0)} MiB`);
    return wrong;
  }

  /** The most that it had in the first half, and in the second. */
  memory(): { first: number; second: number } {
    const half = this.rssMib.length >> 1;
    const most = (part: number[]) => Math.max(0, ...part);
    return { first: most(this.rssMib.slice(0, half)), second: most(this.rssMib.slice(half)) };
  }

  tell(direction: Direction): string {
    const { losses, directions } = this.measurement.summary();
    const books = direction === OUT ? directions.out : directions.in;
    const { first, second } = this.memory();
    const lost = Object.entries(losses).filter(([, count]) => count > 0).map(([key, count]) => `${key} ${count}`);
    return `${this.name}: ${books.bytesCalled} bytes called in ${books.calls} calls, ${books.bytesMatched} matched, ` +
      `unmatched ${JSON.stringify(books.bytesUnmatched)}, losses: ${lost.join(", ") || "none"}; ` +
      `kqtime had ${first.toFixed(0)} MiB, then ${second.toFixed(0)} MiB`;
  }
}

async function soak(lab: Lab): Promise<string[]> {
  const { scope, left, right } = lab;
  const { seconds, mbit, connections } = options;
  // As much as the link carries in two ticks of a slow kernel: less would not reach the rate.
  const burstBytes = Math.max(64_000, Math.ceil((mbit * 1e6) / 8 / 50));
  await shapeDevice(left.name, left.device, { rate: `${mbit}mbit`, burstBytes });
  const program = await fixture("flow");
  const words = [
    "--address", right.v4, "--port", `${PORT}`, "--conns", `${connections}`, "--seconds", `${seconds}`,
    "--size", `${SIZE}`, "--content", "zero", "--congestion", "cubic",
  ];
  const receiver = new Side(lab, "receiver", right, [program, "server", ...words]);
  await receiver.measurement.running.says(/ready/);
  const sender = new Side(lab, "sender", left, [program, "client", ...words]);
  const timer = setInterval(() => {
    sender.sample();
    receiver.sample();
  }, SAMPLE_MS);
  scope.finally(() => clearInterval(timer));
  const limitMs = (seconds + 60) * 1000;
  const [sent, received] = await Promise.all([
    sender.measurement.running.success(limitMs), receiver.measurement.running.success(limitMs),
  ]);
  clearInterval(timer);
  const count = (text: string, key: string) => Number(new RegExp(`${key}=([\\d.]+)`).exec(text)?.[1]);
  const bytes = count(sent.stdout, "sent");
  const rate = (bytes * 8) / count(received.stdout, "seconds") / 1e6;
  console.log(`${bytes} bytes sent, ${count(received.stdout, "received")} received, ${rate.toFixed(0)} Mbit/s`);
  console.log(sender.tell(OUT));
  console.log(receiver.tell(IN));
  const arrived = count(received.stdout, "received");
  const wrong = [...sender.check(OUT, bytes), ...receiver.check(IN, arrived)];
  if (bytes !== arrived) wrong.push(`${bytes} bytes were sent, and ${arrived} received`);
  // Slower, it is another run than the one that was asked for.
  if (!(rate >= mbit * 0.8)) wrong.push(`only ${rate.toFixed(0)} of ${mbit} Mbit/s were reached`);
  return wrong;
}

function parse(argv: readonly string[]): string | null {
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i]!.replace(/^--/, "") as keyof typeof options;
    const value = Number(argv[i + 1]);
    if (!Object.hasOwn(options, name)) return `there is no option ${argv[i]}`;
    if (!Number.isInteger(value) || value < 1) return `${argv[i]} takes a whole number`;
    options[name] = value;
  }
  return null;
}

const mistake = parse(process.argv.slice(2));
if (mistake !== null) {
  console.error(`soak: ${mistake}: bun run soak [--seconds N] [--mbit N] [--connections N]`);
  process.exit(2);
}
const wrong = await withLab({}, soak);
for (const what of wrong) console.error(`wrong: ${what}`);
console.log(wrong.length === 0 ? "the books agree to the byte" : `${wrong.length} things are wrong`);
process.exit(wrong.length === 0 ? 0 : 1);
