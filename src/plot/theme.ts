// How the pictures look. Colours are those of Okabe and Ito, which colour-blind people tell apart;
// the direction shows in line style and shape too, so that a black-and-white print can be read.

import { FONT_NAME } from "./fonts.ts";
import type { Spec } from "./spec.ts";
import { IN, OUT, type Direction } from "./model.ts";

/** Width of a page's drawing area with one panel, px = pt in a PDF. */
export const PANEL_WIDTH = 690;
/** Height of what is drawn between title and notes. */
export const PAGE_HEIGHT = 380;
/** Room for the labels of the value axes, so that panels of all pages are aligned. */
export const AXIS_EXTENT = 44;
/** Width of a page's texts. */
export const TEXT_WIDTH = PANEL_WIDTH + AXIS_EXTENT;

export const LABEL_SIZE = 10;
export const NOTE_SIZE = 9.5;
export const BACKGROUND = "#ffffff";

const INK = "#222222";
const QUIET_INK = "#555555";
const GRID = "#e4e4e4";

interface DirectionLook {
  readonly name: string;
  readonly colour: string;
  readonly dash: number[];
  readonly shape: string;
}

export const LOOKS: readonly [DirectionLook, DirectionLook] = [
  {
    name: "outbound",
    colour: "#0072b2",
    dash: [],
    shape: "circle",
  },
  {
    name: "inbound",
    colour: "#d55e00",
    dash: [6, 3],
    shape: "triangle-up",
  },
];

/** Colour and dash by direction, for one legend. */
export function directionScales(directions: readonly Direction[]): Spec {
  const domain = directions.map((direction) => LOOKS[direction].name);
  const range = (of: (look: DirectionLook) => string | number[]): Spec => ({
    domain,
    range: directions.map((direction) => of(LOOKS[direction])),
  });
  return {
    color: range((look) => look.colour),
    strokeDash: range((look) => look.dash),
  };
}

/** A Vega expression for a legend: the text of each direction. */
export function directionLegend(texts: readonly [string, string]): string {
  return `datum.value == '${LOOKS[OUT].name}' ? ${literal(texts[OUT])} : ${literal(texts[IN])}`;
}

/** A text of kqtime's own as a literal of a Vega expression. */
function literal(text: string): string {
  return JSON.stringify(text);
}

export const CONFIG: Spec = {
  font: FONT_NAME,
  background: BACKGROUND,
  padding: 12,
  aria: false,
  view: { stroke: "#999999", strokeWidth: 0.8 },
  title: {
    fontWeight: "normal",
    fontSize: 17,
    color: INK,
    subtitleFontSize: 11,
    subtitleColor: QUIET_INK,
    subtitlePadding: 5,
    subtitleLineHeight: 15,
    anchor: "start",
    frame: "group",
  },
  axis: {
    labelFontSize: LABEL_SIZE,
    labelColor: INK,
    labelLimit: 0,
    labelPadding: 4,
    labelSeparation: 5,
    titleFontWeight: "normal",
    titleFontSize: 11,
    titleColor: INK,
    titleLimit: 0,
    titlePadding: 8,
    gridColor: GRID,
    gridWidth: 0.7,
    domain: false,
    tickColor: "#999999",
    tickSize: 4,
  },
  axisY: { minExtent: AXIS_EXTENT, maxExtent: AXIS_EXTENT },
  legend: {
    labelFontSize: 11,
    labelColor: INK,
    labelLimit: 0,
    titleFontWeight: "normal",
    titleFontSize: 11,
    titleColor: INK,
    titleLimit: 0,
    orient: "top",
    direction: "vertical",
    symbolSize: 260,
    symbolStrokeWidth: 2,
    rowPadding: 3,
    offset: 8,
  },
  concat: { spacing: 14 },
};
