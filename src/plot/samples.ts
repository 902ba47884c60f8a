// A log's lines into the model of the pictures.

import { callTimeNs } from "../analysis/groups.ts";
import { LossCounts } from "../analysis/loss-counts.ts";
import { ABSENT, type LogLine, type LogVisitor } from "../analysis/log-line.ts";
import { NameTable } from "../analysis/name-table.ts";
import type { Window } from "../analysis/window.ts";
import { IN, OUT, PlotModel } from "./model.ts";

const NS = 1e9;

export class PlotSamples implements LogVisitor {
  readonly #window: Window;
  readonly model = new PlotModel();
  readonly names = new NameTable();
  /** Bytes of KQTIME-MISS lines: they have no time, and are in no picture. */
  missedBytes = 0;
  readonly losses = new LossCounts();

  constructor(window: Window) {
    this.#window = window;
  }

  call(line: LogLine): void {
    if (!this.#window.holds(line, callTimeNs(line))) return;
    const name = line.parsed ? -1 : this.names.of(line);
    this.model.addTime(line.direction, line.startNs / NS, line.waitNs, name);
  }

  queues(line: LogLine): void {
    if (!this.#window.holds(line, line.startNs)) return;
    const atSec = line.startNs / NS;
    if (line.sndLen !== ABSENT) this.model.addLength(OUT, atSec, line.sndLen);
    if (line.rcvLen !== ABSENT) this.model.addLength(IN, atSec, line.rcvLen);
  }

  miss(line: LogLine): void {
    if (this.#window.holds(line, callTimeNs(line)) && line.bytes > 0) this.missedBytes += line.bytes;
  }

  socketQueues(): void {}

  text(kind: "books" | "loss", text: string): boolean {
    return kind === "books" || this.losses.add(text);
  }
}
