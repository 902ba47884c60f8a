// `kqtime replay`: feeds a recording to the join again, for the identical log and summary.

import { join } from "node:path";
import { PacketDigest } from "../capture/digest.ts";
import { PacketBatch } from "../capture/packets.ts";
import { PacketSource } from "../capture/source.ts";
import { KQTimeError } from "../errors.ts";
import { Capture } from "../ffi/libpcap.ts";
import { Observed } from "../match/anchor.ts";
import { Log } from "../output/log.ts";
import { EVERY_LINE, writeMeta } from "../output/selection.ts";
import type { Summary } from "../output/summary.ts";
import { Join, type JoinEnd, type JoinSetup } from "./join.ts";
import { expectDifferent, identityOfPath } from "./private-file.ts";
import { endOf, freeOf, openOf, ruleOf, setupOf, stepOf, TIME_LIMIT_NS } from "./recorded.ts";
import { parseRule } from "./rule-text.ts";
import { ENTRY_WORDS, SLOT_WORDS } from "../ring/ring.ts";
import { damaged, EVENTS_FILE, Frame, HEADERS_FILE, readTape, type TapeFrame } from "./tape.ts";

export interface ReplayOptions {
  readonly folder: string;
  readonly log: string | null;
  /** Which file the summary goes to, as in `OpenedFile`. */
  readonly json: string | null;
  /** How many sockets the summary lists one by one; null: as when it was recorded. */
  readonly socketsListed?: number | null;
  /** A line for each call, also where the recorded run's log has only some. */
  readonly everyCall?: boolean;
  readonly onWarning: (message: string) => void;
}

/** @throws KQTimeError `E_RECORD`, `E_PCAP_FILE`, `E_LOG` */
export function replay(options: ReplayOptions): Summary {
  const events = join(options.folder, EVENTS_FILE);
  const headers = join(options.folder, HEADERS_FILE);
  const outputs = [
    { option: "--log", identity: options.log === null ? null : identityOfPath(options.log) },
    { option: "--json", identity: options.json },
  ];
  expectDifferent(outputs[0]!, outputs[1]!);
  for (const output of outputs) {
    for (const path of [events, headers]) {
      expectDifferent(output, { option: "the recording", identity: identityOfPath(path) });
    }
  }
  const frames = readTape(options.folder);
  const first = frames.next();
  if (first.done === true) throw damaged(events, "it is empty");
  if (first.value.type !== Frame.Setup) throw damaged(events, "its first frame is not the set-up");
  const recorded = setupOf(first.value.text());
  if (recorded === null) throw damaged(events, "its set-up makes no sense");
  const socketsListed = options.socketsListed ?? recorded.socketsListed;
  const lines = (options.everyCall ? null : recorded.lines) ?? EVERY_LINE;
  const setup: JoinSetup = { ...recorded, socketsListed, lines };
  const capture = Capture.savefile(headers);
  let log: Log | null = null;
  try {
    if (options.log !== null) {
      const { baseSec, startNs } = setup;
      const head = writeMeta(lines, startNs, baseSec);
      log = Log.open(options.log, { baseSec, onError: options.onWarning, head });
    }
    try {
      const player = new Player(options.folder, setup, capture, log);
      for (const frame of frames) player.play(frame);
      return player.finish();
    } catch (error) {
      log?.discard();
      if (error instanceof KQTimeError) throw error;
      throw damaged(events, error instanceof Error ? error.message : String(error));
    }
  } finally {
    log?.close();
    capture.close();
  }
}

/** Words of a frame's body, where all frames of the type have as many. */
const BODY_WORDS = new Map<number, number>([
  [Frame.EndTable, 1], [Frame.Entry, 2 + ENTRY_WORDS], [Frame.Taken, 2 + ENTRY_WORDS],
  [Frame.Record, 1 + SLOT_WORDS], [Frame.Tick, 4], [Frame.Queued, 4], [Frame.Gone, 4],
  [Frame.Observed, 2 + 2 * Observed.count], [Frame.Clock, 6],
]);

/** Gives frames to a join. */
class Player {
  readonly #setup: JoinSetup;
  readonly #target: Join;
  readonly #source: PacketSource;
  readonly #batch = new PacketBatch(4096);
  readonly #numbers = new Float64Array(new ArrayBuffer(16));
  readonly #numberWords = new Uint32Array(this.#numbers.buffer);
  readonly #events: string;
  readonly #headers: string;
  #tables = 0;
  #tickNs: number;
  #end: JoinEnd | null = null;
  /** The savefile ended before the events did. */
  #short = false;

  constructor(folder: string, setup: JoinSetup, capture: Capture, log: Log | null) {
    this.#events = join(folder, EVENTS_FILE);
    this.#headers = join(folder, HEADERS_FILE);
    this.#setup = setup;
    this.#tickNs = setup.startNs;
    this.#target = new Join(setup, log);
    this.#source = new PacketSource(capture, setup.baseSec);
    this.#source.digest = new PacketDigest();
  }

