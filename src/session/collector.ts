// The live loop: polls the rings and the capture in bounded batches, feeds the join, backs off when
// idle, and after the target's end waits for what is still in send queues.

import { PacketBatch } from "../capture/packets.ts";
import { Devices } from "../capture/devices.ts";
import { PacketSource } from "../capture/source.ts";
import type { Capture } from "../ffi/libpcap.ts";
import { socketQueues } from "../ffi/netlink.ts";
import type { Log } from "../output/log.ts";
import type { Connection } from "../match/connection.ts";
import type { Engine } from "../match/engine.ts";
import { TupleMap } from "../match/tuple-map.ts";
import type { RecordFeed } from "../ring/feed.ts";
import { Rings } from "../ring/rings.ts";
import type { MessageListener } from "../ffi/libc.ts";
import { Observer } from "./observer.ts";
import { CaptureWatch } from "./capture-watch.ts";
import type { ClockWatch } from "./clock-watch.ts";
import { Delivery } from "./delivery.ts";
import { Orphans } from "./orphans.ts";
import { Pace } from "./pace.ts";
import { QueueWatch } from "./queue-watch.ts";
import { Frame, type TapeWriter } from "./tape.ts";

const BATCH_PACKETS = 4096;
const TICK_EVERY_MS = 100;
/** When nothing happens. */
const IDLE_TICK_EVERY_MS = 500;
/** How often the processes are looked at: when there is traffic or an end to wait for, when not. */
const ALIVE_EVERY_MS = 50;
const IDLE_ALIVE_EVERY_MS = 1000;
const SYNC_EVERY_MS = 500;
const QUEUES_EVERY_MS = 20;
/** A thread that is just writing a record gets its processor back within this. */
const COMMIT_MS = 200;
/** Buffers of any size are joined within this, unless something hostile keeps the collector from it. */
const JOIN_MOST_MS = 30_000;
const DEVICES_EVERY_MS = 2000;
/** Share of a ring that may wait for the log. */
const SHED_ABOVE = 0.5;
/** One burst fills a ring; only one that is full again and again cannot be kept up with. */
const SHED_AFTER_ROUNDS = 4;

export interface CollectorParts {
  readonly engine: Engine;
  readonly capture: Capture;
  readonly listener: MessageListener;
  readonly token: string;
  readonly baseSec: number;
  readonly clock: ClockWatch;
  /** Those that are open now. */
  readonly logs: () => readonly Log[];
  /** Whether a tick up to then asks what all sockets do at the moment. */
  readonly isIntervalDue: (capturedNs: number) => boolean;
  readonly tape: TapeWriter | null;
  /** How often queue lengths are read; 0: never. */
  readonly statsEveryMs: number;
  /** The capture sees all interfaces: outer and inner ones must be told apart. */
  readonly anyInterface: boolean;
  readonly onWarning: (message: string) => void;
}

export class Collector implements RecordFeed {
  readonly rings: Rings;
  readonly source: PacketSource;
  readonly captureWatch: CaptureWatch;
  readonly #parts: CollectorParts;
  readonly #engine: Engine;
  readonly #tape: TapeWriter | null;
  readonly #batch = new PacketBatch(BATCH_PACKETS);
  readonly #devices = new Devices();
  readonly #work: Connection[] = [];
  readonly #observer: Observer;
  readonly #queueWatch: QueueWatch;
  readonly #orphans: Orphans;
  #tickAtMs = 0;
  #syncAtMs = 0;
  #devicesAtMs = -Infinity;
  #capturedNs = -Infinity;
  readonly #delivery = new Delivery();
  /** Of the packets in the batch: when they were read, and whether they were all that were there. */
  #readNs = 0;
  #empty = false;
  /** The batch waits for records that were written before its packets left. */
  #held = false;
  readonly #pace = new Pace();
  /** Share of the fullest ring that had filled before the last round; 1: more is there. */
  #fill = 0;
  #pressed = 0;
  #busy = false;
  #netlinkFailed = false;
  #hurry = false;
  /** See `detach`. */
  #detachedNs = Infinity;
  #packetsUntilNs = Infinity;
  /** Told after each round how far the capture is joined. */
  onJoined: (capturedNs: number, captureFailed: boolean) => void = () => {};
  /** Whether somebody waits for an answer. */
  isAwaited: () => boolean = () => false;

