// What programs ask for themselves: handles, each a measurement of the sockets that are registered
// with it, by the descriptor or by their addresses.

import { Reason } from "../output/reasons.ts";
import { Kind, SlotWord } from "../ring/layout.ts";
import type { Connection } from "./connection.ts";
import type { Instances } from "./instances.ts";
import { type Label, Labels } from "./labels.ts";
import { Measurement, Naming, type Registration, type Standing, standing } from "./measurement.ts";
import type { CallSink } from "./merge.ts";
import type { QueueSink } from "./queue-samples.ts";
import { NameParts } from "./name-parts.ts";
import { matches, type Rule, sameAddresses } from "./rules.ts";
import { bookWire, boundNamings, type Measured } from "./settle.ts";
import { unfound } from "./unfound.ts";

/** Registrations kept of sockets that are still connecting; those of datagram sockets stay. */
const EARLY_MOST = 4096;

interface Early {
  readonly key: string;
  readonly measurement: Measurement;
  readonly name: string | null;
}

export class Handles {
  readonly #everything: Measurement | null;
  readonly #live: Iterable<Connection>;
  readonly #measured: Measured;
  readonly #instances: Instances;
  readonly #byNumber = new Map<number, Measurement>();
  /** Numbers are given one after the other: from the first to the last. */
  #firstNumber = 0;
  #lastNumber = 0;
  readonly #names = new NameParts();
  /** In their order. */
  #early: Early[] = [];
  /** Registrations with handles that were never opened here. */
  #strange = 0;
  /** Of sockets that nobody asked for: one for all, its books are read by nobody. */
  readonly #unmeasured = new Naming([]);

  /** `live`: the sockets that are not settled, whenever it is asked. */
  constructor(
    everything: Measurement | null,
    live: Iterable<Connection>,
    measured: Measured,
    instances: Instances,
  ) {
    this.#everything = everything;
    this.#measured = measured;
    this.#instances = instances;
    this.#live = live;
  }

