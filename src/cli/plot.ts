// `kqtime plot`: pictures of logs or parsed data.

import type { ReadResult } from "../analysis/log-reader.ts";
import type { Window } from "../analysis/window.ts";
import { ExitCode, KQTimeError } from "../errors.ts";
import { formatBytes, formatExact } from "../output/units.ts";
import { Font } from "../plot/fonts.ts";
import { counted, type Drawing } from "../plot/page.ts";
import { drawPages, PAGE_IDS } from "../plot/pages.ts";
import { FORMATS, formatOf, renderPicture } from "../plot/picture.ts";
import { PictureFile } from "../plot/picture-file.ts";
import { PlotSamples } from "../plot/samples.ts";
import { sequencePages } from "../plot/sequence/pages.ts";
import { traceSocket } from "../plot/sequence/trace.ts";
import type { Page, Use } from "../plot/spec.ts";
import { readGiven } from "./logs.ts";
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
    throw usage(`--output takes a name that ends in .${FORMATS.join(", .")}, not "${output}"`);
  }
  const ids = pageIds(options);
  const file = new PictureFile(output);
  let picture: Uint8Array;
  try {
    const font = await Font.load();
    const use = format === "html" ? "interactive" : "still";
    const pages =
      options.socket === null
        ? logPages(options, ids, font, use)
        : socketPages(options, options.socket, font, use);
    picture = await renderPicture(format, pages, font);
  } catch (error) {
    file.discard();
    throw error;
  }
  file.write(picture);
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
  if (result.damaged > 0) warn(corruptLines(result));
  if (model.times.count + model.lengths.count === 0) {
    throw new KQTimeError("E_EMPTY", "plot", noSamples(window));
  }
  const remarks = remarksOn(result, samples);
  const drawing: Drawing = { model, font, use, remarks, nameOf: (name) => names.name(name) };
  const { pages, leftOut } = drawPages(drawing, ids);
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
  throw new KQTimeError("E_EMPTY", "plot", `socket ${sock} has no call and no packet in this window`);
}

function pageIds({ pages: wanted, socket, logs }: PlotCommand): string[] | null {
  if (socket !== null && (logs.length !== 1 || wanted !== null)) {
    throw usage("--socket takes one folder of `kqtime run --record`, and no --pages");
  }
  if (wanted === null) return null;
  const ids = wanted.split(",");
  const unknown = ids.find((id) => !PAGE_IDS.includes(id));
  if (unknown === undefined) return ids;
  throw usage(`--pages takes ${PAGE_IDS.join(", ")}, separated by commas, not "${unknown}"`);
}

/** As libkqtime's plot-kqtime said it. */
function corruptLines({ damaged, lines, unknown }: ReadResult): string {
  return `found ${damaged}/${lines + damaged + unknown} corrupt line(s)`;
}

/** What of the input is in no picture. */
function remarksOn(result: ReadResult, { model, missedBytes }: PlotSamples): string[] {
  const remarks: string[] = [];
  if (missedBytes > 0) {
    remarks.push(`${formatBytes(missedBytes)} without a time (KQTIME-MISS) are not in it.`);
  }
  const refused = model.times.refused + model.lengths.refused;
  if (refused > 0) {
    const are = refused === 1 ? "is" : "are";
    remarks.push(`${counted(refused, "sample")} below zero or without a time ${are} not in it.`);
  }
  if (result.damaged > 0) {
    const all = result.lines + result.damaged + result.unknown;
    remarks.push(
      `${formatExact(result.damaged)} of ${formatExact(all)} lines were damaged and skipped.`,
    );
  }
  return remarks;
}
