// Time–sequence graphs of one socket, as tcptrace draws them: time to the right, stream offset
// upwards, packets as bars, ACKs as a line. With them, what the application has written, or read:
// the horizontal distance between that line and the packets is the queue time.

import { readableName } from "../../output/name.ts";
import { TimeAxis, ValueAxis } from "../axes.ts";
import { displayName } from "../names.ts";
import { counted, frame, tooltip, zoomable, type Paper } from "../page.ts";
import type { Json, Page, Spec } from "../spec.ts";
import { PAGE_HEIGHT, PANEL_WIDTH } from "../theme.ts";
import type { Marks } from "./marks.ts";
import type { Curve, SocketTrace, WireMarks } from "./trace.ts";

/** Columns into which the run is cut where there are more marks than can be told apart. */
const COLUMNS = 1400;
/** Fewer marks are all drawn one by one. */
const MOST_MARKS = 4000;


const COLOURS = { application: "#000000", packets: "#0072b2", again: "#d55e00", acks: "#66c5ab" };

export function sequencePages(paper: Paper, trace: SocketTrace): Page[] {
  const { written, read } = trace;
  const pages: Page[] = [];
  if (isShown(written, trace.out)) {
    const curve = { name: "written by the application", ...written };
    const words = { packets: "packets, as the device sent them", acks: "acknowledged by the peer" };
    pages.push(page(paper, trace, "outbound", curve, trace.out, words));
  }
  if (isShown(read, trace.in)) {
    const curve = { name: "read by the application", ...read };
    const words = { packets: "packets, as they arrived", acks: "acknowledged to the peer" };
    pages.push(page(paper, trace, "inbound", curve, trace.in, words));
  }
  return pages;
}

/** A direction that the application used, with anything in the window. */
function isShown({ marks, level }: Curve, { packets, again, acks }: WireMarks): boolean {
  const count = marks.count + packets.count + again.count + acks.marks.count;
  return !Number.isNaN(level) && count > 0;
}

