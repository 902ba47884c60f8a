// The warnings' advice names what is to blame in this measurement, and nothing that is not.

import { expect, test } from "bun:test";
import { adviceOn, type Circumstances } from "../../src/output/advice.ts";
import { Reason, REASON_HELP } from "../../src/output/reasons.ts";
import { DEFAULT_FILTER, filterKind } from "../../src/session/partial-filter.ts";

const PLAIN: Circumstances = {
  filter: "default", isOneDevice: false, isCut: false, ringFull: 0, noMemory: 0, noClock: 0,
};

/** Which of the causes an advice names, in its order. */
function causes(reason: number, circumstances: Partial<Circumstances>): string[] {
  const advice = adviceOn(reason, { ...PLAIN, ...circumstances });
  const known = /--filter leaves out by default|--filter|--interface|namespace|recording|--ring|memory cgroup|clock/g;
  return advice.match(known) ?? [];
}

test("what a filter may be to blame for", () => {
  expect(filterKind(DEFAULT_FILTER)).toBe("default");
  for (const filter of ["tcp", "port 80", "host 10.0.0.1", "tcp and src or dst port 80"]) {
    expect([filter, filterKind(filter)]).toEqual([filter, "whole"]);
  }
  for (const filter of ["tcp and greater 200", "src port 8091", "dst host ::1", "tcp[13] & 2 != 0", "inbound"]) {
    expect([filter, filterKind(filter)]).toEqual([filter, "parts"]);
  }
});

test("a connection without packets: the filter and the interface that were chosen, else the namespace", () => {
  const ofFiltered = (more: Partial<Circumstances>) => causes(Reason.filtered, more);
  expect(ofFiltered({})).toEqual(["namespace", "--filter leaves out by default"]);
  expect(ofFiltered({ filter: "whole" })).toEqual(["--filter"]);
  expect(ofFiltered({ filter: "parts", isOneDevice: true })).toEqual(["--filter", "--interface"]);
  expect(ofFiltered({ isOneDevice: true })).toEqual(["--interface", "--filter leaves out by default"]);
  expect(ofFiltered({ filter: undefined })).toEqual(["--filter", "--interface", "namespace"]);
});

test("a filter that hides packets is named where they are missed", () => {
  for (const reason of [Reason.noAnchor, Reason.unseen]) {
    expect(causes(reason, { filter: "parts" })).toEqual(["--filter"]);
    for (const filter of ["default", "whole"] as const) {
      expect(adviceOn(reason, { ...PLAIN, filter })).toBe(REASON_HELP[reason]!);
    }
  }
});

test("a recording that is cut is to blame before all others", () => {
  expect(causes(Reason.unseen, { isCut: true })).toEqual(["recording"]);
  expect(causes(Reason.filtered, { isCut: true })[0]).toBe("recording");
  expect(causes(Reason.ringDrop, { isCut: true })).toEqual(["recording"]);
});

test("records that are missing: a ring helps against a full one alone", () => {
  const ofDrop = (more: Partial<Circumstances>) => causes(Reason.ringDrop, more);
  expect(ofDrop({ ringFull: 3 })).toEqual(["--ring"]);
  expect(ofDrop({ noClock: 3 })).toEqual(["clock"]);
  expect(ofDrop({ ringFull: 1, noClock: 3 })).toEqual(["--ring", "clock"]);
  expect(ofDrop({ noMemory: 1 })).toEqual(["memory cgroup"]);
  expect(ofDrop({})).toEqual([]);
});
