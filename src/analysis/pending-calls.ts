// The calls of a log that no books have settled yet. A log may hold several runs: one after another,
// some of them killed before they wrote books, or at the same time. Books tell their run's beginning and
// end, but of which processes they are, no line says. So the calls of each process have an account of
// their own, and a new one after a pause, or where its sockets' offsets begin anew, as they do if a
// later run measured it. An account that began within the books' time is in the books.

import { CallAccounts, type Room, SOCKETS_MOST } from "./call-books.ts";
import { callTimeNs, GROUPS_MOST } from "./groups.ts";
import type { LogLine } from "./log-line.ts";

/** Processes that have an account of their own. */
const ACCOUNTS_MOST = 256;
/** After a pause there may be another run. */
const PAUSE_NS = 1e9;
const PAUSES_MOST = ACCOUNTS_MOST / 2;

export class PendingCalls {
  readonly #room: Room = { books: 2 * GROUPS_MOST, sockets: SOCKETS_MOST };
  #all: CallAccounts[] = [];
  readonly #byPid = new Map<number, CallAccounts>();
  /** For all that the room does not suffice for. */
  #rest: CallAccounts | null = null;

  call(line: LogLine, group: number): void {
    const account = this.#byPid.get(line.pid);
    if (account === undefined) {
      this.#fitting(account, line, group).call(line, group);
    } else if (account.isBefore(line, group) && this.#all.length < ACCOUNTS_MOST) {
      this.#replace(line.pid, new CallAccounts(this.#room)).call(line, group);
    } else if (callTimeNs(line) - account.lastNs > PAUSE_NS && this.#all.length < PAUSES_MOST) {
      this.#replace(line.pid, new CallAccounts(this.#room, account)).call(line, group);
    } else {
      this.#fitting(account, line, group).call(line, group);
    }
  }

  miss(line: LogLine, group: number): void {
    this.#fitting(this.#byPid.get(line.pid), line, group).miss(line, group);
  }

  /** Takes out those whose calls all lie within a run's time; each is to be released then. */
  takeWithin(startNs: number, endNs: number): CallAccounts[] {
    return this.#take(({ leastEndNs, firstNs }) => !(leastEndNs < startNs) && firstNs <= endNs);
  }

  /** Takes out all that are left. */
  takeAll(): CallAccounts[] {
    return this.#take(() => true);
  }

  /**
   * Whether an account of many processes, too many to tell apart, lies on both sides of `startNs`: some
   * of its calls may be another run's.
   */
  isMixed(startNs: number): boolean {
    const rest = this.#rest;
    return rest !== null && rest.leastEndNs < startNs && rest.lastNs >= startNs;
  }

  #fitting(account: CallAccounts | undefined, line: LogLine, group: number): CallAccounts {
    if (account?.groups[group] !== undefined) return account;
    if (this.#room.books <= 0) return (this.#rest ??= this.#add());
    if (account !== undefined) return account;
    if (this.#all.length >= ACCOUNTS_MOST) return (this.#rest ??= this.#add());
    return this.#replace(line.pid, new CallAccounts(this.#room));
  }

  #replace(pid: number, account: CallAccounts): CallAccounts {
    this.#all.push(account);
    this.#byPid.set(pid, account);
    return account;
  }

  #add(): CallAccounts {
    const account = new CallAccounts(this.#room);
    this.#all.push(account);
    return account;
  }

  #take(isTaken: (account: CallAccounts) => boolean): CallAccounts[] {
    const taken = this.#all.filter(isTaken);
    if (taken.length === 0) return taken;
    this.#all = this.#all.filter((account) => !taken.includes(account));
    for (const [pid, account] of this.#byPid) if (taken.includes(account)) this.#byPid.delete(pid);
    if (this.#rest !== null && taken.includes(this.#rest)) this.#rest = null;
    return taken;
  }
}
