// The commands that read logs, declared.

import type { CAC } from "cac";
import type { Given } from "./options.ts";

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
}
