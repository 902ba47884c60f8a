// One stream of a history: its atoms, its way over the wire, and the calls that moved it.

import {
  type Event,
  type Features,
  INNER_DEVICE,
  MS,
  RINGS,
  type SideSpec,
  type Stream,
} from "./history-types.ts";
import type { Random } from "./random.ts";
import { TcpFlag } from "./words.ts";

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

export function makeStream(random: Random, features: Features, bulk: number): Stream {
  const list = sizes(random, features, bulk);
  const starts = [0];
  for (const size of list) starts.push(starts[starts.length - 1]! + size);
  const sent = features.unsent && random.chance(0.5) ? random.below(list.length + 1) : list.length;
  return { sizes: list, starts, sent: Math.max(sent, bulk), firstNs: list.map(() => Infinity) };
}

/** The stream's way over the wire, from `startNs` on. Appends to `events`. */
export function transmit(
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
export function makeCalls(
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
