// The summary for a terminal. Two layouts: from 100 columns the label stands in a column of its
// own, below that on a line of its own. Nothing is wider than the terminal from 80 columns up.

import { fit, fitMiddle, padEnd } from "./fit.ts";
import { lossesOf, lossText } from "./losses.ts";
import { NO_NAME, printable, readableName } from "./name.ts";
import type {
  BothSummary,
  Distribution,
  InSummary,
  OutSummary,
  Summary,
} from "./summary.ts";
import { formatBytes, formatCount, formatExact, formatShare, formatTime } from "./units.ts";

export interface TableOptions {
  columns: number;
  color: boolean;
}

/** Columns that the figures of a label take, without the label. */
const FIGURES = 79;
const WIDE = 100;
/** Labels shown; the rest is in the JSON. */
const LABELS_SHOWN = 30;
const PIDS_SHOWN = 3;
const HEADS = ["p50", "p90", "p99", "p99.9", "max"];

/** An argument as a shell takes it. */
function quoted(argument: string): string {
  if (/^[\w@%+=:,./-]+$/.test(argument)) return argument;
  return `'${argument.replaceAll("'", "'\\''")}'`;
}

/** Breaks a sentence between words into lines of at most `width` columns. */
function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && Bun.stringWidth(`${line} ${word}`) > width) {
      lines.push(line);
      line = indent + word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines;
}

class Table {
  readonly lines: string[] = [];
  readonly #columns: number;
  readonly #color: boolean;
  #labelColumns = 0;

  constructor(options: TableOptions) {
    this.#columns = Math.max(40, Math.floor(options.columns) || 0);
    this.#color = options.color;
  }

  render(summary: Summary): string {
    const labels = shownLabels(summary);
    if (this.#columns >= WIDE) {
      const widths = labels.map((entry) => Bun.stringWidth(entry.label));
      const most = this.#columns - FIGURES - 1;
      this.#labelColumns = Math.min(most, Math.max("all labels".length, ...widths)) + 1;
    }
    this.#head(summary);
    if (isEmpty(summary)) {
      this.#push("");
      this.#sentence(nothingSeen(summary));
      this.#datagrams(summary);
      return `${this.lines.join("\n")}\n`;
    }
    this.#legend(labels);
    const out = "Outbound: from the call to the network device";
    this.#directionTable(out, "out", summary, labels, (entry) => entry.out);
    const inbound = "Inbound: from the network device to the return of the call";
    this.#directionTable(inbound, "in", summary, labels, (entry) => entry.in);
    this.#books(summary);
    this.#losses(summary);
    return `${this.lines.join("\n")}\n`;
  }

