// What really happened: connections, what passed the wire and what the capture saw of it, and what
// each measured process recorded. Built from a seed and a set of features; `schedule.ts` decides
// in which order the collector learns of it, `model.ts` what it must conclude.
//
// A stream is a row of atoms of very different sizes. Calls, segments, losses and repetitions
// begin and end between atoms only, so that a model can keep one cell an atom.

import { Random } from "./random.ts";
import { TcpFlag } from "./words.ts";

export interface Features {
  connections: number;
  atoms: number;
  /** Calls and segments beyond 64 KiB; beyond 4 GiB, all together. */
  large: boolean;
  huge: boolean;
  again: boolean;
  late: boolean;
  drops: boolean;
  unseen: boolean;
  acks: boolean;
  devices: boolean;
  overlap: boolean;
  lost: boolean;
  cut: boolean;
  unsent: boolean;
  foreign: boolean;
  unlistened: boolean;
  unanchored: boolean;
  reuse: boolean;
  loop: boolean;
  noise: boolean;
  jitter: boolean;
}

export const INNER_DEVICE = 99;
export const RINGS = 3;

export interface Stream {
  readonly sizes: readonly number[];
  /** Offset of atom i, and of the end. */
  readonly starts: readonly number[];
  /** Atoms that left the sender's device, whoever saw it. */
  sent: number;
  /** When each atom first passed the tap, whether the capture saw it or not. */
  readonly firstNs: number[];
}

export interface CallSpec {
  readonly first: number;
  readonly last: number;
  readonly off: number;
  readonly bytes: number;
  timeNs: number;
  beginNs: number;
  commitNs: number;
  readonly ring: number;
  readonly overlap: boolean;
  readonly group: number;
  readonly lost: boolean;
}

export interface SideSpec {
  readonly calls: CallSpec[];
  /** Calls that moved nothing, beside those of a group. */
  readonly mates: { beginNs: number; endNs: number }[];
  /** Calls that the process's death cut off. */
  cut: number;
  cutNs: number;
}

export interface Wire {
  readonly tuple: number;
  readonly clientPort: number;
  readonly serverPort: number;
  readonly clientFirst: number;
  readonly serverFirst: number;
  readonly up: Stream;
  readonly down: Stream;
  readonly place: "loop" | "client" | "server";
  readonly anchored: boolean;
  readonly listened: boolean;
  readonly end: "open" | "fin" | "client" | "server";
}

export interface SocketSpec {
  readonly wire: Wire;
  readonly client: boolean;
  readonly index: number;
  birthNs: number;
  /** -1 for an accepted one. */
  connectCommitNs: number;
  birthCommitNs: number;
  unbindNs: number;
  /** -1 if unknown. */
  unread: number;
  readonly ring: number;
  readonly out: SideSpec;
  readonly in: SideSpec;
  queued: number;
}

export interface Packet {
  readonly wire: Wire;
  readonly fromClient: boolean;
  timeNs: number;
  readonly flags: number;
  /** Stream offset of its sequence number, and the atoms that it carries. */
  readonly off: number;
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  ack: number;
  readonly device: number;
  /** The capture's counters as they are known when this one is judged. */
  now: number;
  drained: number;
  roundEnd: boolean;
}

export interface History {
  readonly wires: readonly Wire[];
  readonly sockets: readonly SocketSpec[];
  readonly packets: readonly Packet[];
  readonly lostRecords: number;
  readonly endNs: number;
}

interface Event {
  timeNs: number;
  fromClient: boolean;
  flags: number;
  off: number;
  first: number;
  last: number;
  device: number;
  /** Seen by the capture; if not, whether its counter tells. */
  captured: boolean;
  counted: boolean;
  /** Reached the other end. */
  received: boolean;
  /** Tells all that was received so far; else nothing. */
  acks: boolean;
}

const MS = 1e6;

function sizes(random: Random, features: Features, bulk: number): number[] {
  const list: number[] = [];
  for (let i = 0; i < bulk; i++) list.push(2 ** 30 - random.below(3));
  for (let n = random.below(features.atoms + 1); n > 0; n--) {
    const kind = random.below(features.large ? 6 : 3);
    if (kind === 0) list.push(1);
    else if (kind < 3) list.push(random.within(2, 1460));
    else if (kind < 5) list.push(random.within(1461, 70_000));
    else list.push(random.within(70_000, 3_000_000));
  }
  return list;
}

