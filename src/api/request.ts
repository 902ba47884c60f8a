// A question to the collector, and the wait for its answer without holding up the event loop: the
// program that asks is the one that is measured. FREE alone takes long, up to a second, because
// the collector waits for bytes that are still in send queues.

import { closeSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import type { Answer, Preload } from "../ffi/preload.ts";
import { errorName } from "./errno.ts";

/** Asked again after so long: at first often, since most answers are there within a round. */
const STEPS_MS = [0, 1, 1, 2, 2, 4, 4, 8];
const STEP_MS = 10;
const TIMEOUT_MS = 15_000;
/** The collector's backlog is full. */
const EAGAIN = 11;

export interface Request {
  /** A value of `MessageType`. */
  readonly type: number;
  readonly handle: number;
  readonly flags?: number;
  /** Goes along; stays the caller's. */
  readonly fd?: number;
  readonly text?: string;
}

/**
 * Asks, and waits.
 * @throws KQTimeError `E_REFUSED` with the collector's words, `E_COLLECTOR_GONE`, `E_TIMEOUT`
 */
export async function request(preload: Preload, what: string, asked: Request): Promise<Answer> {
  const { type, handle, flags = 0, fd = -1, text = "" } = asked;
  const untilMs = performance.now() + TIMEOUT_MS;
  let connection = -EAGAIN;
  for (let step = 0; ; step++) {
    if (connection === -EAGAIN) connection = preload.ask(type, handle, flags, fd, text);
    if (connection < 0 && connection !== -EAGAIN) throw noAnswer(what, -connection);
    await Bun.sleep(STEPS_MS[step] ?? STEP_MS);
    const answer = connection < 0 ? null : preload.answer(connection);
    if (typeof answer === "number") throw noAnswer(what, answer);
    if (answer !== null) {
      if (answer.handle >= 0) return answer;
      throw new KQTimeError("E_REFUSED", what, `${what}: ${answer.text}`);
    }
    if (performance.now() < untilMs) continue;
    if (connection >= 0) closeSync(connection);
    const seconds = TIMEOUT_MS / 1000;
    throw new KQTimeError(
      "E_TIMEOUT",
      what,
      `${what}: the collector has not answered for ${seconds} s: is it stopped, or the machine ` +
        "overloaded?",
    );
  }
}

function noAnswer(what: string, errno: number): KQTimeError {
  return new KQTimeError(
    "E_COLLECTOR_GONE",
    what,
    `${what}: the collector does not answer (${errorName(errno)}): it has ended, and what it ` +
      "measured is in the log up to its last second; " +
      (what === "close" ? "open a new one to go on" : "close this handle and open a new one"),
  );
}
