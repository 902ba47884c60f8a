// What processes send to the session's socket: new rings, and requests. Anybody who can reach the
// socket can send anything: only what has the session's token and makes sense is passed on.

import { BACKLOG, closeForeign, Mapping, type MessageListener, type Received } from "../ffi/libc.ts";
import { Constant, Message, MessageBytes, MessageType } from "./layout.ts";
import { Ring, RING_BYTES_MOST } from "./ring.ts";

/** Messages of the session's processes taken in a round: more wait for the next one. */
const ACCEPTS_A_ROUND = 64;
/** Connections looked at for one of them. */
const LOOKS = 512;
/** What others send costs a round this long at the most, ms. */
const STRANGERS_MS = 5;
/** What comes without end is not waited for longer than this, ms. */
const WAIT_MOST_MS = 200;
/** Where it is the session's own: a thousand processes that start at once (measured: 0.2 to 0.6 s). */
const OWN_WAIT_MOST_MS = 2000;

export class Arrivals {
  /** Processes that could not get memory for a ring. */
  withoutMemory = 0;
  /** Rings of processes that have the token, which made no sense. */
  rejected = 0;
  /** More was sent than the last `accept` took. */
  crowded = false;
  /** Since when each `accept` has left something behind, and how much they have taken. */
  #leftSinceMs = Infinity;
  #takenSince = 0;
  /** How much of that was the session's own. */
  #ownSince = 0;
  /** Given what a process asks for: the connection and the descriptor are the receiver's. */
  onRequest: (received: Received) => void = (received) => {
    if (received.fd >= 0) closeForeign(received.fd);
    this.#listener.hangUp(received.connection);
  };
  /** Told why something was rejected. */
  onReject: (message: string) => void = () => {};
  readonly #listener: MessageListener;
  readonly #token: Uint8Array;
  readonly #attach: (ring: Ring, pid: number) => void;

  /** @param attach takes a new ring of a process, or throws `E_RING` */
  constructor(
    listener: MessageListener,
    token: string,
    attach: (ring: Ring, pid: number) => void,
  ) {
    this.#listener = listener;
    this.#token = new TextEncoder().encode(token);
    this.#attach = attach;
  }

  /**
   * Takes what was sent by now; false if there may be more. Where ever more is sent, that was all once
   * as much was taken as the socket's queue held; and packets and lines do not wait for it for long.
   */
  accept(): boolean {
    const startMs = performance.now();
    let nowMs = startMs;
    let ours = 0;
    let strangers = 0;
    this.crowded = true;
    while (ours < ACCEPTS_A_ROUND && (strangers === 0 || nowMs - startMs < STRANGERS_MS)) {
      const received = this.#listener.next(LOOKS);
      if (received === null) {
        this.crowded = false;
        break;
      }
      if (this.#take(received)) ours++;
      else strangers++;
      nowMs = performance.now();
    }
    this.#leftSinceMs = Math.min(this.#leftSinceMs, startMs);
    this.#takenSince += ours + strangers;
    this.#ownSince += ours;
    const mostMs = this.#ownSince * 2 > this.#takenSince ? OWN_WAIT_MOST_MS : WAIT_MOST_MS;
    const isAll = !this.crowded || this.#takenSince > BACKLOG || nowMs - this.#leftSinceMs >= mostMs;
    if (isAll) {
      this.#leftSinceMs = Infinity;
      this.#takenSince = 0;
      this.#ownSince = 0;
    }
    return isAll;
  }

  /** Whether it was sent by a process of the session, and made sense. */
  #take(received: Received): boolean {
    const { message, fd, pid, connection } = received;
    const ours = this.#isOurs(message);
    if (ours && typeOf(message) !== MessageType.Ring) {
      this.onRequest(received);
      return true;
    }
    this.#listener.hangUp(connection);
    if (!ours) {
      if (fd >= 0) closeForeign(fd);
      this.onReject("a message without the session's token");
      return false;
    }
    if (fd < 0) {
      this.withoutMemory++;
      return true;
    }
    let mapping: Mapping | null = null;
    try {
      mapping = Mapping.adopt(fd, RING_BYTES_MOST);
      this.#attach(new Ring(mapping, pid), pid);
      return true;
    } catch (error) {
      mapping?.close();
      this.rejected++;
      this.onReject(error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  #isOurs(message: Uint8Array): boolean {
    if (message.length < Constant.messageHeadBytes) return false;
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    if (view.getUint32(Message.magic, true) !== Constant.magic) return false;
    if (view.getUint32(Message.version, true) !== Constant.version) return false;
    let difference = 0;
    for (let i = 0; i < MessageBytes.token; i++) {
      difference |= message[Message.token + i]! ^ this.#token[i]!;
    }
    return difference === 0;
  }
}

function typeOf(message: Uint8Array): number {
  return new DataView(message.buffer, message.byteOffset).getUint32(Message.type, true);
}
