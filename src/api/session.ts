// The one session that a process has, whatever number of handles it opens: joined when the first
// is opened, left when the last one is closed. Under `kqtime run`, and where the C library has
// started a collector, the session is there already, and stays.

import { join } from "node:path";
import { KQTimeError } from "../errors.ts";
import { Preload } from "../ffi/preload.ts";
import { ROOT } from "../session/paths.ts";
import { COMMAND, type CollectorOptions, startCollector } from "./collector-start.ts";
import { errorName } from "./errno.ts";

const EEXIST = 17;

/** Handles that are open or being closed. */
let handles = 0;
let closing = 0;
/** The collector is one that this module has started. */
let started = false;
/** Opens take turns: the first one starts the collector for all. */
let turn: Promise<unknown> = Promise.resolve();
let left: Promise<void> = Promise.resolve();
let leave: () => void = () => {};

/** @throws KQTimeError `E_PLATFORM`, `E_NOT_PRELOADED`, `E_VERSION` */
export function findPreload(): Preload {
  if (process.platform !== "linux") {
    throw new KQTimeError("E_PLATFORM", "open", `measuring needs Linux, this is ${process.platform}`);
  }
  const preload = Preload.find();
  if (preload === null) {
    const library = join(ROOT, "build", "libkqtime-preload.so");
    const command = ["bun", ...process.argv.slice(1)].join(" ");
    throw new KQTimeError(
      "E_NOT_PRELOADED",
      "open",
      "this process was not started under kqtime's preload library: start it with " +
        `\`${COMMAND} run -- ${command}\`, or with \`LD_PRELOAD=${library} ${command}\` ` +
        `(\`${COMMAND} setup\` builds it)`,
    );
  }
  if (typeof preload === "number") {
    throw new KQTimeError(
      "E_VERSION",
      "open",
      `the preload library that this process runs under (version ${preload}) is not of this ` +
        `kqtime: start the program under the one of the same installation (\`${COMMAND} setup\` ` +
        "builds it)",
    );
  }
  return preload;
}

/**
 * Holds the session for a handle that `open` makes; starts a collector if there is none.
 * @throws what `open` throws, and KQTimeError `E_COLLECTOR`
 */
export function withSession<T>(
  preload: Preload, options: CollectorOptions, open: () => Promise<T>,
): Promise<T> {
  const result = turn.then(async () => {
    // All that are open are being closed: the collector ends with the last. (One that is opened
    // before that asks first, and is answered first.)
    if (handles > 0 && handles === closing) await left;
    if (handles === 0) left = new Promise((resolve) => (leave = resolve));
    handles++;
    try {
      if (!preload.attached) await startAndJoin(preload, options);
      return await open();
    } catch (error) {
      release(preload);
      throw error;
    }
  });
  turn = result.catch(() => {});
  return result;
}

/** Gives up a handle's hold, after `free`, whether that works or not. */
export async function endSession(preload: Preload, free: () => Promise<void>): Promise<void> {
  closing++;
  try {
    await free();
  } finally {
    closing--;
    release(preload);
  }
}

function release(preload: Preload): void {
  handles--;
  if (handles > 0) return;
  if (started) preload.leave();
  started = false;
  leave();
}

async function startAndJoin(preload: Preload, options: CollectorOptions): Promise<void> {
  const { socket, token, slots } = await startCollector(options);
  const errno = preload.join(socket, token, slots);
  // EEXIST: the C library was faster; the collector started here ends by itself, without processes.
  if (errno === EEXIST) return;
  if (errno !== 0) {
    throw new KQTimeError(
      "E_JOIN",
      "join",
      `this process cannot join its collector: ${errorName(errno)}; memory for a ring of ` +
        `${slots} slots is needed (ulimit -f, the memory cgroup), and no sandbox that forbids it`,
    );
  }
  started = true;
}
