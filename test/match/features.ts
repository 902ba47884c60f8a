// Which troubles a generated history has, drawn by fast-check so that a failing one shrinks.

import fc from "fast-check";
import type { Features } from "./history-types.ts";

export const PLAIN: Features = {
  connections: 1,
  atoms: 6,
  large: false,
  huge: false,
  again: false,
  late: false,
  drops: false,
  unseen: false,
  acks: false,
  devices: false,
  overlap: false,
  lost: false,
  cut: false,
  unsent: false,
  foreign: false,
  unlistened: false,
  unanchored: false,
  reuse: false,
  loop: false,
  noise: false,
  jitter: false,
};

/** Every named feature may be on; shrinking switches them off one after the other. */
export function featuresOf(names: readonly (keyof Features)[]): fc.Arbitrary<Features> {
  const flags = Object.fromEntries(names.map((name) => [name, fc.boolean()]));
  return fc
    .record({
      ...flags,
      connections: fc.integer({ min: 1, max: 5 }),
      atoms: fc.integer({ min: 1, max: 14 }),
    })
    .map((chosen) => ({ ...PLAIN, ...chosen }));
}
