// `kqtime report`: the table of `kqtime run`, from a log, on standard output.

import { type Report, ReportBuilder, type ReportOptions } from "../analysis/report.ts";
import { reportCsv } from "../analysis/report-csv.ts";
import { TextOutput } from "../analysis/text-output.ts";
import { ExitCode } from "../errors.ts";
import { renderSummary } from "../output/table.ts";
import { formatBytes, formatCount } from "../output/units.ts";
import { holdsNo, readGiven } from "./logs.ts";

const COLUMNS = 100;
/** The table's last line, which a log that says nothing of losses cannot vouch for. */
const NO_LOSSES = /\s*(?:\x1b\[\d+m)?Losses: none.*\s*$/;

export interface ReportCommand extends ReportOptions {
  readonly logs: readonly string[];
  readonly format: "table" | "json" | "csv";
}

/** Returns the exit code. @throws KQTimeError */
export function reportCommand(options: ReportCommand): number {
  const builder = new ReportBuilder(options);
  const result = readGiven("report", options.logs, builder);
  const report = builder.finish();
  if (report.empty) throw holdsNo("call", "report", options.logs, options.window);
  const output = new TextOutput();
  if (options.format === "csv") {
    output.put(reportCsv(report.summary));
  } else if (options.format === "json") {
    const { summary, empty, ...covered } = report;
    const { lines, damaged, unknown, lineChoices } = result;
    const counts = { lines, damagedLines: damaged, unknownLines: unknown };
    const more = { ...covered, logs: options.logs, lineChoices, ...counts };
    output.put(`${JSON.stringify({ ...summary, report: more }, null, 2)}\n`);
  } else {
    const name = options.logs.length === 0 ? "standard input" : options.logs.join(", ");
    output.put(reportText(report, name));
  }
  return ExitCode.Ok;
}

function reportText(report: Report, name: string): string {
  const { isTTY, columns: wide } = process.stdout;
  const columns = isTTY === true ? Math.max(80, Math.min(wide, 160)) : COLUMNS;
  const color = isTTY === true && !process.env.NO_COLOR;
  // The log does not know the command.
  const target = { ...report.summary.target, command: ["report", name] };
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const lines = [`from ${report.from} to ${report.to} (${zone})`];
  for (const note of report.notes) lines.push(...wrapped(`note: ${note}`, columns));
  let table = renderSummary({ ...report.summary, target }, { columns, color });
  if (!report.lossesKnown) table = table.replace(NO_LOSSES, "");
  lines.push("", table.trimEnd());
  const { out, in: inbound } = report.queues;
  for (const [title, queue] of [["Send queues", out], ["Receive queues", inbound]] as const) {
    if (queue.samples === 0) continue;
    const figure = (bytes: number | null): string => (bytes === null ? "-" : formatBytes(bytes));
    lines.push(
      `${title}, all sockets together: p50 ${figure(queue.p50)}, p90 ${figure(queue.p90)}, ` +
        `p99 ${figure(queue.p99)}, max ${figure(queue.max)} ` +
        `(${formatCount(queue.samples)} ${queue.samples === 1 ? "sample" : "samples"})`,
    );
  }
  return `${lines.join("\n")}\n`;
}

/** Breaks a sentence between words. */
function wrapped(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = `  ${word}`;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
