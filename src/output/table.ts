// The summary for a terminal. Two layouts: from 100 columns the label stands in a column of its
// own, below that on a line of its own. Nothing is wider than the terminal from 80 columns up.

import { printable } from "./name.ts";
import type {
  BothSummary,
  Distribution,
  InSummary,
  Losses,
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
const PIDS_SHOWN = 8;
const HEADS = ["p50", "p90", "p99", "p99.9", "max"];

const LOSS_TEXT: Record<keyof Losses, string> = {
  ringRecords: "records dropped, the ring was full",
  memoryRecords: "records dropped, no memory for the ring",
  capturePackets: "packets dropped by the capture",
  interfacePackets: "packets dropped by the interface",
  badRecords: "records that made no sense",
  badPackets: "packets that could not be decoded",
  fragments: "IP fragments that could not be joined",
  logLines: "lines of the log not written",
  tableSockets: "sockets not measured, the table was full",
  descriptorSockets: "sockets not measured, descriptor too high",
  addressSockets: "sockets without known addresses",
  inheritedRings: "processes in an inherited ring",
};

/** `text` cut to `width` columns of the terminal, with an ellipsis if it was longer. */
function fit(text: string, width: number): string {
  if (Bun.stringWidth(text) <= width) return text;
  let kept = "";
  let used = 0;
  for (const character of text) {
    const columns = Bun.stringWidth(character);
    if (used + columns > width - 1) break;
    kept += character;
    used += columns;
  }
  return `${kept}…`;
}

function padEnd(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
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
    const labels = summary.labels.slice(0, LABELS_SHOWN);
    if (this.#columns >= WIDE) {
      const widths = labels.map((entry) => Bun.stringWidth(entry.label));
      const most = this.#columns - FIGURES - 1;
      this.#labelColumns = Math.min(most, Math.max("all labels".length, ...widths)) + 1;
    }
    this.#head(summary);
    const out = "Outbound: from the call to the network device";
    this.#directionTable(out, summary, labels, (entry) => entry.out);
    const inbound = "Inbound: from the network device to the return of the call";
    this.#directionTable(inbound, summary, labels, (entry) => entry.in);
    this.#books(summary);
    this.#losses(summary.losses);
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
    const name = printable(command.join(" "));
    this.#push(fit(`kqtime ${printable(summary.version)}: ${name}`, this.#columns), "1");
    const end = signal !== null ? `ended by ${signal}` : exitCode !== null ? `exit ${exitCode}` : "";
    const more = pids.length > PIDS_SHOWN ? ` and ${pids.length - PIDS_SHOWN} more` : "";
    const listed = pids.slice(0, PIDS_SHOWN).join(", ");
    const who = pids.length === 0 ? "" : `${pids.length === 1 ? "pid" : "pids"} ${listed}${more}`;
    const facts = [formatTime(summary.durationNs), end, who].filter((fact) => fact !== "");
    for (const line of wrap(facts.join(", "), this.#columns, "")) this.#push(line);
  }

  #directionTable<Side extends OutSummary | InSummary>(
    title: string,
    summary: Summary,
    labels: readonly ({ label: string } & BothSummary)[],
    side: (entry: BothSummary) => Side,
  ): void {
    this.#push("");
    this.#push(title, "1");
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
    if (width === 0) this.#push(fit(label, this.#columns));
    const first = width === 0 ? "" : padEnd(fit(label, width - 1), width);
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
      this.#push(bookRow(text, exact(left), exact(right)));
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
    const { sockets, calls, bytes } = summary.datagram;
    if (sockets > 0 || calls > 0) {
      const text =
        `not measured: datagram sockets (${formatCount(sockets)} sockets, ` +
        `${formatCount(calls)} calls, ${formatBytes(bytes)})`;
      for (const line of wrap(text, this.#columns, "  ")) this.#push(line);
    }
  }

  #losses(losses: Losses): void {
    const keys = (Object.keys(LOSS_TEXT) as (keyof Losses)[]).filter((key) => losses[key] > 0);
    this.#push("");
    this.#push(keys.length === 0 ? "Losses: none" : "Losses", "1");
    for (const key of keys) {
      this.#push(`${formatExact(losses[key]).padStart(15)} ${LOSS_TEXT[key]}`, "33");
    }
  }
}

function times(kind: string, distribution: Distribution): string {
  const { p50, p90, p99, p999, max } = distribution;
  const cells = [p50, p90, p99, p999, max].map((ns) => formatTime(ns).padStart(8)).join("");
  return `  ${kind}${cells}`;
}

function exact(value: number | null): string {
  return value === null ? "" : formatExact(value);
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
