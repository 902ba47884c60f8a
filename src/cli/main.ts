// The command line: parses, then loads the command's module, so that --help stays fast.

import { cac } from "cac";
import { ExitCode, KQTimeError } from "../errors.ts";
import { LABEL_MODES } from "../match/label-modes.ts";
import { VERSION } from "../version.ts";
import { choice, number, text } from "./options.ts";

const DEFAULT_FILTER = "tcp and not port 22";
const DEFAULT_BUFFER_MIB = 64;
const DEFAULT_SLOTS = 65536;
const DEFAULT_DRAIN_SECONDS = 5;
const MIB = 2 ** 20;

/** Runs kqtime with these arguments (without the program's name); returns the exit code. */
export async function main(argv: string[]): Promise<number> {
  const cli = cac("kqtime");

  cli
    .command("run", "Measure a command: kqtime run [options] -- command [args…]")
    .option("--log <file>", "Write a line for each call; .gz compresses")
    .option("--json <file>", "Write the summary as JSON (docs/summary.schema.json)")
    .option("--record <dir>", "Keep raw records and headers for `kqtime replay`")
    .option("--interface <dev>", "Network interface to capture on", { default: "any" })
    .option("--filter <bpf>", "Which packets to capture, see pcap-filter(7)", {
      default: DEFAULT_FILTER,
    })
    .option("--direction <which>", "What to measure: in, out or both", { default: "both" })
    .option("--label <how>", "Group sockets by none, port or peer (shows addresses)", {
      default: "port",
    })
    .option("--user <name>", "Run the command as this user; capture stays privileged")
    .option("--drain <seconds>", "Wait so long, after the end, for bytes in send queues", {
      default: DEFAULT_DRAIN_SECONDS,
    })
    .option("--buffer <mib>", "Size of the kernel's capture buffer, MiB", {
      default: DEFAULT_BUFFER_MIB,
    })
    .option("--ring <slots>", "Records a process's ring holds, 64 bytes each; a power of two", {
      default: DEFAULT_SLOTS,
    })
    .option("--anyway", "Run the command even if it cannot be measured")
    .option("--quiet", "No summary on stderr, only errors")
    .example("  sudo kqtime run --log kqtime.log.gz -- curl -s -o /dev/null http://example.net/")
    .example("  sudo kqtime run --user debian-tor --log relay.log.gz -- tor -f torrc")
    .action(async (options: Record<string, unknown>) => {
      const command = (options["--"] as string[] | undefined) ?? [];
      if (command.length === 0) {
        throw usage("run needs a command after `--`: kqtime run [options] -- command [args…]");
      }
      const { runCommand } = await import("./run.ts");
      return runCommand(
        {
          command,
          log: text(options, "log"),
          json: text(options, "json"),
          record: text(options, "record"),
          interface: text(options, "interface") ?? "any",
          filter: text(options, "filter") ?? DEFAULT_FILTER,
          direction: choice(options, "direction", ["in", "out", "both"]),
          label: choice(options, "label", LABEL_MODES),
          user: text(options, "user"),
          drainMs: number(options, "drain", 0, 86400) * 1000,
          bufferBytes: number(options, "buffer", 0.0625, 2047) * MIB,
          slots: powerOfTwo(number(options, "ring", 64, 1 << 24)),
          anyway: options.anyway === true,
        },
        options.quiet === true,
      );
    });

  cli
    .command("replay <dir>", "Join a recording of `run --record` again")
    .option("--log <file>", "Write a line for each call; .gz compresses")
    .option("--json <file>", "Write the summary as JSON")
    .option("--quiet", "No summary on stderr, only errors")
    .action(async (folder: string, options: Record<string, unknown>) => {
      const { replayCommand } = await import("./replay.ts");
      return replayCommand({
        folder: String(folder),
        log: text(options, "log"),
        json: text(options, "json"),
        quiet: options.quiet === true,
      });
    });

  cli
    .command("demo", "Measure a sender and a receiver behind a 20 Mbit/s link")
    .option("--seconds <n>", "How long they send", { default: 3 })
    .option("--log <dir>", "Folder for the logs of both sides", { default: "kqtime-demo" })
    .action(async (options: Record<string, unknown>) => {
      const { demo } = await import("./demo.ts");
      return demo({ seconds: number(options, "seconds", 0.1, 3600), folder: text(options, "log")! });
    });

  cli
    .command("doctor", "Tell what is missing on this machine, and how to get it")
    .action(async () => {
      const { doctor } = await import("./doctor.ts");
      return doctor({});
    });

  cli.help();
  cli.version(VERSION);

  const isRun = argv[0] === "run";
  try {
    cli.parse(["", "kqtime", ...argv], { run: false });
    if (cli.matchedCommand === undefined) {
      if (cli.options.help === true || cli.options.version === true) return ExitCode.Ok;
      if (argv.length === 0) {
        cli.outputHelp();
        return ExitCode.Usage;
      }
      throw usage(`there is no command "${argv[0]}": run, replay, demo or doctor (see --help)`);
    }
    if (cli.options.help === true || cli.options.version === true) return ExitCode.Ok;
    const extra = cli.args.slice(cli.matchedCommand.args.length);
    if (extra.length > 0) {
      throw usage(`unexpected "${extra[0]}"${isRun ? ": the command comes after `--`" : ""}`);
    }
    return (await cli.runMatchedCommand()) as number;
  } catch (error) {
    return report(error, isRun);
  }
}

function powerOfTwo(value: number): number {
  if (Math.log2(value) % 1 === 0) return value;
  throw usage(`--ring takes a power of two, for example ${2 ** Math.ceil(Math.log2(value))}`);
}

function usage(message: string): KQTimeError {
  return new KQTimeError("E_USAGE", "arguments", message, ExitCode.Usage);
}

/** One line for an error; the stack only under DEBUG. */
function report(error: unknown, isRun: boolean): number {
  const known = error instanceof KQTimeError;
  const fromParser = error instanceof Error && error.name === "CACError";
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`kqtime: ${message.replaceAll("\n", " ")}\n`);
  if (process.env.DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  if (known && error.exitCode !== ExitCode.Usage) return error.exitCode;
  // The exit codes of `run` below 125 are the command's own.
  return isRun ? ExitCode.Own : known || fromParser ? ExitCode.Usage : ExitCode.Own;
}
