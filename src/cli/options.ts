// Options of the command line, checked. The words are read here and not by cac, which turns what
// looks like a number into one: `--log 007` is a file of that name.

import { ExitCode, KQTimeError } from "../errors.ts";

const NS_OF: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9 };
const MOST_NS = 86400e9;
const BYTES_OF: Record<string, number> = { "": 1, k: 2 ** 10, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** What an option's declaration says of it: `--log <file>` requires a value. */
export interface Declared {
  readonly name: string;
  /** All its names: `-o, --output <file>` has two. */
  readonly names?: readonly string[] | undefined;
  readonly required?: boolean | undefined;
}

/** cac has `--stats-interval` as `statsInterval`. */
function typedName({ name }: Declared): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export function usage(message: string): KQTimeError {
  return new KQTimeError("E_USAGE", "arguments", message, ExitCode.Usage);
}

/** The words behind a command's name, in their kinds. */
export class Given {
  /** Those that are no options. */
  readonly words: string[] = [];
  /** Those behind `--`. */
  readonly command: string[] = [];
  readonly #values = new Map<string, string>();
  readonly #flags = new Set<string>();

  /** @throws KQTimeError `E_USAGE` */
  constructor(argv: readonly string[], declared: readonly Declared[], command: string) {
    for (let i = 0; i < argv.length; i++) {
      const word = argv[i]!;
      if (word === "--") {
        this.command.push(...argv.slice(i + 1));
        return;
      }
      if (!word.startsWith("-") || word === "-") {
        this.words.push(word);
        continue;
      }
      const equals = word.indexOf("=");
      const typed = equals < 0 ? word : word.slice(0, equals);
      const option = declared.find(
        (one) =>
          `--${typedName(one)}` === typed ||
          one.names?.some((name) => name.length === 1 && `-${name}` === typed),
      );
      if (option === undefined) {
        throw usage(`unknown option ${typed} (\`kqtime ${command} --help\` lists them)`);
      }
      if (option.required !== true) {
        if (equals >= 0) throw usage(`${typed} takes no value`);
        this.#flags.add(typedName(option));
        continue;
      }
      const value = equals >= 0 ? word.slice(equals + 1) : argv[i + 1];
      if (value === undefined || value === "" || (equals < 0 && value.startsWith("--"))) {
        throw usage(`${typed} needs a value`);
      }
      if (equals < 0) i++;
      const name = typedName(option);
      if (this.#values.has(name)) throw usage(`${typed} was given more than once`);
      this.#values.set(name, value);
    }
  }

  flag(name: string): boolean {
    return this.#flags.has(name);
  }

  /** Text as it was typed, or null if the option is not there. */
  text(name: string): string | null {
    return this.#values.get(name) ?? null;
  }

  /** Path of a file or folder to write. */
  path(name: string): string | null {
    const value = this.text(name);
    if (value !== "-") return value;
    throw usage(`--${name} does not take "-": standard output is /dev/stdout`);
  }

  /** A number within [least, most]. */
  number(name: string, otherwise: number, least: number, most: number): number {
    const value = this.text(name);
    if (value === null) return otherwise;
    const found = /^[\d.]+(e\d+)?$/i.test(value) ? Number(value) : Number.NaN;
    if (found >= least && found <= most) return found;
    throw usage(`--${name} takes a number from ${least} to ${most}, not "${value}"`);
  }

  /** A time such as 250us, in ns; 0 if the option is not there. */
  durationNs(name: string): number {
    const value = this.text(name);
    if (value === null) return 0;
    const [, digits, unit] = /^(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m)$/.exec(value) ?? [];
    const found = Math.round(Number(digits) * (NS_OF[unit ?? ""] ?? Number.NaN));
    if (found >= 0 && found <= MOST_NS) return found;
    throw usage(`--${name} takes a time with its unit (5ms, 250us, 1.5s), not "${value}"`);
  }

  /** A size such as 100M, in bytes; null if the option is not there. */
  bytes(name: string, least: number): number | null {
    const value = this.text(name);
    if (value === null) return null;
    const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([kKMGT]?)$/.exec(value) ?? [];
    const found = Math.round(Number(digits) * BYTES_OF[unit]!);
    if (found >= least && found <= Number.MAX_SAFE_INTEGER) return found;
    throw usage(`--${name} takes a size of at least ${least} bytes (64k, 100M, 2G), not "${value}"`);
  }

  /** A whole number within [least, most]; null if the option is not there. */
  whole(name: string, least: number, most: number): number | null {
    const value = this.text(name);
    if (value === null) return null;
    const found = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (found >= least && found <= most) return found;
    throw usage(`--${name} takes a whole number from ${least} to ${most}, not "${value}"`);
  }

  /** One of a few words. */
  choice<const T extends string>(name: string, otherwise: T, choices: readonly T[]): T {
    const value = this.text(name);
    if (value === null) return otherwise;
    const found = choices.find((one) => one === value);
    if (found !== undefined) return found;
    throw usage(`--${name} takes ${choices.join(", ")}, not "${value}"`);
  }
}