function makeStream(random: Random, features: Features, bulk: number): Stream {
  const list = sizes(random, features, bulk);
  const starts = [0];
  for (const size of list) starts.push(starts[starts.length - 1]! + size);
  const sent = features.unsent && random.chance(0.5) ? random.below(list.length + 1) : list.length;
  return { sizes: list, starts, sent: Math.max(sent, bulk), firstNs: list.map(() => Infinity) };
}

/** The stream's way over the wire, from `startNs` on. Appends to `events`. */
function transmit(
  random: Random,
  features: Features,
  stream: Stream,
  fromClient: boolean,
  outbound: boolean,
  bulk: number,
  startNs: number,
  events: Event[],
): void {
  let timeNs = startNs;
  const { starts, firstNs } = stream;
  const send = (at: number, first: number, last: number, more: Partial<Event> = {}): void => {
    const event: Event = {
      timeNs: at,
      fromClient,
      flags: TcpFlag.ACK,
      off: starts[first]!,
      first,
      last,
      device: 1,
      captured: true,
      counted: false,
      received: true,
      acks: features.acks,
      ...more,
    };
    events.push(event);
    for (let a = first; a < last; a++) firstNs[a] = Math.min(firstNs[a]!, at);
    if (features.acks && event.received && (first < bulk || random.chance(0.5))) {
      const ackNs = at + random.within(1, 3 * MS);
      const ack = { fromClient: !fromClient, off: -2, first: 0, last: 0, captured: true };
      events.push({ ...event, ...ack, timeNs: first < bulk ? at + 1 : ackNs, counted: false });
    }
  };
  for (let first = 0; first < stream.sent; ) {
    const last = Math.min(stream.sent, first < bulk ? first + 1 : first + random.within(1, 3));
    timeNs += random.within(first < bulk ? 10 : 0, 4 * MS);
    // Long enough for what was before on the same addresses to be settled meanwhile.
    if (features.reuse && random.chance(0.05)) timeNs += 600 * MS;
    const lateNs = timeNs + random.within(1, 40 * MS);
    // A repetition may begin and end anywhere in what was sent before.
    const from = random.within(Math.max(bulk, first - 3), Math.max(first, bulk));
    if (first < bulk) {
      send(timeNs, first, last);
    } else if (features.drops && random.chance(0.2)) {
      const lostToo = random.chance(0.5);
      send(timeNs, first, last, { captured: false, counted: true, received: !lostToo });
      if (lostToo || random.chance(0.3)) send(lateNs, from, last);
    } else if (features.unseen && random.chance(0.15)) {
      send(timeNs, first, last, { captured: false });
    } else if (features.late && random.chance(0.25)) {
      // Dropped before the tap of this host, or overtaken on the way to it.
      send(lateNs, first, last);
    } else {
      const lostToo = features.again && outbound && random.chance(0.2);
      send(timeNs, first, last, { received: !lostToo });
      if (lostToo || (features.again && random.chance(0.3))) send(lateNs, from, last);
      if (features.devices && random.chance(0.4)) {
        const device = random.pick([2, INNER_DEVICE]);
        const at = device === 2 ? timeNs + random.within(1, MS) : timeNs - random.below(1000);
        events.push({ ...events[events.length - 1]!, timeNs: at, off: starts[first]!, first, last,
          fromClient, device, captured: true, counted: false });
      }
    }
    first = last;
  }
}

