// Which pages there are, in their order, and which of them the input has data for.

import type { PlotModel } from "./model.ts";
import { byName } from "./pages/names.ts";
import { cdf } from "./pages/cdf.ts";
import { hdr } from "./pages/hdr.ts";
import { heatmap, LEAST_SAMPLES as LEAST_FOR_HEATMAP } from "./pages/heatmap.ts";
import { overTime } from "./pages/over-time.ts";
import { LEAST_SAMPLES as LEAST_FOR_PERCENTILES, percentiles } from "./pages/percentiles.ts";
import { queueLength, queueTime, type Drawing } from "./page.ts";
import { remarksFor, type Remark, type Subject } from "./remarks.ts";
import type { Page } from "./spec.ts";

interface Kind {
  readonly id: string;
  readonly subject: Subject;
  /** Why the page cannot be drawn, or null. */
  readonly lacks: (model: PlotModel) => string | null;
  readonly draw: (drawing: Drawing, id: string) => Page;
}

const TIME_WHAT =
  "Outbound: from the call to the network device. " +
  "Inbound: from the network device to the return of the call.";
const LENGTH_WHAT =
  "Bytes in the send queues (outbound) and receive queues (inbound) of all sockets together.";

const noTimes = ({ times }: PlotModel): string | null =>
  times.count === 0 ? "no queue times (KQTIME-OUT, KQTIME-IN)" : null;
const noLengths = ({ lengths }: PlotModel): string | null =>
  lengths.count === 0 ? "no queue lengths (KQTIME-STATS)" : null;
const fewTimes =
  (least: number) =>
  ({ times }: PlotModel): string | null =>
    times.count === 0
      ? "no queue times (KQTIME-OUT, KQTIME-IN)"
      : times.count < least
        ? `fewer than ${least} samples`
        : times.firstSec === times.lastSec
          ? "all samples at one moment"
          : null;

const KINDS: readonly Kind[] = [
  {
    id: "time-cdf",
    subject: "times",
    lacks: noTimes,
    draw: (drawing, id) => cdf(drawing, queueTime(drawing.model), id, TIME_WHAT),
  },
  {
    id: "length-cdf",
    subject: "lengths",
    lacks: noLengths,
    draw: (drawing, id) => cdf(drawing, queueLength(drawing.model), id, LENGTH_WHAT),
  },
  {
    id: "time",
    subject: "times",
    lacks: noTimes,
    draw: (drawing, id) => overTime(drawing, queueTime(drawing.model), id, TIME_WHAT),
  },
  {
    id: "length",
    subject: "lengths",
    lacks: noLengths,
    draw: (drawing, id) => overTime(drawing, queueLength(drawing.model), id, LENGTH_WHAT),
  },
  {
    id: "percentiles",
    subject: "times",
    lacks: fewTimes(LEAST_FOR_PERCENTILES),
    draw: (drawing, id) => percentiles(drawing, queueTime(drawing.model), id),
  },
  {
    id: "heatmap",
    subject: "times",
    lacks: fewTimes(LEAST_FOR_HEATMAP),
    draw: (drawing, id) => heatmap(drawing, queueTime(drawing.model), id),
  },
  {
    id: "names",
    subject: "times",
    lacks: (model) =>
      noTimes(model) ?? (model.names.length === 0 ? "no names (parsed data has none)" : null),
    draw: (drawing, id) => byName(drawing, id),
  },
  {
    id: "hdr",
    subject: "times",
    lacks: noTimes,
    draw: (drawing, id) => hdr(drawing, queueTime(drawing.model), id),
  },
];

export const PAGE_IDS: readonly string[] = KINDS.map(({ id }) => id);

/** A page that the input has no data for. */
export interface LeftOut {
  readonly id: string;
  readonly why: string;
}

/** What all pages are drawn from. */
export interface Source extends Omit<Drawing, "remarks"> {
  readonly remarks: readonly Remark[];
}

/** Draws the wanted pages (null: all). */
export function drawPages(
  source: Source,
  wanted: readonly string[] | null,
): { pages: Page[]; leftOut: LeftOut[] } {
  const pages: Page[] = [];
  const leftOut: LeftOut[] = [];
  for (const { id, subject, lacks, draw } of KINDS) {
    if (wanted !== null && !wanted.includes(id)) continue;
    const why = lacks(source.model);
    const remarks = remarksFor(subject, source.remarks);
    if (why === null) pages.push(draw({ ...source, remarks }, id));
    else leftOut.push({ id, why });
  }
  return { pages, leftOut };
}
