// The commands that read logs, declared.

import type { CAC } from "cac";
import { GROUPINGS } from "../analysis/groups.ts";
import { type Moment, parseMoment } from "../analysis/moments.ts";
import { type Given, usage } from "./options.ts";

type Actions = Map<string, (given: Given) => Promise<number>>;

export function declareLogCommands(cli: CAC, actions: Actions): void {
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
      since: moment(given, "since"),
      until: moment(given, "until"),
      format: given.flag("json") ? "json" : given.flag("csv") ? "csv" : "table",
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