  /** A program asks for measurements of the sockets that it is going to register. */
  open(handle: number, sink: CallSink | null, queues: QueueSink | null = null): Measurement {
    const measurement = new Measurement(new Labels("none"), sink);
    measurement.queues = queues;
    if (this.#firstNumber === 0) this.#firstNumber = handle;
    this.#lastNumber = handle;
    this.#byNumber.set(handle, measurement);
    return measurement;
  }

  /**
   * Measures the sockets with these addresses for a handle from `atNs` on, also those that come. A
   * rule for the same addresses is replaced; a more particular one takes sockets over.
   */
  addRule(handle: number, rule: Rule, atNs: number): void {
    const measurement = this.#byNumber.get(handle);
    if (measurement === undefined) return;
    const { rules } = measurement;
    rules.add(rule);
    for (const connection of this.#live) {
      if (!matches(rule, connection)) continue;
      const mine = connection.registrations.find((one) => one.measurement === measurement);
      // One that the program has registered itself keeps its name.
      if (mine !== undefined && mine.rule === null) continue;
      if (rules.find(connection) === rule) {
        this.#rename(connection, measurement, rule.name, rule, atNs);
      }
    }
  }

  /** Takes the rule for the same addresses back. */
  removeRule(handle: number, like: Rule, atNs: number): void {
    const measurement = this.#byNumber.get(handle);
    if (measurement === undefined) return;
    measurement.rules.remove(like);
    for (const connection of this.#live) {
      if (!matches(like, connection)) continue;
      const mine = connection.registrations.find((one) => one.measurement === measurement);
      if (mine === undefined || mine.rule === null || !sameAddresses(mine.rule, like)) continue;
      this.#rename(connection, measurement, null, null, atNs);
      this.#applyRules(connection, measurement, atNs);
    }
  }

  /** The books of a handle as they stand; null if there is no such handle. */
  standing(handle: number): Standing | null {
    const measurement = this.#byNumber.get(handle);
    return measurement === undefined ? null : standing(measurement, this.#live);
  }

  /** Whether calls of a handle wait to be sent or joined. */
  isPending(handle: number): boolean {
    const measurement = this.#byNumber.get(handle);
    for (const connection of this.#live) {
      if (measurement === undefined || !isOf(connection.namings, measurement)) continue;
      if (connection.out.calls.waiting + connection.in.calls.waiting > 0) return true;
      for (const naming of connection.namings) {
        const { recipients } = naming;
        if (!recipients.some((recipient) => recipient.measurement === measurement)) continue;
        if (naming.bytesOpen("out") > 0 || naming.bytesOpen("in") > 0) return true;
      }
    }
    return false;
  }

  /** Nothing is measured for the handle any more, from `atNs` on; its last books. */
  free(handle: number, atNs: number): Standing | null {
    const measurement = this.#byNumber.get(handle);
    if (measurement === undefined) return null;
    for (const connection of this.#live) {
      const { namings, registrations } = connection;
      if (isOf(namings, measurement)) this.#close(connection, measurement);
      if (registrations.some((one) => one.measurement === measurement)) {
        this.#rename(connection, measurement, null, null, atNs);
      }
    }
    const last = standing(measurement, this.#live, (connection, side) =>
      side.sightings === null ? unfound(connection, this.#instances) : null,
    );
    measurement.ended = true;
    measurement.sink = null;
    this.#byNumber.delete(handle);
    return last;
  }

  /** What was asked for and cannot be measured; sentences. */
  notes(): string[] {
    const count = this.#strange;
    if (count === 0) return [];
    return [
      `${count} registration${count === 1 ? "" : "s"} with a handle of an earlier collector had no ` +
        "effect: open a new one",
    ];
  }

  /** Takes a record of kind `Name`; false if it makes no sense. */
  addName(table: number, words: Uint32Array): boolean {
    return this.#names.add(table, words);
  }

  /** Takes a record of kind `Register` or `Deregister`, made at `atNs`. */
  assign(table: number, words: Uint32Array, connection: Connection | null, atNs: number): void {
    const named = (words[SlotWord.kind]! & 0xff) === Kind.Register;
    const name = named ? this.#names.take(table, words) : null;
    const handle = words[SlotWord.off]!;
    const measurement = this.#byNumber.get(handle);
    if (measurement === undefined && named && !this.#wasOpened(handle)) this.#strange++;
    // A handle that was freed meanwhile.
    if (measurement === undefined || connection?.settled === true) return;
    if (connection !== null) {
      this.#rename(connection, measurement, name, null, atNs);
      return;
    }
    const key = keyOf(table, words[SlotWord.entry]!, words[SlotWord.gen]!);
    if (this.#early.length >= EARLY_MOST) this.#early.shift();
    this.#early.push({ key, measurement, name });
  }

  /** A socket appeared. */
  born(connection: Connection): void {
    const owner = connection.continues?.connection ?? connection;
    if (this.#early.length > 0) this.#catchUp(connection, owner);
    for (const measurement of this.#byNumber.values()) {
      this.#applyRules(owner, measurement, connection.birthNs);
    }
  }

  #wasOpened(handle: number): boolean {
    const [first, last] = [this.#firstNumber, this.#lastNumber];
    // The numbers may have begun again at 1.
    return first <= last ? handle >= first && handle <= last : handle >= first || handle <= last;
  }

  #catchUp(connection: Connection, owner: Connection): void {
    const key = keyOf(connection.table, connection.entry, connection.generation);
    const mine = this.#early.filter((early) => early.key === key);
    if (mine.length === 0) return;
    this.#early = this.#early.filter((early) => early.key !== key);
    for (const { measurement, name } of mine) {
      if (!measurement.ended) this.#rename(owner, measurement, name, null, connection.birthNs);
    }
  }

  /** A socket is settled. The remote end of one that was accepted does not come again. */
  settled(connection: Connection): void {
    if (connection.connected) return;
    for (const { rules } of this.#byNumber.values()) rules.ended(connection);
  }

  #applyRules(connection: Connection, measurement: Measurement, atNs: number): void {
    if (connection.registrations.some((one) => one.measurement === measurement)) return;
    const rule = measurement.rules.find(connection);
    if (rule !== null) this.#rename(connection, measurement, rule.name, rule, atNs);
  }

  /** From now on the socket's calls count for a measurement, or, without a name, no longer. */
  #rename(
    connection: Connection,
    measurement: Measurement,
    name: string | null,
    rule: Rule | null,
    atNs: number,
  ): void {
    const before = connection.registrations;
    const others = before.filter((one) => one.measurement !== measurement);
    if (name === null && others.length === before.length) return;
    connection.registrations = name === null ? others : [...others, { measurement, name, rule }];
    boundNamings(this.#measured, connection);
    connection.rename(this.namingOf(connection, connection.registrations), atNs);
  }

  /**
   * The end of a measurement waits no longer for a call that may have overlapped, or for a record
   * that is missing; nor, where nobody else measures it, for a socket that was not found on the wire.
   */
  #close(connection: Connection, measurement: Measurement): void {
    const isAlone = connection.namings.every(({ recipients }) =>
      recipients.every((one) => one.measurement === measurement || one.measurement.ended),
    );
    for (const side of [connection.out, connection.in]) {
      const { calls } = side;
      while (calls.waiting > 0) calls.skipGap(Reason.ringDrop);
      calls.doubt();
      calls.release();
      if (isAlone && side.sightings === null) {
        side.book(calls.edge, unfound(connection, this.#instances), connection);
      }
    }
    connection.merge();
    // Of one that is still used, a call under way may account for what is on the wire.
    const { unboundNs, outProgress, inProgress } = connection;
    if (unboundNs >= 0 && outProgress.active + inProgress.active === 0) {
      bookWire(this.#measured, connection);
    }
  }

  /** What the calls of a socket with these registrations are measured for. */
  namingOf(socket: Addressed, registrations: readonly Registration[]): Naming {
    const everything = this.#everything;
    const recipients = registrations.map(({ measurement, name }) => ({
      measurement,
      label: measurement.labels.named(name),
    }));
    if (everything !== null) {
      // The name that it was given last.
      const named = registrations.at(-1);
      const { connected, lport, rport, remote } = socket;
      const label: Label =
        named === undefined
          ? everything.labels.of(connected, lport, rport, remote)
          : everything.labels.named(named.name);
      recipients.push({ measurement: everything, label });
    }
    return recipients.length === 0 ? this.#unmeasured : new Naming(recipients);
  }
}

interface Addressed {
  readonly connected: boolean;
  readonly lport: number;
  readonly rport: number;
  readonly remote: Uint32Array;
}

function keyOf(table: number, entry: number, generation: number): string {
  return `${table} ${entry} ${generation}`;
}

function isOf(namings: readonly Naming[], measurement: Measurement): boolean {
  return namings.some(({ recipients }) =>
    recipients.some((recipient) => recipient.measurement === measurement),
  );
}
