// What measured programs ask of their collector (see `kq_message` in c/kqtime_shm.h): handles with
// logs of their own, their end, and their books in between. Answers never block the collector, and
// what a program hands over is looked at before it is used.

import { closeSync, fstatSync, writeSync } from "node:fs";
import { type MessageListener, openFlags, type Received } from "../ffi/libc.ts";
import type { Rule } from "../match/measurement.ts";
import { Log } from "../output/log.ts";
import { printable } from "../output/name.ts";
import { reasonOf } from "../output/open-file.ts";
import {
  Constant,
  Message,
  MessageType,
  OpenFlag,
  Reply,
  RuleFlag,
} from "../ring/layout.ts";
import type { HandleSetup, Join, JoinEnd } from "./join.ts";
import { parseRule } from "./rule-text.ts";
import { Frame, type TapeWriter } from "./tape.ts";

const HANDLES_MOST = 1024;
/** How long the end of a handle waits for bytes in send queues. */
const DRAIN_MS = 1000;

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
  readonly listener: MessageListener;
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
  readonly connection: number;
  /** Where the books go; -1: nowhere. */
  readonly fd: number;
  readonly flags: number;
  readonly text: string;
  readonly askedNs: number;
  readonly deadlineMs: number;
}

export class Requests {
  /** Handles that were opened since the start. */
  opened = 0;
  /** Handles that were asked for, refused ones too. */
  asked = 0;
  readonly #parts: RequestParts;
  readonly #open = new Set<number>();
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
      this.#openHandle(connection, fd, flags, text);
    } else if (!known) {
      this.#drop(fd);
      this.#reply(connection, -1, "the handle was freed already, or never opened");
    } else if (ANSWERED_LATER.includes(type)) {
      const askedNs = this.#parts.nowNs();
      const deadlineMs = performance.now() + DRAIN_MS;
      this.#waiting.push({ type, handle, connection, fd, flags, text, askedNs, deadlineMs });
    } else {
      this.#drop(fd);
      this.#reply(connection, -1, `a request of the unknown type ${type}`);
    }
  }

  /** Answers what can be answered now that everything captured before `capturedNs` is joined. */
  answer(capturedNs: number, captureFailed: boolean): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const request of waiting) {
      const { askedNs, deadlineMs } = request;
      const late = performance.now() >= deadlineMs;
      const complete = capturedNs >= askedNs || captureFailed || late;
      if (!complete || (!late && this.#mustDrain(request))) this.#waiting.push(request);
      else this.#finish(request);
    }
  }

  /** The session ends: whoever waits is told now. */
  close(): void {
    for (const request of this.#waiting) this.#finish(request);
    this.#waiting = [];
  }

  #mustDrain({ type, handle }: Waiting): boolean {
    return type === MessageType.Free && this.#parts.join.engine.handles.isPending(handle);
  }

  #finish({ type, handle, connection, fd, flags, text }: Waiting): void {
    const { join, tape, nowNs } = this.#parts;
    if (type === MessageType.Rule) {
      this.#drop(fd);
      this.#rule(connection, handle, flags, text);
      return;
    }
    if (type === MessageType.Snapshot) {
      const summary = join.snapshot(handle, this.#parts.end());
      const why = summary === null ? "the handle was freed" : writeWhole(fd, JSON.stringify(summary));
      this.#drop(fd);
      this.#reply(connection, why === null ? 0 : -1, why ?? "");
      return;
    }
    this.#drop(fd);
    // Two threads may have asked for the same.
    if (this.#open.delete(handle)) {
      const endNs = nowNs();
      tape?.text(Frame.Free, { handle, endNs });
      join.free(handle, endNs);
    }
    this.#reply(connection, 0, "");
  }

  #openHandle(connection: number, fd: number, flags: number, path: string): void {
    this.asked++;
    const refuse = (why: string) => {
      this.#drop(fd);
      this.#reply(connection, -1, why);
    };
    if (this.#open.size >= HANDLES_MOST) {
      refuse(`${HANDLES_MOST} handles are open: free those that are not used any more`);
      return;
    }
    let log: Log | null = null;
    if (fd >= 0) {
      const why = whyNoLog(fd);
      if (why !== null) {
        refuse(`log "${printable(path)}": ${why}`);
        return;
      }
      try {
        log = Log.adopt(fd, printable(path), (flags & OpenFlag.Gzip) !== 0, {
          baseSec: this.#parts.baseSec,
          onError: this.#parts.onWarning,
        });
      } catch (error) {
        // The log has closed it.
        this.#reply(connection, -1, error instanceof Error ? error.message : String(error));
        return;
      }
    }
    const handle = ++this.opened;
    const setup: HandleSetup = {
      handle,
      in: (flags & OpenFlag.In) !== 0,
      out: (flags & OpenFlag.Out) !== 0,
      startNs: this.#parts.nowNs(),
    };
    this.#parts.tape?.text(Frame.Open, setup);
    this.#parts.join.open(setup, log);
    this.#open.add(handle);
    this.#reply(connection, handle, "");
  }

  #rule(connection: number, handle: number, flags: number, text: string): void {
    const rule: Rule | null = parseRule(text);
    if (rule === null) {
      this.#reply(connection, -1, `not the address of sockets: "${printable(text)}"`);
      return;
    }
    const remove = (flags & RuleFlag.Remove) !== 0;
    this.#parts.tape?.text(Frame.Rule, { handle, remove, text });
    this.#parts.join.rule(handle, rule, remove);
    this.#reply(connection, 0, "");
  }

  #drop(fd: number): void {
    if (fd >= 0) closeSync(fd);
  }

  #reply(connection: number, handle: number, text: string): void {
    const bytes = new Uint8Array(new ArrayBuffer(Constant.replyHeadBytes + Constant.textMax));
    const view = new DataView(bytes.buffer);
    const { written } = new TextEncoder().encodeInto(text, bytes.subarray(Reply.text));
    view.setUint32(Reply.magic, Constant.magic, true);
    view.setInt32(Reply.handle, handle, true);
    view.setUint32(Reply.textBytes, written, true);
    this.#parts.listener.reply(connection, bytes.subarray(0, Reply.text + written));
  }
}

/** Why a descriptor cannot be a log: writing to it must not block, nor need rights it has not. */
function whyNoLog(fd: number): string | null {
  const flags = openFlags(fd);
  if (flags === null || !flags.writable) return "it is not open for writing";
  const stat = fstatSync(fd);
  if (stat.isFile() || stat.isCharacterDevice()) return null;
  if (!stat.isFIFO()) return "a log is a file or a pipe";
  return flags.nonBlocking ? null : "the pipe may block: open it with O_NONBLOCK";
}

/** Writes a text to a regular file's descriptor; the reason why not, or null. */
function writeWhole(fd: number, text: string): string | null {
  const bytes = new TextEncoder().encode(text);
  try {
    if (!fstatSync(fd).isFile()) return "a snapshot is written to a file";
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    return null;
  } catch (error) {
    return `the snapshot cannot be written: ${reasonOf(error)}`;
  }
}
