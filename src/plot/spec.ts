// A Vega-Lite specification as it is put together here: plain JSON. Its thousands of generated types
// would say less than a compiled picture in a test does.

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type Spec = { [key: string]: Json };

/** How a picture is used: a file that is looked at, or a page that is hovered over and zoomed. */
export type Use = "still" | "interactive";

export interface Page {
  /** Short name, for `--pages`. */
  readonly id: string;
  readonly title: string;
  readonly spec: Spec;
}