  play({ type, words, text }: TapeFrame): void {
    // What follows the cut is not joined: but an end would tell that it is no cut.
    if (this.#short && type !== Frame.End) return;
    const { engine } = this.#target;
    const { drops } = engine.instances;
    const numbers = this.#numbers;
    const expected = BODY_WORDS.get(type);
    if (expected !== undefined && words.length !== expected) {
      throw damaged(this.#events, `a frame of the type ${type} has ${words.length} words`);
    }
    switch (type) {
      case Frame.Table:
        engine.addTable();
        this.#tables++;
        break;
      case Frame.EndTable:
        engine.endTable(this.#table(words));
        break;
      case Frame.Entry:
        engine.entry(this.#table(words), words[1]!, words.subarray(2));
        break;
      case Frame.Taken:
        engine.takeEntry(this.#table(words), words[1]!, words.subarray(2));
        break;
      case Frame.Record:
        engine.record(this.#table(words), words.subarray(1));
        break;
      case Frame.Packets: {
        // Recordings of earlier versions have no checksum.
        if (words.length !== 5 && words.length !== 6) {
          throw damaged(this.#events, `a frame of packets has ${words.length} words`);
        }
        const count = words[0]!;
        this.#numberWords.set(words.subarray(1, 5));
        drops.now = this.#count(numbers[0]!);
        drops.drained = this.#count(numbers[1]!);
        if (count > this.#batch.capacity) throw damaged(this.#events, "a batch of packets is too large");
        this.#short = this.#source.read(this.#batch, count) < count;
        if (!this.#short && words.length === 6 && this.#source.digest!.of(count) !== words[5]!) {
          throw damaged(this.#headers, "packets are not those that were captured");
        }
        // Those of a batch that is cut are packets as good as any.
        engine.packets(this.#batch);
        break;
      }
      case Frame.Tick:
        this.#numberWords.set(words.subarray(0, 4));
        engine.ringRecords = this.#count(numbers[1]!);
        // -Infinity: nothing is captured yet.
        if (!(numbers[0]! < TIME_LIMIT_NS)) throw damaged(this.#events, "a time makes no sense");
        engine.tick(numbers[0]!);
        if (numbers[0]! > this.#tickNs) this.#tickNs = numbers[0]!;
        break;
      case Frame.Queued:
        this.#numberWords.set(words.subarray(0, 4));
        if (numbers[1]! !== -1) this.#count(numbers[1]!);
        engine.queued(numbers[0]!, numbers[1]!);
        break;
      case Frame.Gone: {
        this.#numberWords.set(words.subarray(0, 4));
        const gone = [...engine.live].find(({ sock }) => sock === numbers[0]!);
        if (gone !== undefined) engine.settle(gone, -1);
        break;
      }
      case Frame.Inner:
        engine.innerDevices.clear();
        for (const index of words) engine.innerDevices.add(index);
        break;
      case Frame.Observed: {
        // A frame's body is only aligned to four bytes.
        const numbers = new Float64Array(words.slice().buffer);
        engine.anchors.observe(numbers[0]!, numbers.subarray(1));
        break;
      }
      case Frame.Clock:
        engine.clock.add(this.#known(stepOf(new Float64Array(words.slice().buffer)), "a step of the clock"));
        break;
      case Frame.Queues:
        if (words.length % 2 !== 0) throw damaged(this.#events, "a sample of queues is cut");
        engine.sample(new Float64Array(words.slice().buffer));
        break;
      case Frame.Flush:
        engine.flush();
        break;
      case Frame.Open:
        this.#target.open(this.#known(openOf(text()), "a handle"), null);
        break;
      case Frame.Free: {
        const { handle, endNs } = this.#known(freeOf(text()), "the end of a handle");
        this.#target.free(handle, endNs, null);
        break;
      }
      case Frame.Rule: {
        const asked = this.#known(ruleOf(text()), "a rule");
        const rule = this.#known(parseRule(asked.text), "a rule");
        this.#target.rule(asked.handle, rule, asked.remove, asked.askedNs);
        break;
      }
      case Frame.End:
        if (this.#short) throw damaged(this.#headers, "packets are missing");
        this.#end = this.#known(endOf(text()), "the end");
        break;
      default:
        throw damaged(this.#events, `a frame is of the unknown type ${type}`);
    }
  }

  finish(): Summary {
    return this.#target.finish(this.#end ?? this.#cutOff());
  }

  #count(value: number): number {
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw damaged(this.#events, "a count makes no sense");
  }

  #known<T>(value: T | null, what: string): T {
    if (value === null) throw damaged(this.#events, `${what} makes no sense`);
    return value;
  }

  #table(words: Uint32Array): number {
    if (words[0]! < this.#tables) return words[0]!;
    throw damaged(this.#events, `there is no table ${words[0]}`);
  }

  /** What is known of a session that did not write its end. */
  #cutOff(): JoinEnd {
    const { engine } = this.#target;
    return {
      endNs: Math.max(this.#tickNs, this.#setup.startNs),
      exitCode: null,
      signal: null,
      pids: [],
      losses: {
        ringRecords: engine.ringRecords,
        capturePackets: engine.instances.drops.now,
        interfacePackets: 0,
        badPackets: this.#source.badPackets,
        memoryRecords: 0,
        tableSockets: 0,
        descriptorSockets: 0,
        addressSockets: 0,
        staleCalls: 0,
        inheritedRings: 0,
        unheardProcesses: 0,
        fragments: this.#source.fragments,
      },
      badRecords: 0,
      isDetached: false,
      isCut: true,
      warnings: [
        "the recording is cut off, for kqtime was killed or the disk was full: these figures are " +
          "those up to the cut, and losses are known only in part",
      ],
    };
  }
}
