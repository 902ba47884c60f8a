// The sockets that a summary lists one by one: those with the most bytes; the others are summed.

import { DirectionStats } from "./stats.ts";
import { SOCKETS_LISTED, type SocketInput } from "./summary.ts";

export class SocketList {
  #listed: SocketInput[] = [];
  readonly rest = { count: 0, out: new DirectionStats(), in: new DirectionStats() };

  /** @param most how many are listed */
  constructor(readonly most = SOCKETS_LISTED) {}

  /** Takes a socket that moved bytes, and another stretch of one that was added just before. */
  add(socket: SocketInput): void {
    if (socket.out.sockets + socket.in.sockets === 0) return;
    const last = this.#listed.at(-1);
    if (last !== undefined && last.sock === socket.sock && last.label === socket.label) {
      const both = { ...last, out: new DirectionStats(), in: new DirectionStats() };
      for (const part of [last, socket]) {
        both.out.merge(part.out);
        both.in.merge(part.in);
      }
      both.out.sockets = Math.min(1, both.out.sockets);
      both.in.sockets = Math.min(1, both.in.sockets);
      this.#listed[this.#listed.length - 1] = both;
      return;
    }
    // Before it is added: another stretch of it may follow.
    if (this.#listed.length >= this.most + SOCKETS_LISTED) this.trim();
    this.#listed.push(socket);
  }

  /** The largest, in the order of their size. */
  get listed(): readonly SocketInput[] {
    return this.#listed;
  }

  copy(): SocketList {
    const copy = new SocketList(this.most);
    copy.#listed = [...this.#listed];
    copy.rest.count = this.rest.count;
    copy.rest.out.merge(this.rest.out);
    copy.rest.in.merge(this.rest.in);
    return copy;
  }

  trim(): void {
    const size = (socket: SocketInput) => socket.out.bytesCalled + socket.in.bytesCalled;
    this.#listed.sort((a, b) => size(b) - size(a) || a.sock - b.sock);
    for (const socket of this.#listed.splice(this.most)) {
      this.rest.count++;
      this.rest.out.merge(socket.out);
      this.rest.in.merge(socket.in);
    }
  }
}
