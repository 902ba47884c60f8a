// Sockets that a handle measures by their addresses. A client's address and port do not come again
// when its connection has ended: its rule is dropped then. Of those that wait for a connection which
// never comes, or has ended before they came, only so many are kept.

/** Kept for a handle; of more, the oldest are dropped, and counted. */
export const RULES_MOST = 4096;

/** Sockets to measure by address. */
export interface Rule {
  /** Of the local end; -1: any. */
  readonly localPort: number;
  /** The remote end, four words and a port; null: any. */
  readonly remote: { readonly words: Uint32Array; readonly port: number } | null;
  readonly name: string;
}

/** The addresses of a socket. */
export interface Addresses {
  readonly lport: number;
  readonly rport: number;
  readonly remote: Uint32Array;
}

export class Rules {
  /** In the order in which their addresses were first given. */
  readonly #byAddresses = new Map<string, Rule>();
  /** Rules that had to go because there were too many. */
  dropped = 0;

  get size(): number {
    return this.#byAddresses.size;
  }

  /** In place of one for the same addresses, if there is one. */
  add(rule: Rule): void {
    const rules = this.#byAddresses;
    rules.set(keyOf(rule.localPort, rule.remote), rule);
    if (rules.size <= RULES_MOST) return;
    rules.delete(rules.keys().next().value!);
    this.dropped++;
  }

  remove(like: Rule): void {
    this.#byAddresses.delete(keyOf(like.localPort, like.remote));
  }

  /** The rule for a socket: of several the most particular one, by its remote end before its port. */
  find({ lport, rport, remote }: Addresses): Rule | null {
    if (this.size === 0) return null;
    const peer = { words: remote, port: rport };
    for (const end of [peer, null]) {
      for (const localPort of [lport, -1]) {
        const found = this.#byAddresses.get(keyOf(localPort, end));
        if (found !== undefined) return found;
      }
    }
    return null;
  }

  /** The remote end does not come again. */
  ended({ lport, rport, remote }: Addresses): void {
    if (this.size === 0) return;
    const peer = { words: remote, port: rport };
    for (const localPort of [lport, -1]) this.#byAddresses.delete(keyOf(localPort, peer));
  }
}

/** Whether a rule is for a socket with these addresses. Sockets are many: no text is made of them. */
export function matches({ localPort, remote }: Rule, { lport, rport, remote: end }: Addresses): boolean {
  if (localPort !== -1 && localPort !== lport) return false;
  if (remote === null) return true;
  const { words, port } = remote;
  return (
    port === rport && words[3] === end[3] && words[2] === end[2] && words[1] === end[1] && words[0] === end[0]
  );
}

export function sameAddresses(a: Rule, b: Rule): boolean {
  return keyOf(a.localPort, a.remote) === keyOf(b.localPort, b.remote);
}

function keyOf(localPort: number, remote: Rule["remote"]): string {
  return remote === null ? `${localPort}` : `${localPort} ${remote.words.join()} ${remote.port}`;
}
