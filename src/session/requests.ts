// What measured programs ask of their collector (see `kq_message` in c/kqtime_shm.h): handles with
// logs of their own, their end, and their books in between. Answers never block the collector, and
// what a program hands over is looked at before it is used. A handle belongs to the processes that
// share the memory of who opened it: when the last of them is gone, it is freed.

import { randomInt } from "node:crypto";
import { closeForeign, type MessageListener, type Received } from "../ffi/libc.ts";
import type { Rule } from "../match/rules.ts";
import { Log } from "../output/log.ts";
import { unmeasuredSentences } from "../output/losses.ts";
import { printable } from "../output/name.ts";
import { EVERY_LINE, writeMeta } from "../output/selection.ts";
import {
  Constant,
  Message,
  MessageType,
  OpenFlag,
  Reply,
  RuleFlag,
} from "../ring/layout.ts";
import { whyNoLog, writeToMemory } from "./handed-over.ts";
import type { Freed, HandleSetup, Join, JoinEnd } from "./join.ts";
import { parseRule } from "./rule-text.ts";
import type { Rings } from "../ring/rings.ts";
import { Frame, type TapeWriter } from "./tape.ts";

const HANDLES_MOST = 1024;
/** A reply has them as an `int32_t` above 0. */
const NUMBERS = 2 ** 31 - 1;
/** Each holds a connection, and perhaps a descriptor. */
const WAITING_MOST = 8192;
/** Of a log's path, in messages: its end tells more. */
const PATH_SHOWN = 200;
/** How long requests are finished between two rounds of reading records. */
const FINISH_MS = 5;
/** How long the end of a handle waits for bytes in send queues, and for sockets to be found. */
const DRAIN_MS = 1000;
/** The same where nobody waits for it, for whoever used it is gone: the join gives up before. */
const ORPHAN_DRAIN_MS = 10_000;

/**
 * Those that are about calls which were made before: a rule too, which else would rename calls whose
 * records were not read yet.
 */
const ANSWERED_LATER: readonly number[] = [
  MessageType.Free,
  MessageType.Snapshot,
  MessageType.Rule,
];

/** What requests need of the session. */
export interface RequestParts {
  readonly join: Join;
  readonly tape: TapeWriter | null;
  readonly listener: Pick<MessageListener, "reply">;
  readonly rings: Pick<Rings, "tableOf" | "isUsed">;
  readonly baseSec: number;
  readonly nowNs: () => number;
  /** What a summary says besides the join, as it stands. */
  readonly end: () => JoinEnd;
  readonly onWarning: (message: string) => void;
}

/** A request whose answer needs what was captured until it came. */
interface Waiting {
  readonly type: number;
  readonly handle: number;
  /** Who waits; -1: nobody. */
  readonly connection: number;
  /** Where the books go; -1: nowhere. */
  readonly fd: number;
  readonly flags: number;
  readonly text: string;
  readonly askedNs: number;
  readonly deadlineMs: number;
}

interface Opened {
  /** Of the log, for messages; null without one. */
  readonly path: string | null;
  /** The socket table of who opened it. */
  readonly table: number;
  /** All processes that used it are gone. */
  isOrphan: boolean;
}

export class Requests {
  /** Handles that were asked for, refused ones too. */
  asked = 0;
  readonly #parts: RequestParts;
  readonly #open = new Map<number, Opened>();
  /**
   * The number given last. A program may still have handles of an earlier collector, whose session
   * was taken over: they are to be nobody's here.
   */
  #number = randomInt(NUMBERS);
  #waiting: Waiting[] = [];

  constructor(parts: RequestParts) {
    this.#parts = parts;
  }

  /** Handles that are not freed. */
  get handles(): number {
    return this.#open.size;
  }

