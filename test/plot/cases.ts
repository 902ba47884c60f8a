// The inputs that every picture is drawn from in the tests, made from a seed: few and many samples,
// microseconds and seconds, a second and three days, zeros, equal values, names of all kinds.

import { type Direction, IN, OUT, PlotModel } from "../../src/plot/model.ts";
import { random } from "../lib/synthetic-log.ts";

/** 2026-11-23 12:07:15.125 UTC. */
const START_SEC = 1795435635.125;

export interface Case {
  readonly model: PlotModel;
  readonly names: readonly string[];
}

interface Kind {
  readonly samples: number;
  readonly spanSec?: number;
  /** Median of the outbound times; the inbound ones are a twentieth. */
  readonly medianNs?: number;
  /** Of the logarithm; 0: all values are equal. */
  readonly spread?: number;
  /** Share of values that are 0. */
  readonly zeros?: number;
  readonly directions?: readonly Direction[];
  readonly lengths?: number;
  readonly names?: readonly string[];
  /** Only so many values of time: the samples come in bursts. */
  readonly bursts?: number;
}

export const HOSTILE_NAMES: readonly string[] = [
  "<script>alert(1)</script>",
  "]]><svg onload=alert(1)>",
  "</text></g></svg>",
  "-->&amp;&lt;\"'`${1}",
  "\u202egnp.exe",
  "שלום עולם",
  "日本語テスト",
  "\u0000\u0007\u001b[31m",
  "\ud800 alone",
  "e\u0301\u0301\u0301\u0301",
  "javascript:alert(1)",
  "signal: datum['x']",
  "",
  " ",
  "x".repeat(10000),
  `${"y".repeat(9999)}a`,
  `${"y".repeat(9999)}b`,
  "\u{1f600}".repeat(3000),
];

const MANY_NAMES = Array.from(
  { length: 1500 },
  (_, i) => `OR connection to relay${i}.example.org:9001, nickname=Unnamed${i}, fingerprint=ABCDEF`,
);

export const KINDS: Readonly<Record<string, Kind>> = {
  "1 sample": { samples: 1, lengths: 1 },
  "1 inbound sample of 0": { samples: 1, directions: [IN], zeros: 1 },
  "10 samples": { samples: 10, lengths: 10 },
  "10,000 samples": { samples: 10_000, spanSec: 601, lengths: 600 },
  "microseconds in a second": {
    samples: 3000,
    medianNs: 3000,
    spread: 0.2,
    spanSec: 1,
    lengths: 3,
  },
  "nanoseconds in a millisecond": { samples: 600, medianNs: 40, spread: 0.1, spanSec: 0.001 },
  "seconds in three days": { samples: 20_000, medianNs: 2e9, spanSec: 259200, lengths: 5000 },
  hours: { samples: 5000, medianNs: 4e12, spread: 0.1, spanSec: 86400 * 40 },
  "equal values": { samples: 1000, spread: 0 },
  "nearly equal values": { samples: 1000, spread: 0.003, medianNs: 4e8 },
  zeros: { samples: 5000, zeros: 0.3, lengths: 100 },
  "only zeros": { samples: 1000, zeros: 1, lengths: 1 },
  "outbound alone": { samples: 20_000, directions: [OUT] },
  "twelve decades": { samples: 20_000, spread: 4, medianNs: 1e6 },
  bursts: { samples: 20_000, bursts: 3, spanSec: 3600 },
  "one moment": { samples: 6000, spanSec: 0 },
  "lengths alone": { samples: 0, lengths: 5000 },
  "hostile names": { samples: 20_000, names: HOSTILE_NAMES },
  "many names": { samples: 20_000, names: MANY_NAMES },
};

export function makeCase(kind: Kind): Case {
  const next = random(7);
  const uniform = (): number => (next() + 0.5) / 2 ** 32;
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const { samples, spanSec = 10, medianNs = 1e6, spread = 0.8, zeros = 0, lengths = 0 } = kind;
  const { directions = [OUT, IN], names = ["out:443", "in:9001"], bursts = samples } = kind;
  const model = new PlotModel();
  model.originSec = START_SEC;
  for (let i = 0; i < samples; i++) {
    const at = Math.floor((i * bursts) / samples) / Math.max(1, bursts - 1);
    const direction = directions[i % directions.length]!;
    const wave = spread === 0 ? 1 : 1 + 0.8 * spread * Math.sin(at * 12);
    const median = medianNs * (direction === IN && spread > 0 ? 0.05 : 1);
    const value = uniform() < zeros ? 0 : Math.round(median * wave * Math.exp(spread * normal()));
    model.addTime(direction, at * spanSec, value, Math.floor(names.length * uniform() * uniform()));
  }
  for (let i = 0; i < lengths; i++) {
    const atSec = (spanSec * i) / Math.max(1, lengths - 1);
    model.addLength(OUT, atSec, Math.max(0, Math.round(1e5 * Math.sin(i / 20) + 3e4 * uniform())));
    model.addLength(IN, atSec, uniform() < 0.6 ? 0 : Math.round(5000 * uniform()));
  }
  return { model, names };
}