  #styled(code: string, text: string): string {
    return this.#color && text !== "" ? `\x1b[${code}m${text}\x1b[0m` : text;
  }

  #push(line: string, code = ""): void {
    const trimmed = line.trimEnd();
    this.lines.push(code === "" ? trimmed : this.#styled(code, trimmed));
  }

  #head(summary: Summary): void {
    for (const warning of summary.warnings) {
      const text = `warning: ${printable(warning)}`;
      for (const line of wrap(text, this.#columns, "  ")) this.#push(line, "1;31");
    }
    if (summary.warnings.length > 0) this.#push("");
    const { command, exitCode, signal, pids } = summary.target;
    const name = command.map((word) => quoted(printable(word))).join(" ");
    this.#push(fit(`kqtime ${printable(summary.version)}: ${name}`, this.#columns), "1");
    const end = signal !== null ? `ended by ${signal}` : exitCode !== null ? `exit ${exitCode}` : "";
    const more = pids.length > PIDS_SHOWN ? ` and ${pids.length - PIDS_SHOWN} more` : "";
    const listed = pids.slice(0, PIDS_SHOWN).join(", ");
    const who = pids.length === 0 ? "" : `${pids.length === 1 ? "pid" : "pids"} ${listed}${more}`;
    const facts = [formatTime(summary.durationNs), end, who].filter((fact) => fact !== "");
    for (const line of wrap(facts.join(", "), this.#columns, "")) this.#push(line);
  }

  #sentence(text: string, code = ""): void {
    for (const line of wrap(text, this.#columns, "  ")) this.#push(line, code);
  }

  /** What the columns mean that do not say it themselves. */
  #legend(labels: readonly ShownLabel[]): void {
    const ports = labels.some(({ label }) => /^(out|in):/.test(label));
    const label = "label: out:PORT = the program connected to PORT, in:PORT = it accepted on PORT; ";
    const weight = "by call / by byte: how the percentiles are weighted";
    this.#push("");
    this.#sentence((ports ? label : "") + weight, "2");
  }

  #directionTable<Side extends OutSummary | InSummary>(
    title: string,
    direction: "out" | "in",
    summary: Summary,
    labels: readonly ShownLabel[],
    side: (entry: BothSummary) => Side,
  ): void {
    this.#push("");
    this.#push(title, "1");
    if (!isMeasured(summary, direction)) {
      this.#push(`not measured (--direction ${summary.direction})`);
      return;
    }
    const total = side(summary.directions);
    const active = labels.filter((entry) => hasTraffic(side(entry)));
    if (!hasTraffic(total)) {
      this.#push("no bytes");
      return;
    }
    const heads = HEADS.map((head) => head.padStart(8)).join("");
    const label = this.#labelColumns > 0 ? padEnd("label", this.#labelColumns) : "";
    this.#push(`${label}sockets   calls    bytes coverage    by${heads}`, "2");
    for (const entry of active) this.#side(entry.label, side(entry));
    const hidden = summary.labels.slice(LABELS_SHOWN).filter((entry) => hasTraffic(side(entry)));
    if (hidden.length > 0) {
      this.#push(`and ${formatCount(hidden.length)} more labels, in the JSON summary`, "2");
    }
    if (active.length + hidden.length !== 1) this.#side("all labels", total);
  }

  /** Figures of one label in one direction: a line by call, a line by byte, if need be a third. */
  #side(label: string, side: OutSummary | InSummary): void {
    const width = this.#labelColumns;
    const indent = " ".repeat(width);
    if (width === 0) this.#push(fitMiddle(label, this.#columns));
    const first = width === 0 ? "" : padEnd(fitMiddle(label, width - 1), width);
    const sums =
      formatCount(side.sockets).padStart(7) +
      formatCount(side.calls).padStart(8) +
      formatBytes(side.bytesCalled).padStart(9) +
      formatShare(side.coverage).padStart(9);
    this.#push(first + sums + times("call", side.callNs));
    const again = side.bytesRetransmitted;
    const note = again > 0 ? `${formatBytes(again)} retransmitted` : "";
    this.#push(indent + note.padStart(33) + times("byte", side.byteNs));
    if ("reassemblyNs" in side && (side.reassemblyNs.max ?? 0) > 0) {
      const wait = "waiting for missing bytes".padStart(33);
      this.#push(indent + wait + times("byte", side.reassemblyNs));
    }
  }

  /** Exact sums, so that a reader can add them up. */
  #books(summary: Summary): void {
    const { out, in: inbound } = summary.directions;
    this.#push("");
    this.#push(bookRow("Books, in bytes", "outbound", "inbound"), "1");
    const row = (text: string, left: number | null, right: number | null): void => {
      const cell = (value: number | null, direction: "out" | "in") =>
        value === null ? "" : isMeasured(summary, direction) ? formatExact(value) : "–";
      this.#push(bookRow(text, cell(left, "out"), cell(right, "in")));
    };
    row("called", out.bytesCalled, inbound.bytesCalled);
    row("  matched", out.bytesMatched, inbound.bytesMatched);
    row("  in flight at the end", out.bytesInFlight, null);
    const reasons = Object.keys({ ...out.bytesUnmatched, ...inbound.bytesUnmatched });
    for (const reason of reasons) {
      const left = out.bytesUnmatched[reason] ?? 0;
      row(`  unmatched: ${reason}`, left, inbound.bytesUnmatched[reason] ?? 0);
    }
    if (reasons.length === 0) row("  unmatched", 0, 0);
    if (!summary.booksBalance) {
      this.#push("THE BOOKS DO NOT BALANCE: see the warnings above", "1;31");
    }
    row("not called, on the wire: unread", null, inbound.bytesUnread);
    row("not called, on the wire: unexplained", out.bytesUnexplained, inbound.bytesUnexplained);
    row("retransmitted", out.bytesRetransmitted, inbound.bytesRetransmitted);
    const waiting = [
      ...(out.oldestUnsentNs === null ? [] : [`unsent for ${formatTime(out.oldestUnsentNs)}`]),
      ...(inbound.oldestUnreadNs === null ? [] : [`unread for ${formatTime(inbound.oldestUnreadNs)}`]),
    ];
    if (waiting.length > 0) this.#sentence(`the oldest byte at the end: ${waiting.join(", ")}`);
    this.#datagrams(summary);
  }

  #datagrams(summary: Summary): void {
    const { datagram: { sockets, calls, bytes }, otherSockets } = summary;
    for (const [kind, count] of Object.entries(otherSockets)) {
      this.#sentence(`not measured: ${formatCount(count)} ${kind} socket${count === 1 ? "" : "s"}`);
    }
    if (sockets > 0 || calls > 0) {
      this.#sentence(
        `not measured: ${formatCount(sockets)} datagram socket${sockets === 1 ? "" : "s"} ` +
          `(${formatCount(calls)} call${calls === 1 ? "" : "s"}, ${formatBytes(bytes)})`,
      );
    }
  }

  #losses(summary: Summary): void {
    const { losses } = summary;
    const keys = lossesOf(losses);
    this.#push("");
    if (keys.length === 0) {
      const { out, in: inbound } = summary.directions;
      const all = [out, inbound].every(({ bytesUnmatched }) => Object.keys(bytesUnmatched).length === 0);
      this.#push(all ? "Losses: none" : "Losses: none; bytes are unmatched for the reasons above", "1");
      return;
    }
    this.#push("Losses", "1");
    for (const key of keys) {
      const count = losses[key];
      this.#push(`${formatExact(count).padStart(15)} ${lossText(key, count)}`, "33");
    }
  }
}

