// The commands that read logs, declared.

import type { CAC } from "cac";
import { GROUPINGS } from "../analysis/groups.ts";
import { type Moment, parseDurationNs, parseMoment } from "../analysis/moments.ts";
import { Window } from "../analysis/window.ts";
import { type Given, usage } from "./options.ts";

const DEFAULT_RESAMPLES = 400;
const DEFAULT_SEED = 1;
const SIDES = "kqtime compare A B, or with several files of each kqtime compare A1 A2 -- B1 B2";

type Actions = Map<string, (given: Given) => Promise<number>>;

export function declareLogCommands(cli: CAC, actions: Actions): void {
  declarePlot(cli, actions);
  cli
    .command("parse [...logs]", "Print a log's samples, a line each, as libkqtime's parser did")
    .usage("parse [log…], plain or .gz, .xz, .zst; - or none: standard input")
    .example("  kqtime parse kqtime.log.gz | xz -T 6 > kqtime.dat.xz");
  actions.set("parse", async (given) => {
    const { parseCommand } = await import("./parse.ts");
    return parseCommand(given.words);
  });

  cli
    .command("report [...logs]", "Print the summary of a run from its log")
    .usage("report [options] [log…], plain or .gz, .xz, .zst; - or none: standard input")
    .option("--by <what>", "Group by label, name or socket", { default: "label" })
    .option("--since <time>", "Only calls from then on: ISO 8601, or +30s from the log's start")
    .option("--until <time>", "Only calls before then")
    .option("--json", "As JSON (docs/tools.md)")
    .option("--csv", "As CSV: a row for each group and direction")
    .example("  kqtime report kqtime.log.gz")
    .example("  kqtime report --since +30s --until +90s --by socket kqtime.log.gz");
  actions.set("report", async (given) => {
    const { reportCommand } = await import("./report.ts");
    if (given.flag("json") && given.flag("csv")) throw usage("--json or --csv, not both");
    return reportCommand({
      logs: given.words,
      by: given.choice("by", "label", GROUPINGS),
      window: windowOf(given),
      format: given.flag("json") ? "json" : given.flag("csv") ? "csv" : "table",
    });
  });

  cli
    .command("compare [...logs]", "Tell what differs between two logs, quantile by quantile")
    .usage("compare [options] <a> <b>; of several files: compare [options] <a…> -- <b…>")
    .option("--by <what>", "Group by label, name or socket", { default: "label" })
    .option("--since <time>", "Only calls from then on: ISO 8601, or +30s from each log's start")
    .option("--until <time>", "Only calls before then")
    .option("--block <time>", "Length of the blocks that are resampled", { default: "1s" })
    .option("--resamples <n>", "How many times", { default: DEFAULT_RESAMPLES })
    .option("--seed <n>", "The same seed gives the same intervals", { default: DEFAULT_SEED })
    .option("--json", "As JSON (docs/tools.md)")
    .example("  kqtime compare --since +10s vanilla.log.gz kist.log.gz")
    .example("  kqtime compare vanilla.log* -- kist.log*");
  actions.set("compare", async (given) => {
    const { compareCommand } = await import("./compare.ts");
    return compareCommand({
      logs: sidesOf(given),
      by: given.choice("by", "label", GROUPINGS),
      window: windowOf(given),
      blockNs: duration(given, "block", "1s"),
      resamples: Math.floor(given.number("resamples", DEFAULT_RESAMPLES, 20, 10000)),
      seed: Math.floor(given.number("seed", DEFAULT_SEED, 0, 2 ** 30)),
      json: given.flag("json"),
    });
  });

  cli
    .command("export [...logs]", "Write a log's samples, a row each, for other programs")
    .usage("export --parquet <file> [log…], plain or .gz, .xz, .zst; - or none: standard input")
    .option("--parquet <file>", "Write Parquet, for DuckDB, pandas, Spark, …")
    .option("--since <time>", "Only calls from then on: ISO 8601, or +30s from the log's start")
    .option("--until <time>", "Only calls before then")
    .example("  kqtime export --parquet kqtime.parquet kqtime.log.gz");
  actions.set("export", async (given) => {
    const parquet = given.path("parquet");
    if (parquet === null) throw usage("export needs --parquet <file>");
    const { exportCommand } = await import("./export.ts");
    return exportCommand({ logs: given.words, parquet, window: windowOf(given) });
  });
}

/** What `compare` is given: two files, or any number on each side of `--`. */
function sidesOf({ words, command }: Given): [string[], string[]] {
  const sides: [string[], string[]] =
    command.length > 0 ? [words, command] : [words.slice(0, 1), words.slice(1)];
  if (sides.some(({ length }) => length === 0)) throw usage(`compare needs two logs: ${SIDES}`);
  if (command.length === 0 && words.length > 2) throw usage(`compare takes two logs: ${SIDES}`);
  if (sides.every((side) => side.includes("-"))) throw usage("standard input (-) can be read once");
  return sides;
}

function duration(given: Given, name: string, otherwise: string): number {
  const text = given.text(name) ?? otherwise;
  const found = parseDurationNs(text);
  if (found !== null && found > 0) return found;
  throw usage(`--${name} takes a length of time as 1s, 250ms or 1m, not "${text}"`);
}

function windowOf(given: Given): Window {
  return new Window(moment(given, "since"), moment(given, "until"));
}

function declarePlot(cli: CAC, actions: Actions): void {
  cli
    .command("plot [...logs]", "Draw queue times and lengths, from a log or parsed data")
    .usage("plot [options] [log…], plain or .gz, .xz, .zst; - or none: standard input")
    .option("-o, --output <file>", "Picture to write: .pdf, .svg, .png or .html", {
      default: "kqtimes.pdf",
    })
    .option("--socket <n>", "Time–sequence graph of a socket, from a folder of run --record")
    .option("--pages <names>", "Only these pages, separated by commas (docs/plot.md)")
    .option("--since <time>", "Only calls from then on: ISO 8601, or +30s from the log's start")
    .option("--until <time>", "Only calls before then")
    .example("  kqtime plot kqtime.log.gz")
    .example("  kqtime plot -o cdf.svg --pages time-cdf kqtime.log.gz")
    .example("  kqtime plot -o socket.html --socket 3 recording/");
  actions.set("plot", async (given) => {
    const { DEFAULT_PICTURE, plotCommand } = await import("./plot.ts");
    return plotCommand({
      logs: given.words,
      output: given.path("output") ?? DEFAULT_PICTURE,
      pages: given.text("pages"),
      window: windowOf(given),
      socket: given.text("socket") === null ? null : given.number("socket", 0, 0, 2 ** 53),
    });
  });
}

function moment(given: Given, name: string): Moment | null {
  const text = given.text(name);
  if (text === null) return null;
  const found = parseMoment(text);
  if (found !== null) return found;
  throw usage(
    `--${name} takes a time as 2026-11-23T12:00:00+01:00 (without a zone: local) or +30s, not "${text}"`,
  );
}
