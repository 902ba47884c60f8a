// Help texts: cac's, with what it does not know.

import type { CAC, Command } from "cac";
import { VERSION } from "../version.ts";

const RUN_EXIT_CODES = `  the command's own; 128 + n if signal n ended it
  125  an error of kqtime's own, or a command line that was not understood
  126  the command cannot be run
  127  the command was not found`;

const EXIT_CODES = `  0    done
  2    the command line was not understood
  125  any other error`;

const ATTACH_EXIT_CODES = `  0    the processes have ended, or a signal ended the measurement
  2    the command line was not understood
  125  any other error: nothing was taken over`;

const DOCTOR_EXIT_CODES = `  0    kqtime can measure here
  1    something is missing
  2    the command line was not understood`;

/** Prints the help of a command, or of kqtime. */
export function printHelp(cli: CAC, command: Command | null): void {
  cli.help((sections) => {
    sections[0] = { body: `kqtime ${VERSION}` };
    if (command !== null) {
      const body = { run: RUN_EXIT_CODES, attach: ATTACH_EXIT_CODES, doctor: DOCTOR_EXIT_CODES }[command.name] ?? EXIT_CODES;
      sections.push({ title: "Exit codes", body });
    }
    for (const section of sections) section.body = section.body.replace(/ +$/gm, "");
    return sections;
  });
  (command ?? cli).outputHelp();
}
