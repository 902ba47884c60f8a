// `kqtime plot`: pictures of logs or parsed data.

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Window } from "../analysis/window.ts";
import { ExitCode, KQTimeError } from "../errors.ts";
import { Font } from "../plot/fonts.ts";
import { drawPages, PAGE_IDS } from "../plot/pages.ts";
import { WholeFile } from "../output/whole-file.ts";
import { FORMATS, formatOf, KINDS, renderPicture } from "../plot/picture.ts";
import { remarksOn } from "../plot/remarks.ts";
import { PlotSamples } from "../plot/samples.ts";
import { sequencePages } from "../plot/sequence/pages.ts";
import { traceSocket } from "../plot/sequence/trace.ts";
import type { Page, Use } from "../plot/spec.ts";
import { EVENTS_FILE } from "../session/tape.ts";
import { expectNotInput, readGiven } from "./logs.ts";
import { usage } from "./options.ts";
import { warn } from "./stderr.ts";

export const DEFAULT_PICTURE = "kqtimes.pdf";

export interface PlotCommand {
  readonly logs: readonly string[];
  readonly output: string;
  /** Names of pages, separated by commas; null: all. */
  readonly pages: string | null;
  /** Number of a socket of a recording, whose folder stands in the place of logs; null: logs. */
  readonly socket: number | null;
  readonly window: Window;
}

/** Returns the exit code. @throws KQTimeError */
export async function plotCommand(options: PlotCommand): Promise<number> {
  const { output } = options;
  const format = formatOf(output);
  if (format === null) {
    const ends = FORMATS.map((end) => `.${end}`).join(", ");
    const what = `a name that ends in ${ends}, which tells the format`;
    throw usage(`--output takes ${what}, not "${output}"`);
  }
  expectInput(options);
  const ids = pageIds(options.pages);
  expectNotInput(output, options.logs);
  // Begun now, so that it fails before a long log is read.
  const file = new WholeFile(output, KINDS[format]);
  try {
    const font = await Font.load();
    const use = format === "html" ? "interactive" : "still";
    const pages =
      options.socket === null
        ? logPages(options, ids, font, use)
        : socketPages(options, options.socket, font, use);
    file.write(await renderPicture(format, pages, font));
    file.finish();
  } catch (error) {
    file.abandon();
    throw error;
  }
  return ExitCode.Ok;
}

function logPages(
  { logs, window }: PlotCommand,
  ids: string[] | null,
  font: Font,
  use: Use,
): Page[] {
  const samples = new PlotSamples(window);
  const result = readGiven("plot", logs, samples);
  const { model, names } = samples;
  model.originSec = result.baseSec;
  model.startSec = result.logStartNs / 1e9;
  if (model.times.count + model.lengths.count === 0) {
    throw new KQTimeError("E_EMPTY", "plot", noSamples(window));
  }
  const remarks = remarksOn(result, samples);
  const source = { model, font, use, remarks, nameOf: (name: number): string => names.name(name) };
  const { pages, leftOut } = drawPages(source, ids);
  for (const { id, why } of leftOut) warn(`page ${id} is left out: ${why}`);
  if (pages.length === 0) throw new KQTimeError("E_EMPTY", "plot", "none of these pages has data");
  return pages;
}

function noSamples(window: Window): string {
  const what = window.whole ? "the input has" : "this window holds";
  return `no samples to plot: ${what} no call with a time`;
}

function socketPages({ logs, window }: PlotCommand, sock: number, font: Font, use: Use): Page[] {
  const trace = traceSocket(logs[0]!, sock, window, warn);
  const pages = sequencePages({ font, use, remarks: [] }, trace);
  if (pages.length > 0) return pages;
  const what = `socket ${sock} has no call and no packet in this window`;
  throw new KQTimeError("E_EMPTY", "plot", what);
}

/** Logs, or one folder of a recording, are not taken for each other. */
function expectInput({ pages, socket, logs }: PlotCommand): void {
  if (socket === null) {
    const folder = logs.find(isFolder);
    if (folder === undefined) return;
    throw usage(
      existsSync(join(folder, EVENTS_FILE))
        ? `${folder} is a recording: draw one of its sockets with --socket N, or plot its log, ` +
            `which kqtime replay --log FILE ${folder} makes`
        : `${folder} is a folder: name the logs in it`,
    );
  }
  if (logs.length !== 1 || pages !== null) {
    throw usage("--socket takes one folder of `kqtime run --record`, and no --pages");
  }
  if (existsSync(logs[0]!) && !isFolder(logs[0]!)) {
    throw usage(`--socket takes the folder of \`kqtime run --record\`, not a file as ${logs[0]}`);
  }
}

/** False also where nobody can tell: then reading it fails, and says why. */
function isFolder(path: string): boolean {
  try {
    return path !== "-" && statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function pageIds(wanted: string | null): string[] | null {
  if (wanted === null) return null;
  const ids = wanted.split(",").map((id) => id.trim());
  const unknown = ids.find((id) => !PAGE_IDS.includes(id));
  if (unknown === undefined) return ids;
  throw usage(`--pages takes ${PAGE_IDS.join(", ")}, separated by commas, not "${unknown}"`);
}