type ShownLabel = { label: string } & BothSummary;

/** The labels that have rows of their own; where no socket has one, their row stands for all. */
function shownLabels(summary: Summary): ShownLabel[] {
  const [only] = summary.labels;
  if (summary.labels.length === 1 && only!.label === NO_NAME) return [{ ...only!, label: "all" }];
  return summary.labels
    .slice(0, LABELS_SHOWN)
    .map((entry) => ({ ...entry, label: readableName(entry.label) }));
}

function isMeasured(summary: Summary, direction: "out" | "in"): boolean {
  return summary.direction === "both" || summary.direction === direction;
}

/** Nothing moved and nothing was lost: there is nothing to tabulate. */
function isEmpty(summary: Summary): boolean {
  const { out, in: inbound } = summary.directions;
  return !hasTraffic(out) && !hasTraffic(inbound) && lossesOf(summary.losses).length === 0;
}

const MOVED = { both: "exchanged", out: "sent", in: "received" } as const;

function nothingSeen({ direction, target }: Summary): string {
  const processes = target.pids.length === 1 ? "1 process" : `${target.pids.length} processes`;
  return (
    `no TCP bytes were ${MOVED[direction]} by the processes that loaded the preload library ` +
    `(${processes}); programs that clear their environment, are static or setuid are not seen`
  );
}

function times(kind: string, distribution: Distribution): string {
  const { p50, p90, p99, p999, max } = distribution;
  const cells = [p50, p90, p99, p999, max].map((ns) => formatTime(ns).padStart(8)).join("");
  return `  ${kind}${cells}`;
}

function bookRow(text: string, left: string, right: string): string {
  return text.padEnd(37) + left.padStart(21) + right.padStart(21);
}

function hasTraffic(side: OutSummary | InSummary): boolean {
  return (
    side.calls > 0 ||
    side.bytesCalled > 0 ||
    side.bytesUnexplained > 0 ||
    ("bytesUnread" in side && side.bytesUnread > 0)
  );
}

/** The summary as text, lines of at most `columns` (from 80 up) with a newline at the end. */
export function renderSummary(summary: Summary, options: TableOptions): string {
  return new Table(options).render(summary);
}
