// What must hold of a summary, whatever was fed to the join.

import schemaText from "../../docs/summary.schema.json" with { type: "text" };
import type { Summary } from "../../src/output/summary.ts";
import { type Schema, schemaErrors } from "../output/schema-check.ts";
import { must } from "./harness.ts";

const SCHEMA = JSON.parse(schemaText as unknown as string) as Schema;

/** Every byte called is matched, in flight, or unmatched for a reason; every figure is one. */
export function checkSummary(summary: Summary, whole: boolean): void {
  must(summary.booksBalance, "the summary says that its books do not balance");
  for (const label of summary.labels) {
    for (const side of [label.out, label.in]) {
      if (side === null || side === undefined) continue;
      const unmatched = Object.values(side.bytesUnmatched).reduce((sum, bytes) => sum + bytes, 0);
      const inFlight = "bytesInFlight" in side ? side.bytesInFlight : 0;
      const booked = side.bytesMatched + inFlight + unmatched;
      must(side.bytesCalled === booked, `called ${side.bytesCalled}, booked ${booked}`);
      must(side.bytesMatched >= 0 && unmatched >= 0 && inFlight >= 0, "bytes below zero");
      const { callNs, byteNs } = side;
      must(!((callNs.min ?? 0) < 0) && !((byteNs.min ?? 0) < 0), "a time below zero");
    }
  }
  if (!whole) return;
  // A time that a recording made up may be beyond what is exact (104 days).
  const errors = schemaErrors(SCHEMA, summary).filter((error) => !/Ns: number instead of integer/.test(error));
  must(errors.length === 0, `the summary is not as its schema: ${errors.slice(0, 3).join("; ")}`);
}
