// The command line: parses, then loads the command's module, so that --help stays fast.

import { cac, type CAC, type Command } from "cac";
import { ExitCode, KQTimeError } from "../errors.ts";
import { LABEL_MODES } from "../match/label-modes.ts";
import { SOCKETS_LISTED } from "../output/summary.ts";
import { DEFAULT_FILTER } from "../session/partial-filter.ts";
import { VERSION } from "../version.ts";
import { printHelp } from "./help.ts";
import { declareLongRuns, longRuns } from "./long-runs.ts";
import { declareLogCommands } from "./log-commands.ts";
import { Given, usage } from "./options.ts";
import { warn } from "./stderr.ts";

const DEFAULT_BUFFER_MIB = 64;
const DEFAULT_SLOTS = 65536;
const DEFAULT_STATS_SECONDS = 1;
/** A sample must be joined before the next. */
const STATS_SECONDS_LEAST = 0.25;
const STATS_INTERVAL_HELP =
  `Time between the log's lines of queue lengths, at least ${STATS_SECONDS_LEAST}; 0: none`;
/** Each has two distributions, in memory and in the summary. */
const SOCKETS_MOST = 10_000;
const DEFAULT_DRAIN_SECONDS = 5;
const DEFAULT_DEMO_SECONDS = 3;
const DEFAULT_DEMO_FOLDER = "kqtime-demo";
const MIB = 2 ** 20;

type Action = (given: Given) => Promise<number>;

/** Runs kqtime with these arguments (without the program's name); returns the exit code. */
export async function main(argv: string[]): Promise<number> {
  try {
    return await dispatch(argv);
  } catch (error) {
    return report(error, argv[0] === "run");
  }
}

async function dispatch(argv: string[]): Promise<number> {
  const cli = cac("kqtime");
  const actions = declare(cli);
  const [name, ...words] = argv;
  const find = (wanted: string | undefined): Command | null =>
    cli.commands.find((command) => command.name === wanted) ?? null;
  const noCommand = (wanted: string) =>
    usage(`there is no command "${wanted}": ${[...actions.keys()].join(", ")} (see kqtime --help)`);
  if (name === undefined) {
    printHelp(cli, null);
    return ExitCode.Usage;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    const wanted = words[0];
    if (wanted !== undefined && find(wanted) === null) throw noCommand(wanted);
    printHelp(cli, find(wanted));
    return ExitCode.Ok;
  }
  if (name === "--version" || name === "-v" || name === "version") {
    console.log(`kqtime ${VERSION}`);
    return ExitCode.Ok;
  }
  const command = find(name);
  if (command === null) throw noCommand(name);
  const end = words.indexOf("--");
  const own = end < 0 ? words : words.slice(0, end);
  if (own.includes("--help") || own.includes("-h")) {
    printHelp(cli, command);
    return ExitCode.Ok;
  }
  const given = new Given(words, command.options, name);
  const many = command.args.some(({ variadic }) => variadic);
  const extra = given.words[command.args.length];
  if (extra !== undefined && !many) {
    throw usage(`unexpected "${extra}"${name === "run" ? ": the command comes after `--`" : ""}`);
  }
  if (given.command.length > 0 && name !== "run" && name !== "compare") {
    throw usage(`unexpected "${given.command[0]}": ${name} takes no command`);
  }
  const missing = command.args.filter(({ required }) => required)[given.words.length];
  if (missing !== undefined) throw usage(`${name} needs a value for <${missing.value}>`);
  return actions.get(name)!(given);
}

/** @throws KQTimeError `E_USAGE` */
function statsEveryMs(given: Given): number {
  const seconds = given.number("stats-interval", DEFAULT_STATS_SECONDS, 0, 86400);
  if (seconds === 0 || seconds >= STATS_SECONDS_LEAST) return seconds * 1000;
  throw usage(`--stats-interval takes 0 or at least ${STATS_SECONDS_LEAST} seconds, not ${seconds}`);
}

/** @throws KQTimeError `E_USAGE` */
function socketsListed(given: Given): number {
  return Math.floor(given.number("sockets", SOCKETS_LISTED, 0, SOCKETS_MOST));
}