function page(
  paper: Paper,
  trace: SocketTrace,
  direction: "outbound" | "inbound",
  application: Curve & { readonly name: string },
  { packets, again, acks }: WireMarks,
  { packets: packetsName, acks: acksName }: { packets: string; acks: string },
): Page {
  const all = [application.marks, packets, again, acks.marks].filter(({ count }) => count > 0);
  // That nothing happens, and for how long, is what a window may be looked at for.
  const firstMarkSec = Math.min(...all.map((marks) => marks.atSec[0]!));
  const lastMarkSec = Math.max(...all.map((marks) => marks.atSec[marks.count - 1]!));
  const firstSec = Math.min(trace.fromSec ?? Infinity, firstMarkSec);
  const lastSec = Math.max(trace.untilSec ?? -Infinity, lastMarkSec);
  // A curve without a step in the window goes through it all the same.
  const levels = [application, acks].filter(isLevel).map(({ level }) => level);
  const most = Math.max(...levels, ...all.map((marks) => marks.highest));
  const total = all.reduce((sum, { count }) => sum + count, 0);
  const time = new TimeAxis(trace.originSec, trace.startSec, firstSec, lastSec);
  const least = Math.min(...levels, ...all.map((marks) => marks.lowest));
  // Always linear: a byte is a byte.
  const extent = { least, leastPositive: Math.max(most, 1), greatest: most };
  const axis = new ValueAxis("bytes", extent, true);
  const widthSec = total > MOST_MARKS ? (lastSec - firstSec) / COLUMNS : 0;
  const names = [application.name, packetsName, "sent again", acksName];
  const colours = [COLOURS.application, COLOURS.packets, COLOURS.again, COLOURS.acks];
  const isNamed = (name: string): boolean => again.count > 0 || name !== "sent again";
  const domain = names.filter(isNamed);
  const by = (range: Json[]): Spec => ({
    field: "what",
    type: "nominal",
    scale: { domain, range: range.filter((_, i) => isNamed(names[i]!)) },
    legend: {
      title: null,
      columns: 2,
      direction: "horizontal",
      columnPadding: 24,
      symbolType: "stroke",
    },
  });
  const look: Spec = { color: by(colours), strokeDash: by([[], [], [2, 1], [8, 4]]) };
  const x: Spec = { field: "t", ...time.encoding(true, paper.use) };
  const y: Spec = {
    field: "to",
    type: "quantitative",
    scale: axis.scale,
    axis: axis.axis("stream offset", paper.use),
  };
  const tips = tooltip(paper, [
    { title: "", expression: "datum.what" },
    { title: "time", expression: time.expression("datum.t") },
    { title: "from byte", expression: "format(datum.from, ',')" },
    { title: "to byte", expression: "format(datum.to, ',')" },
  ]);
  const ends = [time.at(firstSec), time.at(lastSec)] as const;
  let isReduced = false;
  const rows = (marks: Marks, what: string): Spec[] => {
    const drawn = widthSec > 0 ? marks.reduced(widthSec) : { marks, isReduced: false };
    isReduced ||= drawn.isReduced;
    return Array.from({ length: drawn.marks.count }, (_, i): Spec => ({
      t: time.at(drawn.marks.atSec[i]!),
      from: drawn.marks.from[i]!,
      to: drawn.marks.to[i]!,
      what,
    }));
  };
  const clip = paper.use === "interactive";
  const bars = (marks: Marks, what: string, width: number): Spec => ({
    data: { values: rows(marks, what) },
    transform: tips.transform,
    // The cap keeps a packet visible that is less than a pixel high.
    mark: { type: "rule", strokeWidth: width, strokeCap: "square", clip },
    encoding: { x, y: { ...y, field: "from" }, y2: { field: "to" }, ...look, ...tips.encoding },
  });
  const line = (curve: Curve, what: string, width: number): Spec => ({
    data: { values: stairs(curve, rows(curve.marks, what), what, ends) },
    transform: tips.transform,
    mark: { type: "line", interpolate: "step-after", strokeWidth: width, clip },
    encoding: { x, y, ...look },
  });
  const panel: Spec = {
    width: PANEL_WIDTH,
    height: PAGE_HEIGHT,
    layer: [
      // Wide and below all others: where packets are acknowledged at once, it shows on both sides of
      // them.
      { ...line(acks, acksName, 3.2), name: "lines" },
      line(application, application.name, 1.3),
      bars(packets, packetsName, 1.6),
      ...(again.count > 0 ? [bars(again, "sent again", 2.4)] : []),
    ],
  };
  const name = displayName(readableName(trace.name), paper.font, 17, PANEL_WIDTH / 2);
  const title = `Time–sequence graph of socket ${trace.sock} (${name}), ${direction}`;
  const what =
    direction === "outbound"
      ? "The horizontal distance from the black line to the packets is the queue time: " +
        "from the call to the device."
      : "The horizontal distance from the packets to the black line is the queue time: " +
        "from the device to the application.";
  const notes = [
    `${counted(application.marks.count, "call")}, ${counted(packets.count, "packet")}, ` +
      `${counted(again.count, "packet")} sent again, ` +
      `${counted(acks.marks.count, "acknowledgement")} of new bytes.` +
      (isReduced ? " Marks that touch and are closer than half a pixel are drawn as one." : ""),
  ];
  const spec = frame(paper, title, what, [panel], notes);
  return { id: `sequence-${direction}`, title, spec: zoomable(paper, spec, "xy", ["lines"]) };
}

/** Without a step in the window, and not empty. */
function isLevel({ marks, level }: Curve): boolean {
  return marks.count === 0 && !Number.isNaN(level);
}

/** A curve over the whole width: level before its first step and after its last one. */
function stairs(
  curve: Curve,
  rows: Spec[],
  what: string,
  [start, end]: readonly [number, number],
): Spec[] {
  const [first] = rows;
  if (first === undefined) {
    if (!isLevel(curve)) return [];
    const { level } = curve;
    return [start, end].map((t): Spec => ({ t, from: level, to: level, what }));
  }
  return [{ ...first, t: start, to: first.from! }, ...rows, { ...rows[rows.length - 1], t: end }];
}
