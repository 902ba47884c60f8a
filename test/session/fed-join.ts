// A whole session's join, fed by hand through a bench.

import { Join, type JoinEnd, type JoinSetup } from "../../src/session/join.ts";
import type { Log } from "../../src/output/log.ts";
import type { Summary } from "../../src/output/summary.ts";
import { Bench } from "../match/bench.ts";
import { BASE_SEC } from "../match/words.ts";

export class FedJoin {
  readonly bench = new Bench({ everything: null });
  readonly join: Join;
  readonly intervals: Summary[] = [];
  readonly warnings: string[] = [];
  readonly losses = {
    ringRecords: 0, capturePackets: 0, interfacePackets: 0, badPackets: 0, memoryRecords: 0,
    tableSockets: 0, descriptorSockets: 0, addressSockets: 0, staleCalls: 0, inheritedRings: 0, unheardProcesses: 0,
    fragments: 0,
  };

  constructor(setup: Partial<JoinSetup> = {}, log: Log | null = null) {
    const whole: JoinSetup = {
      baseSec: BASE_SEC, startNs: 0, direction: "both", label: "port", command: ["a"], version: "0",
      everything: true, queues: false, isPartial: false, ...setup,
    };
    this.join = new Join(whole, log, {
      write: (summary) => void this.intervals.push(summary),
      end: () => this.end(0),
    });
    const { engine } = this.join;
    Object.assign(this.bench, { engine, table: engine.addTable() });
  }

  end(endNs: number): JoinEnd {
    const { losses, warnings } = this;
    return {
      endNs, exitCode: null, signal: null, pids: [], losses: { ...losses }, badRecords: 0, isDetached: false,
      warnings: [...warnings],
    };
  }

  finish(endNs: number): Summary {
    this.bench.engine.flush();
    return this.join.finish(this.end(endNs));
  }
}