/** Cuts the first `called` atoms into calls. `timeOf` gives the time that belongs to a range. */
function makeCalls(
  random: Random,
  features: Features,
  stream: Stream,
  called: number,
  out: boolean,
  timeOf: (first: number, last: number) => number,
): SideSpec {
  const side: SideSpec = { calls: [], mates: [], cut: 0, cutNs: 0 };
  let group = 0;
  let left = 0;
  let groupNs = 0;
  for (let first = 0; first < called; ) {
    let last = Math.min(called, first + random.within(1, 4));
    while (last > first + 1 && stream.starts[last]! - stream.starts[first]! > 2 ** 32 - 1) last--;
    const startsGroup = left === 0 && features.overlap && random.chance(0.3);
    if (startsGroup) {
      left = random.within(1, 3);
      group++;
      groupNs = timeOf(first, last);
      const endNs = groupNs + random.within(1000, 5 * MS);
      side.mates.push({ beginNs: groupNs - 10, endNs });
    } else if (left === 0) {
      group++;
    }
    const overlap = left > 0;
    const timeNs = overlap ? groupNs + random.below(100) : timeOf(first, last);
    const tookNs = random.within(1000, 20 * MS);
    side.calls.push({
      first,
      last,
      off: stream.starts[first]!,
      bytes: stream.starts[last]! - stream.starts[first]!,
      timeNs,
      beginNs: out || overlap ? Math.min(timeNs, overlap ? groupNs - 10 : timeNs) : timeNs - tookNs,
      commitNs: out || overlap ? timeNs + tookNs : timeNs,
      ring: random.below(RINGS),
      overlap,
      group,
      lost: features.lost && random.chance(0.2),
    });
    if (left > 0) left--;
    first = last;
  }
  // Beside a lost record, whether a lone call of a group was alone depends on when the entry was
  // read: it may be matched, or not. See calls.test.ts.
  const { calls } = side;
  calls.forEach((call, i) => {
    const ofGroup = calls.filter((other) => other.group === call.group).length;
    if (!call.overlap || ofGroup > 1 || call.lost) return;
    for (const n of [i - 1, i + 1]) {
      const beside = calls[n];
      if (beside !== undefined) calls[n] = { ...beside, lost: false };
    }
  });
  return side;
}

interface Slot {
  clientPort: number;
  serverPort: number;
  listened: boolean;
  freeNs: number;
  used: boolean;
}

function connection(
  random: Random,
  features: Features,
  slot: Slot,
  tuple: number,
  mayStayOpen: boolean,
  nextIndex: () => number,
): { wire: Wire; sockets: SocketSpec[]; events: Event[]; endNs: number } {
  const place = features.loop && random.chance(0.5)
    ? "loop"
    : random.pick(["client", "server"] as const);
  const bulkUp = features.huge && random.chance(0.5) ? 5 : 0;
  const bulkDown = features.huge && bulkUp === 0 ? 5 : 0;
  const up = makeStream(random, features, bulkUp);
  const down = makeStream(random, features, bulkDown);
  const anchored = !(features.unanchored && !slot.used && mayStayOpen && random.chance(0.4));
  const whole = up.sent === up.sizes.length && down.sent === down.sizes.length;
  const ends: Wire["end"][] = ["client", "server"];
  if (whole) ends.push("fin", "fin");
  if (mayStayOpen) ends.push("open");
  const end = random.pick(ends);
  const first = () => (random.chance(0.5) ? 2 ** 32 - random.below(5000) : random.below(2 ** 32));
  const wire: Wire = {
    tuple,
    clientPort: slot.clientPort,
    serverPort: slot.serverPort,
    clientFirst: first() >>> 0,
    serverFirst: first() >>> 0,
    up,
    down,
    place,
    anchored,
    listened: slot.listened,
    end,
  };
  const synNs = slot.freeNs + random.within(1000, slot.used ? 50_000 : 50 * MS);
  const synAckNs = synNs + random.within(1, MS);
  const dataNs = synAckNs + random.within(10, MS);
  const events: Event[] = [];
  const plain = (timeNs: number, fromClient: boolean, flags: number): Event => ({
    timeNs, fromClient, flags, off: 0, first: 0, last: 0, device: 1,
    captured: true, counted: false, received: true, acks: false,
  });
  const synAck = plain(synAckNs, false, TcpFlag.SYN | TcpFlag.ACK);
  if (anchored) {
    events.push(plain(synNs, true, TcpFlag.SYN), synAck, plain(dataNs - 1, true, TcpFlag.ACK));
  }
  transmit(random, features, up, true, place !== "server", bulkUp, dataNs, events);
  transmit(random, features, down, false, place !== "client", bulkDown, dataNs, events);
  if (features.noise) {
    if (anchored) {
      // A SYN-ACK again; a keep-alive probe of the byte before the first; a SYN that is not ours.
      events.push({ ...synAck, timeNs: synAckNs + random.within(1, 2 * MS) });
      const probe = plain(synAckNs + random.within(1, 5), random.chance(0.5), TcpFlag.ACK);
      if (dataNs > synAckNs + 8) events.push({ ...probe, off: -1 });
    }
    events.push(plain(dataNs + random.below(5 * MS), true, TcpFlag.SYN));
    // A reset that was guessed lies outside the window (RFC 5961, section 3).
    const blind = plain(dataNs + random.below(5 * MS), random.chance(0.5), TcpFlag.RST);
    if (bulkUp + bulkDown === 0) events.push({ ...blind, off: 2 ** 30 + 2 ** 29 });
  }
  const lastNs = Math.max(dataNs, ...events.map((event) => event.timeNs)) + random.within(1, MS);
  const stop = (timeNs: number, fromClient: boolean, flags: number): void => {
    const stream = fromClient ? up : down;
    const off = stream.starts[stream.sent]!;
    events.push({ ...plain(timeNs, fromClient, flags), off, first: stream.sent, last: stream.sent,
      acks: true });
  };
  if (end === "fin") {
    const clientFirst = random.chance(0.5);
    stop(lastNs, clientFirst, TcpFlag.FIN | TcpFlag.ACK);
    stop(lastNs + 10, !clientFirst, TcpFlag.FIN | TcpFlag.ACK);
    events.push({ ...plain(lastNs + 20, clientFirst, TcpFlag.ACK), acks: true, off: -2 });
  } else if (end !== "open") {
    stop(lastNs, end === "client", TcpFlag.RST);
  }
  const endNs = lastNs + 100;
  const sockets: SocketSpec[] = [];
  for (const client of place === "loop" ? [true, false] : [place === "client"]) {
    sockets.push(measured(random, features, wire, client, nextIndex(), synNs, synAckNs, lastNs));
  }
  return { wire, sockets, events, endNs };
}