  /** Whether somebody waits for an answer. */
  get pending(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes a request, whose descriptors become its own. */
  take(received: Received): void {
    const { message, fd, connection } = received;
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    const type = view.getUint32(Message.type, true);
    const handle = view.getUint32(Message.handle, true);
    const flags = view.getUint32(Message.flags, true);
    const length = view.getUint32(Message.textBytes, true);
    const text = new TextDecoder().decode(message.subarray(Message.text, Message.text + length));
    const known = this.#open.has(handle);
    if (type === MessageType.Open) {
      const ringId = view.getBigUint64(Message.ringId, true);
      this.#openHandle(received, ringId, flags, text);
    } else if (!known) {
      this.#drop(fd);
      this.#reply(connection, -1, "the handle was freed already, or never opened");
    } else if (this.#waiting.length >= WAITING_MOST) {
      this.#drop(fd);
      this.#reply(connection, -1, `${WAITING_MOST} requests wait for an answer: ask for less at once`);
    } else if (ANSWERED_LATER.includes(type)) {
      this.#wait({ type, handle, connection, fd, flags, text });
    } else {
      this.#drop(fd);
      this.#reply(connection, -1, `a request of the unknown type ${type}`);
    }
  }

  /**
   * Answers what can be answered now that everything captured before `capturedNs` is joined; of
   * many, some now and the others when it is called again.
   */
  answer(capturedNs: number, captureFailed: boolean): void {
    for (const [handle, opened] of this.#open) {
      if (opened.isOrphan || this.#parts.rings.isUsed(opened.table)) continue;
      opened.isOrphan = true;
      const type = MessageType.Free;
      const nobody = { connection: -1, fd: -1, flags: 0, text: "" };
      this.#wait({ type, handle, ...nobody }, ORPHAN_DRAIN_MS);
    }
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    const startMs = performance.now();
    for (const request of waiting) {
      const { askedNs, deadlineMs } = request;
      const nowMs = performance.now();
      const late = nowMs >= deadlineMs;
      const complete = capturedNs >= askedNs || captureFailed || late;
      const isFull = nowMs - startMs >= FINISH_MS;
      if (isFull || !complete || (!late && this.#mustDrain(request))) this.#waiting.push(request);
      else this.#finish(request);
    }
  }

  /** The session ends: whoever waits is told now. Handles of nobody end with the join. */
  close(): void {
    for (const request of this.#waiting) {
      if (request.connection >= 0) this.#finish(request);
    }
    this.#waiting = [];
  }

  #wait(request: Omit<Waiting, "askedNs" | "deadlineMs">, drainMs = DRAIN_MS): void {
    const askedNs = this.#parts.nowNs();
    this.#waiting.push({ ...request, askedNs, deadlineMs: performance.now() + drainMs });
  }

  #mustDrain({ type, handle }: Waiting): boolean {
    return type === MessageType.Free && this.#parts.join.engine.handles.isPending(handle);
  }

  #finish({ type, handle, connection, fd, flags, text, askedNs }: Waiting): void {
    const { join, tape, nowNs } = this.#parts;
    if (type === MessageType.Rule) {
      this.#drop(fd);
      this.#rule(connection, handle, flags, text, askedNs);
      return;
    }
    if (type === MessageType.Snapshot) {
      const summary = join.snapshot(handle, this.#parts.end());
      const why = summary === null ? "the handle was freed" : writeToMemory(fd, JSON.stringify(summary));
      this.#drop(fd);
      this.#reply(connection, why === null ? 0 : -1, why ?? "");
      return;
    }
    this.#drop(fd);
    // Two threads may have asked for the same.
    const opened = this.#open.get(handle);
    let lost = "";
    if (opened !== undefined) {
      this.#open.delete(handle);
      const endNs = nowNs();
      tape?.text(Frame.Free, { handle, endNs });
      const freed = join.free(handle, endNs, this.#parts.end());
      if (freed !== null) lost = whatIsLost(opened.path, freed);
    }
    this.#reply(connection, 0, lost);
  }

  #openHandle(received: Received, ringId: bigint, flags: number, text: string): void {
    this.asked++;
    const { connection, fd, pid } = received;
    const path = printable(text.slice(-PATH_SHOWN));
    const table = this.#parts.rings.tableOf(pid, ringId);
    const refuse = (why: string) => {
      this.#drop(fd);
      this.#reply(connection, -1, why);
    };
    if (this.#open.size >= HANDLES_MOST) {
      refuse(`${HANDLES_MOST} handles are open: free those that are not used any more`);
      return;
    }
    if (table < 0) {
      refuse("this process shares no memory with the collector");
      return;
    }
    const { baseSec } = this.#parts;
    const startNs = this.#parts.nowNs();
    let log: Log | null = null;
    if (fd >= 0) {
      const why = whyNoLog(fd, pid);
      if (why !== null) {
        refuse(`log "${path}": ${why}`);
        return;
      }
      try {
        log = Log.adopt(fd, path, (flags & OpenFlag.Gzip) !== 0, {
          baseSec,
          onError: this.#parts.onWarning,
          head: writeMeta(EVERY_LINE, startNs, baseSec),
        });
      } catch (error) {
        // The log has closed it.
        this.#reply(connection, -1, error instanceof Error ? error.message : String(error));
        return;
      }
    }
    this.#number = (this.#number % NUMBERS) + 1;
    const handle = this.#number;
    const setup: HandleSetup = {
      handle,
      in: (flags & OpenFlag.In) !== 0,
      out: (flags & OpenFlag.Out) !== 0,
      queues: (flags & OpenFlag.Stats) !== 0,
      startNs,
    };
    this.#parts.tape?.text(Frame.Open, setup);
    this.#parts.join.open(setup, log);
    this.#open.set(handle, { path: log === null ? null : path, table, isOrphan: false });
    this.#reply(connection, handle, "");
  }

  #rule(
    connection: number,
    handle: number,
    flags: number,
    text: string,
    askedNs: number,
  ): void {
    const rule: Rule | null = parseRule(text);
    if (rule === null) {
      this.#reply(connection, -1, `not the address of sockets: "${printable(text)}"`);
      return;
    }
    const remove = (flags & RuleFlag.Remove) !== 0;
    this.#parts.tape?.text(Frame.Rule, { handle, remove, text, askedNs });
    this.#parts.join.rule(handle, rule, remove, askedNs);
    this.#reply(connection, 0, "");
  }

  #drop(fd: number): void {
    if (fd >= 0) closeForeign(fd);
  }

  #reply(connection: number, handle: number, text: string): void {
    if (connection < 0) return;
    const bytes = new Uint8Array(new ArrayBuffer(Constant.replyHeadBytes + Constant.textMax));
    const view = new DataView(bytes.buffer);
    const { written } = new TextEncoder().encodeInto(text, bytes.subarray(Reply.text));
    view.setUint32(Reply.magic, Constant.magic, true);
    view.setInt32(Reply.handle, handle, true);
    view.setUint32(Reply.textBytes, written, true);
    this.#parts.listener.reply(connection, bytes.subarray(0, Reply.text + written));
  }
}

/** One line for who ends a measurement that lost something on the way; empty if it is complete. */
function whatIsLost(path: string | null, { linesLost, failure, losses }: Freed): string {
  const parts: string[] = [];
  if (path !== null && linesLost > 0) {
    const lines = linesLost === 1 ? "1 line was lost" : `${linesLost} lines were lost`;
    parts.push(`${path}: ${lines}: ${failure ?? "the collector could not keep up"}`);
  } else if (path !== null && failure !== null) {
    parts.push(`${path}: writing failed for a while, no line was lost: ${failure}`);
  }
  return [...parts, ...unmeasuredSentences(losses)].join("; ");
}
