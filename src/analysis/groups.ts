// How the samples of a log are grouped: by label as `kqtime run` shows it, by the names that a
// program gave, or by socket.

import { NO_NAME } from "../output/name.ts";
import { NameTable } from "./name-table.ts";
import { Direction, type LogLine } from "./log-line.ts";

export const GROUPINGS = ["label", "name", "socket"] as const;
export type Grouping = (typeof GROUPINGS)[number];

/** Groups beyond these are one: each has histograms, and a log must not fill the memory. */
export const GROUPS_MOST = 1000;
export const OTHER_GROUPS = "(others)";
/** What kqtime itself calls sockets that have no name: `out:443`, `in:192.0.2.1:9001`. */
const OWN_LABEL = /^(out|in):/;

/** The name of a line's group, where lines are grouped by label or by name. */
export function groupName(by: Grouping, name: string): string {
  if (name === "") return NO_NAME;
  return by === "name" && OWN_LABEL.test(name) ? NO_NAME : name;
}

/** Tells the group of a line: 0, 1, 2 … in the order of their first lines. */
export class Grouper {
  readonly names: string[] = [];
  /** Groups that were merged into one, because there were too many. */
  merged = false;
  /** Distinguishes the sockets of one run from those of the next in an appended log. */
  run = 0;
  readonly #by: Grouping;
  readonly #table = new NameTable();
  readonly #byName = new Map<string, number>();
  /** Group + 1 of each number of the name table. */
  #groups = new Int32Array(64);
  readonly #sockets = new Map<number, number>();

  constructor(by: Grouping) {
    this.#by = by;
  }

  of(line: LogLine): number {
    return this.#by === "socket" ? this.#socket(line) : this.#named(line);
  }

  /** The group of this name, made if it is new. */
  named(name: string): number {
    const found = this.#byName.get(name);
    if (found !== undefined) return found;
    if (this.names.length >= GROUPS_MOST && name !== OTHER_GROUPS) {
      this.merged = true;
      return this.named(OTHER_GROUPS);
    }
    const group = this.names.length;
    this.names.push(name);
    this.#byName.set(name, group);
    return group;
  }

  #named(line: LogLine): number {
    const id = this.#table.of(line);
    if (id >= this.#groups.length) {
      const longer = new Int32Array(Math.max(id + 1, this.#groups.length * 2));
      longer.set(this.#groups);
      this.#groups = longer;
    }
    let group = this.#groups[id]! - 1;
    if (group < 0) {
      group = this.named(groupName(this.#by, this.#table.name(id)));
      this.#groups[id] = group + 1;
    }
    return group;
  }

  #socket(line: LogLine): number {
    // Parsed data and the ancestor's logs have no socket, these at least the descriptor.
    const number = line.sock >= 0 ? line.sock * 2 : line.fd * 2 + 1;
    const key = this.run * 2 ** 33 + number;
    const found = this.#sockets.get(key);
    if (found !== undefined) return found;
    if (this.names.length >= GROUPS_MOST) return this.named(OTHER_GROUPS);
    const group = this.named(this.#socketName(line));
    this.#sockets.set(key, group);
    return group;
  }

  #socketName(line: LogLine): string {
    const run = this.run > 0 ? `${this.run + 1}/` : "";
    if (line.sock >= 0) return `#${run}${line.sock} ${line.lport}-${line.rport} ${line.name()}`;
    return line.fd >= 0 ? `fd ${run}${line.fd} ${line.name()}` : NO_NAME;
  }
}

/** When the program made the call: it was entered (out), or it returned (in). */
export function callTimeNs(line: LogLine): number {
  return line.direction === Direction.Out ? line.startNs : line.endNs;
}