function measured(
  random: Random,
  features: Features,
  wire: Wire,
  client: boolean,
  index: number,
  synNs: number,
  synAckNs: number,
  lastNs: number,
): SocketSpec {
  const outStream = client ? wire.up : wire.down;
  const inStream = client ? wire.down : wire.up;
  const wrong = (): boolean => features.jitter && random.chance(0.1);
  let called = outStream.sizes.length;
  if (features.foreign && random.chance(0.4)) called = random.below(called + 1);
  const cut = features.cut && called > 0 && random.chance(0.5) ? random.within(1, 2) : 0;
  if (cut > 0) called = random.below(Math.min(called, outStream.sent) + 1);
  const out = makeCalls(random, features, outStream, called, true, (first) => {
    const leftNs = outStream.firstNs[first]!;
    const base = leftNs === Infinity ? lastNs - random.below(MS) : leftNs;
    return wrong() ? base + random.below(3 * MS) : Math.max(synNs, base - random.below(5 * MS));
  });
  out.cut = cut;
  const last = out.calls[out.calls.length - 1];
  // Begun later than a group's end, it would be a matter of when the entry was read.
  out.cutNs = last?.overlap === true ? last.beginNs : synAckNs + random.below(MS);
  // What was read had arrived, without a gap, whatever the capture saw of it.
  let read = inStream.sent;
  if (random.chance(0.4)) read = random.below(read + 1);
  const inbound = makeCalls(random, features, inStream, read, false, (_first, last) => {
    let base = 0;
    for (let a = 0; a < last; a++) base = Math.max(base, inStream.firstNs[a]!);
    return wrong() ? base - random.below(MS) : base + random.below(30 * MS);
  });
  const birthNs = client
    ? synNs - random.within(1, 500)
    : Math.max(synAckNs + 10, Math.min(lastNs - 1, synAckNs + random.below(20 * MS)));
  const birthCommitNs =
    client && random.chance(0.5) ? synNs + 1 : Math.max(birthNs, synAckNs) + 1;
  for (const call of [...out.calls, ...inbound.calls]) {
    call.commitNs = Math.max(call.commitNs, birthCommitNs + 1);
  }
  const dies = cut === 0 && random.chance(0.8);
  const unbindNs = dies ? lastNs - 10 + random.below(1000) : -1;
  // In the kernel at that moment: what a twin reads later, and what nobody reads.
  let unread = 0;
  for (const call of inbound.calls) if (call.timeNs > unbindNs) unread += call.bytes;
  unread += random.below(inStream.starts[inStream.sent]! - inStream.starts[read]! + 1);
  if (random.chance(0.3) || unread >= 2 ** 32 - 1) unread = -1;
  return {
    wire,
    client,
    index,
    birthNs,
    connectCommitNs: client ? birthNs + 0.25 : -1,
    birthCommitNs,
    unbindNs,
    unread,
    ring: random.below(RINGS),
    out,
    in: inbound,
    queued: wire.end === "open" && random.chance(0.5) ? 1 : random.pick([-1, 0]),
  };
}

