// What really happened: connections, what passed the wire and what the capture saw of it, and what
// each measured process recorded. Built from a seed and a set of features; `schedule.ts` decides
// in which order the collector learns of it, `model.ts` what it must conclude.
//
// A stream is a row of atoms of very different sizes. Calls, segments, losses and repetitions
// begin and end between atoms only, so that a model can keep one cell an atom.

import {
  type Event,
  type Features,
  type History,
  INNER_DEVICE,
  MS,
  type Packet,
  RINGS,
  type SocketSpec,
  type Wire,
} from "./history-types.ts";
import { Random } from "./random.ts";
import { makeCalls, makeStream, transmit } from "./streams.ts";
import { TcpFlag } from "./words.ts";

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

/** What passed the tap, and whether the capture saw it or counted it as dropped. */
type Passed = Packet & { counted: boolean; captured: boolean };

/** Puts a connection's events in order and tells what each acknowledges. */
function packetsOf(wire: Wire, events: Event[]): Passed[] {
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
  const all: Passed[] = [];
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
