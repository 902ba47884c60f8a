// The one error type of kqtime, and the exit codes that its command line documents.

/** Exit codes of `kqtime run` beyond those of the command itself (as env(1) and nohup(1) use them). */
export const ExitCode = {
  Ok: 0,
  /** Some check of `kqtime doctor` failed. */
  Unfit: 1,
  /** The command line was not understood. */
  Usage: 2,
  /** kqtime itself failed: privilege, library, interface, filter, log file, … */
  Own: 125,
  /** The command was found but cannot be run. */
  CannotRun: 126,
  /** The command was not found. */
  NotFound: 127,
} as const;

/**
 * An error that a user can act on. `message` is one line: what failed, on what, and what to do.
 * `code` is a stable identifier (for example `E_PCAP_PERMISSION`), `op` the operation that failed.
 */
export class KQTimeError extends Error {
  override readonly name = "KQTimeError";
  constructor(
    readonly code: string,
    readonly op: string,
    message: string,
    readonly exitCode: number = ExitCode.Own,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