/** Declares the commands; returns what each does. */
function declare(cli: CAC): Map<string, Action> {
  const actions = new Map<string, Action>();
  cli.version(VERSION);

  const run = cli
    .command("run", "Measure a command")
    .usage("run [options] -- command [args…]")
    .option("--log <file>", "Write a line for each call; .gz compresses")
    .option("--json <file>", "Write the summary as JSON (docs/summary.schema.json)")
    .option("--sockets <n>", "How many sockets the summary lists one by one; 0: none", {
      default: SOCKETS_LISTED,
    })
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
    .option("--stats-interval <seconds>", STATS_INTERVAL_HELP, {
      default: DEFAULT_STATS_SECONDS,
    });
  declareLongRuns(run)
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
    .option("--quiet", "No summary on stderr, only errors and what was lost or not measured")
    .example("  sudo kqtime run --log kqtime.log.gz -- curl -s -o /dev/null http://example.net/")
    .example("  sudo kqtime run --user debian-tor --sockets 0 --json relay.json -- tor -f torrc");
  actions.set("run", async (given) => {
    if (given.command.length === 0) {
      throw usage("run needs a command after `--`: kqtime run [options] -- command [args…]");
    }
    const { runCommand } = await import("./run.ts");
    return runCommand(
      {
        command: given.command,
        log: given.path("log"),
        json: given.path("json"),
        socketsListed: socketsListed(given),
        record: given.path("record"),
        interface: given.text("interface") ?? "any",
        filter: given.text("filter") ?? DEFAULT_FILTER,
        direction: given.choice("direction", "both", ["in", "out", "both"]),
        label: given.choice("label", "port", LABEL_MODES),
        user: given.text("user"),
        statsEveryMs: statsEveryMs(given),
        ...longRuns(given),
        drainMs: given.number("drain", DEFAULT_DRAIN_SECONDS, 0, 86400) * 1000,
        bufferBytes: given.number("buffer", DEFAULT_BUFFER_MIB, 0.0625, 2047) * MIB,
        slots: powerOfTwo(given.number("ring", DEFAULT_SLOTS, 64, 1 << 24)),
        anyway: given.flag("anyway"),
      },
      given.flag("quiet"),
    );
  });

  const attach = cli
    .command("attach <pid>", "Go on with a measurement whose kqtime was killed")
    .usage("attach [options] <pid>")
    .option("--log <file>", "Write a line for each call; .gz compresses")
    .option("--json <file>", "Write the summary as JSON (docs/summary.schema.json)")
    .option("--sockets <n>", "How many sockets the summary lists one by one; 0: none", {
      default: SOCKETS_LISTED,
    })
    .option("--record <dir>", "Keep raw records and headers for `kqtime replay`")
    .option("--interface <dev>", "Network interface to capture on", { default: "any" })
    .option("--filter <bpf>", "Which packets to capture, see pcap-filter(7)", {
      default: DEFAULT_FILTER,
    })
    .option("--direction <which>", "What to measure: in, out or both", { default: "both" })
    .option("--label <how>", "Group sockets by none, port or peer (shows addresses)", {
      default: "port",
    })
    .option("--stats-interval <seconds>", STATS_INTERVAL_HELP, {
      default: DEFAULT_STATS_SECONDS,
    });
  declareLongRuns(attach)
    .option("--drain <seconds>", "Wait so long, after the end, for bytes in send queues", {
      default: DEFAULT_DRAIN_SECONDS,
    })
    .option("--buffer <mib>", "Size of the kernel's capture buffer, MiB", {
      default: DEFAULT_BUFFER_MIB,
    })
    .option("--quiet", "No summary on stderr, only errors and what was lost or not measured")
    .example("  sudo kqtime attach --log rest.log.gz 4711");
  actions.set("attach", async (given) => {
    const pid = given.words[0]!;
    if (!/^[1-9]\d{0,9}$/.test(pid)) throw usage(`attach takes a process id, not "${pid}"`);
    const { attachCommand } = await import("./attach.ts");
    return attachCommand(
      {
        pid: Number(pid),
        log: given.path("log"),
        json: given.path("json"),
        socketsListed: socketsListed(given),
        record: given.path("record"),
        interface: given.text("interface") ?? "any",
        filter: given.text("filter") ?? DEFAULT_FILTER,
        direction: given.choice("direction", "both", ["in", "out", "both"]),
        label: given.choice("label", "port", LABEL_MODES),
        statsEveryMs: statsEveryMs(given),
        ...longRuns(given),
        drainMs: given.number("drain", DEFAULT_DRAIN_SECONDS, 0, 86400) * 1000,
        bufferBytes: given.number("buffer", DEFAULT_BUFFER_MIB, 0.0625, 2047) * MIB,
      },
      given.flag("quiet"),
    );
  });

  cli
    .command("replay <dir>", "Join a recording of `run --record` again")
    .usage("replay [options] <dir>")
    .option("--log <file>", "Write a line for each call; .gz compresses")
    .option("--json <file>", "Write the summary as JSON")
    .option("--sockets <n>", "How many sockets it lists one by one (default: as recorded)")
    .option("--quiet", "No summary on stderr, only errors and what was lost or not measured");
  actions.set("replay", async (given) => {
    const { replayCommand } = await import("./replay.ts");
    return replayCommand({
      folder: given.words[0]!,
      log: given.path("log"),
      json: given.path("json"),
      sockets: given.text("sockets") === null ? null : socketsListed(given),
      quiet: given.flag("quiet"),
    });
  });

  declareLogCommands(cli, actions);

  cli
    .command("demo", "Measure a sender and a receiver behind a 20 Mbit/s link")
    .usage("demo [options]")
    .option("--seconds <n>", "How long they send", { default: DEFAULT_DEMO_SECONDS })
    .option("--log <dir>", "Folder for the logs of both sides", { default: DEFAULT_DEMO_FOLDER });
  actions.set("demo", async (given) => {
    const { demo } = await import("./demo.ts");
    return demo({
      seconds: given.number("seconds", DEFAULT_DEMO_SECONDS, 0.1, 3600),
      folder: given.path("log") ?? DEFAULT_DEMO_FOLDER,
    });
  });

  cli
    .command("collect", "Measure for a program that asks for it itself (started by libkqtime)")
    .usage("collect [options], status on descriptor 3")
    .option("--interface <dev>", "Network interface to capture on", { default: "any" })
    .option("--filter <bpf>", "Which packets to capture, see pcap-filter(7)", {
      default: DEFAULT_FILTER,
    })
    .option("--buffer <mib>", "Size of the kernel's capture buffer, MiB", {
      default: DEFAULT_BUFFER_MIB,
    })
    .option("--ring <slots>", "Records a process's ring holds, 64 bytes each; a power of two", {
      default: DEFAULT_SLOTS,
    });
  actions.set("collect", async (given) => {
    const { collect } = await import("../session/collect.ts");
    await collect({
      interface: given.text("interface") ?? "any",
      filter: given.text("filter") ?? DEFAULT_FILTER,
      bufferBytes: given.number("buffer", DEFAULT_BUFFER_MIB, 0.0625, 2047) * MIB,
      slots: powerOfTwo(given.number("ring", DEFAULT_SLOTS, 64, 1 << 24)),
    });
    return ExitCode.Ok;
  });

  cli.command("setup", "Build the C parts now, instead of at their first use");
  actions.set("setup", async () => {
    const { setup } = await import("./setup.ts");
    return setup();
  });

  cli.command("doctor", "Tell what is missing on this machine, and how to get it");
  actions.set("doctor", async () => {
    const { doctor } = await import("./doctor.ts");
    return doctor({});
  });
  return actions;
}

function powerOfTwo(value: number): number {
  if (Math.log2(value) % 1 === 0) return value;
  throw usage(`--ring takes a power of two, for example ${2 ** Math.ceil(Math.log2(value))}`);
}

/** One line for an error; the stack only under DEBUG. */
function report(error: unknown, isRun: boolean): number {
  const message = error instanceof Error ? error.message : String(error);
  // It may meet any part of kqtime, or of Bun.
  const isFull = (error as { code?: unknown } | null)?.code === "EMFILE";
  warn(isFull ? `${message}: raise \`ulimit -n\`` : message);
  if (process.env.DEBUG && error instanceof Error) warn(`${error.stack}`);
  if (!(error instanceof KQTimeError)) return ExitCode.Own;
  // The exit codes of `run` below 125 are the command's own.
  return isRun && error.exitCode === ExitCode.Usage ? ExitCode.Own : error.exitCode;
}
