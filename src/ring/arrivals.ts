// What processes send to the session's socket: new rings, and requests. Anybody who can reach the
// socket can send anything: only what has the session's token and makes sense is passed on.

import { closeForeign, Mapping, type MessageListener, type Received } from "../ffi/libc.ts";
import { Constant, Message, MessageBytes, MessageType } from "./layout.ts";
import { Ring, RING_BYTES_MOST } from "./ring.ts";

/** Messages taken in a round: more wait for the next one. */
const ACCEPTS_A_ROUND = 64;

export class Arrivals {
  /** Processes that could not get memory for a ring. */
  withoutMemory = 0;
  /** Rings of processes that have the token, which made no sense. */
  rejected = 0;
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

  /** Takes what was sent by now; false if there may be more. */
  accept(): boolean {
    for (let n = 0; n < ACCEPTS_A_ROUND; n++) {
      const received = this.#listener.next(ACCEPTS_A_ROUND);
      if (received === null) return true;
      this.#take(received);
    }
    return false;
  }

  #take(received: Received): void {
    const { message, fd, pid, connection } = received;
    const ours = this.#isOurs(message);
    if (ours && typeOf(message) !== MessageType.Ring) {
      this.onRequest(received);
      return;
    }
    this.#listener.hangUp(connection);
    if (!ours) {
      if (fd >= 0) closeForeign(fd);
      this.onReject("a message without the session's token");
      return;
    }
    if (fd < 0) {
      this.withoutMemory++;
      return;
    }
    let mapping: Mapping | null = null;
    try {
      mapping = Mapping.adopt(fd, RING_BYTES_MOST);
      this.#attach(new Ring(mapping, pid), pid);
    } catch (error) {
      mapping?.close();
      this.rejected++;
      this.onReject(error instanceof Error ? error.message : String(error));
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
