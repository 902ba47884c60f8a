// What the reader of src/analysis tells of a log, kept as objects.

import type { LogLine, LogVisitor, TextKind } from "../../src/analysis/log-line.ts";
import { readLogs, type ReadResult } from "../../src/analysis/log-reader.ts";

export interface Told {
  kind: "call" | "miss" | "queues" | "socket";
  direction: number;
  startNs: number;
  waitNs: number;
  firstNs: number;
  bytes: number;
  sock: number;
  reason: number;
  sndLen: number;
  rcvLen: number;
  name: string;
}

export class Collector implements LogVisitor {
  readonly told: Told[] = [];
  readonly texts: string[] = [];

  call(line: LogLine): void {
    this.#keep("call", line);
  }
  miss(line: LogLine): void {
    this.#keep("miss", line);
  }
  queues(line: LogLine): void {
    this.#keep("queues", line);
  }
  socketQueues(line: LogLine): void {
    this.#keep("socket", line);
  }
  text(kind: TextKind, text: string): boolean {
    this.texts.push(`${kind} ${text}`);
    return true;
  }

  #keep(kind: Told["kind"], line: LogLine): void {
    const { direction, startNs, waitNs, firstNs, bytes, sock, reason, sndLen, rcvLen } = line;
    const name = line.name();
    this.told.push({
      kind, direction, startNs, waitNs, firstNs, bytes, sock, reason, sndLen, rcvLen, name,
    });
  }
}

export function collect(path: string): Collector & { result: ReadResult } {
  const collector = new Collector();
  return Object.assign(collector, { result: readLogs([path], collector) });
}
