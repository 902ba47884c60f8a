// `kqtime collect`: the collector of a program that measures itself through the API. The program has
// started it as a child that it does not wait for; it learns of the session by one line on a pipe.

import { closeSync, fstatSync, writeSync } from "node:fs";
import { ExitCode, KQTimeError } from "../errors.ts";
import { Session, type SessionOptions } from "./session.ts";

/** The pipe on which the program waits for the line. */
const STATUS_FD = 3;
/** A program that did not come until then has given up. */
const FIRST_RING_MS = 10_000;
/** How long the end of the program is waited for once somebody stops the collector. */
const STOPPED_MS = 3000;
const DRAIN_MS = 1000;
const STATS_EVERY_MS = 1000;
const STOPPING = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

export type CollectOptions = Pick<
  SessionOptions,
  "interface" | "filter" | "bufferBytes" | "slots"
>;

/**
 * Runs until every handle is freed, or every process has ended.
 * @throws KQTimeError after the program has been told, or `E_USAGE` if there is none
 */
export async function collect(options: CollectOptions): Promise<void> {
  if (!hasProgram()) {
    const why = "collect is what libkqtime starts, with a pipe as descriptor 3: to measure a command, use `kqtime run`";
    throw new KQTimeError("E_USAGE", "arguments", why, ExitCode.Usage);
  }
  let session: Session;
  try {
    session = new Session({
      ...options,
      command: [],
      log: null,
      json: null,
      record: null,
      direction: "both",
      label: "none",
      everything: false,
      statsEveryMs: STATS_EVERY_MS,
      intervalMs: 0,
      intervalLog: null,
      logMinNs: 0,
      logSample: 1,
      rotation: null,
      onWarning: () => {},
      onInterval: () => {},
    });
  } catch (error) {
    report(`error ${error instanceof Error ? error.message : String(error)}`);
    throw error;
  }
  const { collector, requests } = session;
  const { rings } = collector;
  let stopAtMs = Infinity;
  for (const signal of STOPPING) {
    process.on(signal, () => {
      // The end of a whole service comes to all its processes at once: the program's goes first.
      stopAtMs = Math.min(stopAtMs, performance.now() + STOPPED_MS);
    });
  }
  try {
    if (!report(`ready ${process.pid} ${readyText(session)}`)) return;
    const startMs = performance.now();
    await collector.run(() => {
      const nowMs = performance.now();
      if (rings.attached === 0) return nowMs - startMs > FIRST_RING_MS;
      const freed = requests.asked > 0 && requests.handles === 0 && !requests.pending;
      return freed || rings.open === 0 || nowMs >= stopAtMs;
    });
    if (requests.handles > 0) {
      collector.hurry();
      await (rings.open > 0 ? collector.detach() : collector.drain(DRAIN_MS));
    }
    session.finish({ code: null, signal: null });
  } finally {
    session.close();
  }
}

function readyText({ environment }: Session): string {
  const { KQTIME_SLOTS, KQTIME_TOKEN, KQTIME_SESSION } = environment;
  return `${KQTIME_SLOTS} ${KQTIME_TOKEN} ${KQTIME_SESSION}`;
}

function hasProgram(): boolean {
  try {
    return fstatSync(STATUS_FD).isFIFO();
  } catch {
    return false;
  }
}

/** Tells the program; false if it does not listen any more. */
function report(line: string): boolean {
  try {
    writeSync(STATUS_FD, `${line.replaceAll("\n", " ")}\n`);
    closeSync(STATUS_FD);
    return true;
  } catch {
    return false;
  }
}