/** Puts a connection's events in order and tells what each acknowledges. */
function packetsOf(wire: Wire, events: Event[]): (Packet & { counted: boolean; captured: boolean })[] {
  const got = new Map([true, false].map((fromClient) => [fromClient, new Set<number>()]));
  const finished = new Set<boolean>();
  const ordered = [...events].sort((a, b) => a.timeNs - b.timeNs);
  return ordered.map((event) => {
    const { fromClient } = event;
    if (event.received && event.device !== INNER_DEVICE) {
      for (let a = event.first; a < event.last; a++) got.get(fromClient)!.add(a);
      if ((event.flags & TcpFlag.FIN) !== 0) finished.add(fromClient);
    }
    const theirs = fromClient ? wire.down : wire.up;
    let contiguous = 0;
    while (got.get(!fromClient)!.has(contiguous)) contiguous++;
    const all = contiguous === theirs.sizes.length && finished.has(!fromClient);
    const mine = fromClient ? wire.up : wire.down;
    const bytes = event.off === -1 ? 1 : mine.starts[event.last]! - mine.starts[event.first]!;
    return {
      wire,
      fromClient,
      timeNs: event.timeNs,
      flags: event.flags,
      off: event.off === -2 ? mine.starts[mine.sent]! : event.off,
      first: event.first,
      last: event.last,
      bytes,
      ack: (event.flags & TcpFlag.ACK) === 0 ? -1
        : event.acks ? theirs.starts[contiguous]! + (all ? 1 : 0) : 0,
      device: event.device,
      now: 0,
      drained: 0,
      roundEnd: false,
      counted: event.counted,
      captured: event.captured,
    };
  });
}

export function makeHistory(seed: number, features: Features): History {
  const random = new Random(seed);
  const wires: Wire[] = [];
  const sockets: SocketSpec[] = [];
  const all: (Packet & { counted: boolean; captured: boolean })[] = [];
  const slots: Slot[] = [];
  let index = 0;
  let endNs = 0;
  if (features.huge) features = { ...features, acks: true };
  for (let n = 0; n < features.connections; n++) {
    let tuple = features.reuse && slots.length > 0 ? random.below(slots.length + 1) : slots.length;
    if (tuple === slots.length) {
      slots.push({
        clientPort: 40_000 + tuple,
        serverPort: 5000 + tuple,
        listened: !(features.unlistened && random.chance(0.6)),
        freeNs: random.pick([1e9, 1e9 + random.below(100 * MS), 1e9 + random.below(4e9)]),
        used: false,
      });
    }
    const slot = slots[tuple]!;
    const mayStayOpen = !features.reuse;
    const made = connection(random, features, slot, tuple, mayStayOpen, () => index++);
    slot.freeNs = made.endNs;
    slot.used = true;
    wires.push(made.wire);
    sockets.push(...made.sockets);
    all.push(...packetsOf(made.wire, made.events));
    endNs = Math.max(endNs, made.endNs);
  }
  // A stable sort: the order within a connection stays as `packetsOf` saw it.
  all.sort((a, b) => a.timeNs - b.timeNs);
  const packets: Packet[] = [];
  const before: number[] = [];
  let drops = 0;
  for (const packet of all) {
    if (packet.captured) {
      packets.push(packet);
      before.push(drops);
    } else if (packet.counted) {
      drops++;
    }
  }
  let drained = 0;
  for (let from = 0; from < packets.length; ) {
    const to = Math.min(packets.length, from + random.within(1, 20));
    // What was dropped before the next round's first packet may be counted already, or not yet.
    const most = to < packets.length ? before[to]! : drops;
    const now = Math.max(before[to - 1]!, random.chance(0.5) ? most : 0);
    for (let p = from; p < to; p++) Object.assign(packets[p]!, { now, drained });
    packets[to - 1]!.roundEnd = true;
    if (random.chance(0.7)) drained = now;
    from = to;
  }
  if (features.jitter) {
    // Stamps go backwards a few times under full load; the order does not.
    for (const packet of packets) {
      if (packet.bytes > 0 && random.chance(0.1)) packet.timeNs -= random.below(2000);
    }
  }
  const lostRecords = sockets.reduce(
    (sum, { out, in: inbound }) =>
      sum + [...out.calls, ...inbound.calls].filter((call) => call.lost).length,
    0,
  );
  return { wires, sockets, packets, lostRecords, endNs };
}
