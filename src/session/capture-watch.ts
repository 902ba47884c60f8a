// Notices that a capture has ended before its time, and tries to have it back: a device that was
// deleted may be made again under its name.

import { type Capture, CaptureState } from "../ffi/libpcap.ts";

/** How often a device that is gone is looked for. */
const REOPEN_EVERY_MS = 200;

export class CaptureWatch {
  /** The capture sees nothing at present. */
  failed = false;
  readonly #capture: Capture;
  readonly #onWarning: (message: string) => void;
  /** How often that began. */
  gaps = 0;
  #reopenAtMs = 0;

  constructor(capture: Capture, onWarning: (message: string) => void) {
    this.#capture = capture;
    this.#onWarning = onWarning;
  }

  /** Packets that were dropped. That they are more than before is what the join asks: so a gap is one. */
  drops(): number {
    return this.#capture.stats().droppedKernel + this.gaps;
  }

  /** Whether it has just failed. */
  round(nowMs: number): boolean {
    const capture = this.#capture;
    if (capture.state !== CaptureState.Failed) return false;
    if (!this.failed) {
      this.failed = true;
      this.gaps++;
      const failure = capture.failure?.message ?? "the capture ended";
      this.#onWarning(`${failure}: what passes while it is so cannot be matched`);
      return true;
    }
    if (nowMs - this.#reopenAtMs < REOPEN_EVERY_MS) return false;
    this.#reopenAtMs = nowMs;
    if (capture.reopen()) {
      this.failed = false;
      this.#onWarning(`capture on ${capture.name} goes on`);
      for (const warning of capture.warnings) this.#onWarning(warning);
    }
    return false;
  }
}