  constructor(parts: CollectorParts) {
    this.#parts = parts;
    this.#engine = parts.engine;
    this.#tape = parts.tape;
    this.source = new PacketSource(parts.capture, parts.baseSec);
    this.rings = new Rings(parts.listener, parts.token, this);
    this.#engine.onFree = (table, entry, generation) => this.rings.free(table, entry, generation);
    this.captureWatch = new CaptureWatch(parts.capture, parts.onWarning);
    this.#observer = new Observer({
      engine: parts.engine,
      baseSec: parts.baseSec,
      refresh: (connection) => this.rings.refresh(connection.table, connection.entry),
      onObserved: (sock, values) => this.#tape?.observed(sock, values),
      onFailure: (error) => this.#warnOnce(error),
    });
    this.#queueWatch = new QueueWatch({
      engine: parts.engine,
      everyMs: parts.statsEveryMs,
      nowNs: () => this.nowNs(),
      refresh: (connection) => this.rings.refresh(connection.table, connection.entry),
      onSample: (numbers) => this.#tape?.numbers(Frame.Queues, numbers),
      onWarning: parts.onWarning,
    });
    this.#orphans = new Orphans({
      live: parts.engine.live,
      isUsed: (table) => this.rings.isUsed(table),
      onGone: (connection) => this.#gone(connection),
      onFailure: (error) => this.#warnOnce(error),
    });
  }

  /** A socket that the kernel does not know any more. */
  #gone(connection: Connection): void {
    this.#tape?.pair(Frame.Gone, connection.sock, 0);
    this.#engine.settle(connection, -1);
  }

  close(): void {
    this.#observer.close();
    this.#queueWatch.close();
  }

  // The rings' contents, on their way to the join: everything passes the tape.
  addTable(): number {
    const table = this.#engine.addTable();
    this.#tape?.table(Frame.Table, table);
    return table;
  }

  endTable(table: number): void {
    this.#tape?.table(Frame.EndTable, table);
    this.#engine.endTable(table);
  }

  isUnknown(table: number, entry: number, generation: number): boolean {
    return this.#engine.isUnknown(table, entry, generation);
  }

  entry(table: number, entry: number, words: Uint32Array): void {
    const related = this.#engine.relatedTo(table, entry, words);
    if (related.length > 0) {
      // Reading other entries uses the memory that `words` is in.
      const copy = words.slice();
      for (const other of related) {
        if (other.table !== table || other.entry !== entry) {
          this.rings.refresh(other.table, other.entry);
        }
      }
      words = copy;
    }
    this.#tape?.entry(Frame.Entry, table, entry, words);
    this.#engine.entry(table, entry, words);
  }

  /** A socket that lived before this collector took its session over. */
  takeEntry(table: number, entry: number, words: Uint32Array): void {
    this.#tape?.entry(Frame.Taken, table, entry, words);
    this.#engine.takeEntry(table, entry, words);
  }

  /** Asks the kernel about every socket that was taken over. */
  observeAll(): void {
    this.#observer.round(performance.now(), true);
  }

  record(table: number, words: Uint32Array): void {
    this.#tape?.record(table, words);
    this.#engine.record(table, words);
  }

  /** Processes live on, and what they do is not read any more. */
  get isDetached(): boolean {
    return this.#detachedNs !== Infinity;
  }

  /** When the measurement ended, or would if it did now; ns since the base. */
  get endNs(): number {
    return this.isDetached ? this.#detachedNs : this.nowNs();
  }

  /** Sockets whose books are not closed. */
  get liveSockets(): number {
    return this.#engine.live.size;
  }

  /** Nanoseconds since the base, now, by the clock as it was at the start. */
  nowNs(): number {
    return this.#parts.clock.nowNs();
  }

  /** The command has ended: from now on somebody waits for the end of each step. */
  hurry(): void {
    this.#hurry = true;
    this.#pace.wake();
  }

  /** Runs until `done` says so. */
  async run(done: () => boolean): Promise<void> {
    while (!done()) {
      this.round();
      await this.#rest();
    }
  }

  /** After the target's end: until nothing of it is left to be sent, `drainMs` at the most. */
  async drain(drainMs: number): Promise<void> {
    const endNs = this.nowNs();
    const deadline = performance.now() + drainMs;
    // What was captured before the end is joined in any case, unless that does not come to an end.
    await this.#join(endNs);
    let askedMs = -Infinity;
    let goneNs = -1;
    for (;;) {
      this.round();
      const nowMs = performance.now();
      if (nowMs - askedMs >= QUEUES_EVERY_MS || nowMs >= deadline) {
        askedMs = nowMs;
        const askedNs = this.nowNs();
        if (this.#askQueues()) goneNs = -1;
        else if (goneNs < 0) goneNs = askedNs;
        // The last bytes left the queues before: they are captured, or never will be.
        if (goneNs >= 0 && (this.#capturedNs >= goneNs || this.captureWatch.failed)) break;
        if (nowMs >= deadline) break;
      }
      await this.#rest();
    }
    this.#tick();
  }

  /**
   * Instead of `drain`, where processes live on: the measurement ends between two of their calls.
   * What they call from now on is not of it; the packets of what they have called are waited for.
   */
  async detach(): Promise<void> {
    const deadline = performance.now() + COMMIT_MS;
    this.round();
    // A record that is just being written belongs to it.
    while (this.#held && performance.now() < deadline) {
      await this.#rest();
      this.round();
    }
    // Once more, at once: what came while all that was joined.
    this.rings.drain();
    const endNs = this.nowNs();
    this.#detachedNs = endNs;
    this.#packetsUntilNs = endNs;
    await this.#join(endNs);
    this.#askQueues();
    this.#tick();
  }

  /** Goes on until all packets of before then are joined. */
  #join(endNs: number): Promise<void> {
    const deadline = performance.now() + JOIN_MOST_MS;
    return this.run(() =>
      this.#capturedNs >= endNs || this.captureWatch.failed || performance.now() >= deadline
    );
  }

  /** One bounded round over all sources. */
  round(): void {
    const engine = this.#engine;
    const { drops } = engine.instances;
    const { source, rings } = this;
    const nowMs = performance.now();
    if (this.#parts.anyInterface && nowMs - this.#devicesAtMs >= DEVICES_EVERY_MS) {
      this.#devicesAtMs = nowMs;
      this.#readDevices();
    }
    if (!this.#held) {
      this.#readNs = this.nowNs();
      this.#delivery.look(this.#parts.capture.stats().received, this.#readNs);
      source.read(this.#batch, BATCH_PACKETS);
      this.#delivery.gave(this.#batch, source.examined, engine.clock);
      this.#empty = this.#batch.count < BATCH_PACKETS && source.examined < BATCH_PACKETS;
      if (this.isDetached) this.#cut();
      if (this.#batch.count > 0) drops.now = this.captureWatch.drops();
    }
    const packets = this.#batch.count;
    // A log that cannot keep up sheds lines, counted, before records are lost.
    const pressure = rings.pressure();
    this.#fill = this.#empty ? pressure : 1;
    this.#pressed = pressure > SHED_ABOVE ? this.#pressed + 1 : 0;
    const logs = this.#parts.logs();
    for (const log of logs) log.shedding = this.#pressed >= SHED_AFTER_ROUNDS;
    // Every record that was written before one of these packets left is read before it is judged.
    const records = this.isDetached ? 0 : rings.drain();
    this.#held = !this.isDetached && !rings.complete;
    // Behind a flood of what others send, rings wait.
    const crowded = !this.isDetached && rings.crowded;
    if (crowded) this.#fill = 1;
    if (this.#held) {
      this.#busy = true;
      this.#fill = 1;
      return;
    }
    if (packets > 0) {
      this.lookAtClock();
      this.#tape?.packets(packets, drops.now, drops.drained, source.digest?.of(packets));
      engine.packets(this.#batch);
    }
    if (packets + records > 0) {
      engine.flush();
      this.#tape?.plain(Frame.Flush);
    }
    if (this.#empty) {
      // While the capture sees nothing, its gap is not behind it.
      if (drops.drained !== drops.now && !this.captureWatch.failed) {
        drops.drained = drops.now;
        this.#tape?.packets(0, drops.now, drops.drained);
      }
      this.#capturedNs = Math.max(this.#capturedNs, this.#delivery.untilNs(this.#readNs));
    }
    const idle = this.#pace.isIdle && !this.#hurry;
    if (!this.isDetached) {
      rings.reap(nowMs, idle ? IDLE_ALIVE_EVERY_MS : ALIVE_EVERY_MS);
      this.#observer.round(nowMs);
      this.#queueWatch.round(nowMs);
      this.#orphans.round(nowMs, this.#capturedNs);
    }
    const tickEveryMs = idle && !engine.queues.isPending ? IDLE_TICK_EVERY_MS : TICK_EVERY_MS;
    if (nowMs - this.#tickAtMs >= tickEveryMs) this.#tick();
    if (nowMs - this.#syncAtMs >= SYNC_EVERY_MS) {
      this.#syncAtMs = nowMs;
      for (const log of logs) log.sync();
    }
    if (this.captureWatch.round(nowMs)) {
      drops.now = this.captureWatch.drops();
      // What is settled meanwhile must know of it, in a replay too.
      this.#tape?.packets(0, drops.now, drops.drained);
    }
    this.#busy = packets + records > 0 || source.examined > 0 || crowded;
    this.onJoined(this.#capturedNs, this.captureWatch.failed);
  }

  /** Records and packets may be of after a step: the join must know of it before. */
  lookAtClock(): void {
    const step = this.#parts.clock.look();
    if (step === null) return;
    this.#tape?.clockStep(step);
    this.#engine.clock.add(step);
  }

  /** Leaves what was captured after the end out. */
  #cut(): void {
    const batch = this.#batch;
    this.lookAtClock();
    for (let i = 0; i < batch.count; i++) {
      if (this.#engine.clock.steady(batch.timeNs[i]!) <= this.#packetsUntilNs) continue;
      batch.count = i;
      // What comes behind it would be placed wrongly in a recording.
      this.#packetsUntilNs = -Infinity;
    }
  }

  #tick(): void {
    const engine = this.#engine;
    this.#tickAtMs = performance.now();
    const work = this.#work;
    work.length = 0;
    if (this.isDetached) {
      // What the tables say now is of later.
    } else if (this.#parts.isIntervalDue(this.#capturedNs)) {
      for (const connection of engine.live) work.push(connection);
    } else {
      engine.stale(this.#capturedNs, work);
    }
    for (let i = 0; i < work.length; i++) this.rings.refresh(work[i]!.table, work[i]!.entry);
    engine.ringRecords = this.rings.lostRecords();
    this.#tape?.pair(Frame.Tick, this.#capturedNs, engine.ringRecords);
    engine.tick(this.#capturedNs);
  }

  /** Asks the kernel about bytes that were called and not seen; false if it has none of them. */
  #askQueues(): boolean {
    const engine = this.#engine;
    const work = this.#work;
    work.length = 0;
    engine.pending(work);
    if (work.length === 0) return false;
    const queues = new TupleMap<{ bytes: number }>();
    try {
      for (const q of socketQueues()) {
        queues.set(q.localWords, 0, q.localPort, q.remoteWords, 0, q.remotePort, {
          bytes: q.sendQueueBytes,
        });
      }
    } catch (error) {
      // Without the kernel's answer, what was not seen by now is taken for never sent.
      this.#warnOnce(error);
      return false;
    }
    let waiting = false;
    for (const connection of work) {
      const { local, remote, lport, rport, sock } = connection;
      const bytes = queues.get(local, 0, lport, remote, 0, rport)?.bytes ?? -1;
      this.#tape?.pair(Frame.Queued, sock, bytes);
      engine.queued(sock, bytes);
      if (bytes > 0) waiting = true;
    }
    return waiting;
  }

  #readDevices(): void {
    const { innerDevices } = this.#engine;
    try {
      if (this.#devices.readInner(innerDevices)) this.#tape?.inner(innerDevices);
    } catch (error) {
      this.#warnOnce(error);
    }
  }

  /** A measurement goes on without netlink, and says what that costs. */
  #warnOnce(error: unknown): void {
    if (this.#netlinkFailed) return;
    this.#netlinkFailed = true;
    const why = error instanceof Error ? error.message : String(error);
    this.#parts.onWarning(
      `${why}: bytes in send queues at the end, and bridges, cannot be told from others`,
    );
  }

  #rest(): Promise<void> {
    return this.#pace.rest(this.#busy, this.#fill, this.#hurry || this.isAwaited());
  }
}
