// Which sequence number belongs to offset 0 of a stream whose handshake was not captured.
//
// The kernel counts, for each socket, the bytes that were acknowledged to it and those that it
// received in order: counters that move with snd_una and rcv_nxt (tcp_info, RFC 4898). So there are
// two unknowns in each direction, and neither changes while the connection lives:
//
//   - the sequence number at which the counter would have been 0, here `zero`. No moment shows it
//     exactly, but every moment bounds it: what the kernel has processed was captured before, so
//     zero <= (largest acknowledgment captured) - counter; what was captured on its way out had been
//     sent before, so zero >= (end of what was captured) - (sent and unacknowledged) - counter. The
//     same holds of what arrives and what this end acknowledges. Bounds of different moments may be
//     put together: where they meet, the number is proven, on a busy connection as on a quiet one.
//   - the counter's value at offset 0, here `base`: 0, or 1 for the SYN of who connected; of an
//     adopted socket what the preload library read, which a moment must confirm at which the kernel's
//     queue and the socket table's offset say the same (an unrecorded call may have been under way).
//
// All that holds only if the capture shows the whole connection, which a filter by size or another
// path may keep from it. What it hides, the kernel counts: so two moments must agree on a number, and
// every byte that the kernel counted between them must have been seen (of a direction in which nothing
// moved: a packet must have come in between with the same number in it). What was hidden in front of
// the later moment was so in front of the earlier one by as much: it is among those bytes, and was not
// seen. A few contradictions, and the socket is given up.
//
// A connection that fills its own qdisc all the time keeps the lower bound of `zero` away. There the
// upper one is believed once enough moments, with bytes moved in between, have shown exactly the
// same and none a lower one: it is too high only if at each of them the same number of bytes was on
// its way from the tap to the socket, and at none less. A later quiet moment would tell (anchors.ts).

import { Direction, type Moment, type Trust } from "./anchor-direction.ts";
import { AnchorPackets, DELIVERY_NS, Reach, type RowBudget } from "./anchor-packets.ts";

/** Numbers of an observation: what the kernel says of one socket at one moment, and its entry. */
export const Observed = {
  /** When it was asked, ns relative to the base: the moment is in between. */
  beforeNs: 0,
  afterNs: 1,
  /** 1: everything below is of the same moment; 0: of moments in between. */
  steady: 2,
  /** Bytes acknowledged to it; a SYN and a FIN count as one each. */
  acked: 3,
  /** Bytes received in order; a FIN counts as one. */
  received: 4,
  /** Sent and not acknowledged. */
  unacked: 5,
  /** As `acked`, of what the program has written (without a FIN); what it has read. */
  written: 6,
  read: 7,
  /** Offsets of the socket table's entries, -1: they moved; and whether no call was under way. */
  outOff: 8,
  inOff: 9,
  outIdle: 10,
  inIdle: 11,
  /** 1: a read that has taken bytes may wait for more. */
  inWaits: 12,
  /** 1: the clock was set back since the observation before, of whatever socket. */
  turnedBack: 13,
  count: 14,
} as const;

/** A capture that shows everything contradicts itself where a clock is set, and hardly elsewhere. */
const CONTRADICTIONS_MOST = 3;
/** A moment that cannot be judged yet waits; more moments than these are not worth waiting for. */
const PENDING_MOST = 8;

/** What an anchor starts from. */
export interface AnchorStart {
  /** Counters at offset 0; NaN: unknown. */
  readonly outBase: number;
  readonly inBase: number;
  readonly outTrust: Trust;
  readonly inTrust: Trust;
  /** Bytes that had arrived when the socket was first seen; -1: unknown. */
  readonly arrived: number;
  /** Bytes passed before anybody kept the packets: the first moment says which. */
  readonly isLate: boolean;
  /** Everything behind this offset was sent when somebody did; Infinity: not known. */
  readonly sentFrom: number;
  /** Packets that the capture has dropped so far. */
  readonly drops: number;
  /** When the socket was first seen, and the two counters then; NaN: unknown. */
  readonly birthNs: number;
  readonly acked: number;
  readonly received: number;
}

export class Anchor {
  readonly packets: AnchorPackets;
  readonly out: Direction;
  readonly in: Direction;
  /** Times that bounds contradicted each other. */
  contradictions = 0;

  readonly #start: AnchorStart;
  #pending: Float64Array[] = [];
  #seen = false;
  #isJudged = false;
  #drops: number;
  /** Packets that had come when the capture last dropped some: those before tell no upper bound. */
  #since = 0;
  /** Packets that had come at the latest moment that was judged. */
  #judgedPackets = 0;
  readonly #upper = new Reach();
  readonly #lower = new Reach();

  constructor(start: AnchorStart, budget: RowBudget) {
    this.#start = start;
    this.#drops = start.drops;
    this.packets = new AnchorPackets(budget);
    this.out = new Direction(start.outBase, start.outTrust);
    this.in = new Direction(start.inBase, start.inTrust);
    this.out.keptFrom = start.sentFrom;
  }

  /** Packets that the capture had dropped when the first packet was kept. */
  get drops(): number {
    return this.#start.drops;
  }

  /** The capture shows only a part of the connection: there will be no anchor. */
  get isHopeless(): boolean {
    return this.contradictions >= CONTRADICTIONS_MOST;
  }

  /** Bytes passed in calls that nobody recorded. */
  get isBroken(): boolean {
    return this.out.broken || this.in.broken;
  }

  /** Time went backward: nothing is known of what came before what. */
  forget(): void {
    this.#isJudged = true;
    this.#since = this.packets.total;
    this.#pending.length = 0;
    this.out.reset();
    this.in.reset();
  }

  /** Whether a moment now would tell something new: 2 for certain, 1 perhaps, 0 no. */
  get appetite(): number {
    if (!this.#seen) return 2;
    if (this.packets.total === 0 || this.#pending.length >= PENDING_MOST) return 0;
    if (this.packets.total > this.#judgedPackets) return 2;
    return this.out.confirmed && this.in.confirmed ? 0 : 1;
  }

  /** Takes a moment (see `Observed`), to be judged when the packets up to it are here. */
  observe(values: Float64Array): void {
    const { out, in: inbound } = this;
    if (values[Observed.steady] === 1) {
      out.align(values[Observed.written]!, values[Observed.outOff]!, values[Observed.outIdle] === 1);
      const [read, inOff] = [values[Observed.read]!, values[Observed.inOff]!];
      const isIdle = values[Observed.inIdle] === 1;
      inbound.align(read, inOff, isIdle);
      const isWaiting = !isIdle && read === values[Observed.received];
      if (isWaiting && values[Observed.inWaits] !== 1) inbound.alignWaiting(read, inOff);
    }
    if (!this.#seen) this.#first(values);
    // What was sent by now is no less than what had been sent when the first packet was kept.
    if (this.#start.isLate && values[Observed.steady] === 1) {
      const sent = values[Observed.acked]! + values[Observed.unacked]!;
      this.out.floorCount = Math.min(this.out.floorCount, sent);
    }
    if (this.#pending.length < PENDING_MOST) this.#pending.push(values.slice());
  }

  /**
   * Judges the moments up to which all packets are here.
   * @param drops Packets that the capture has dropped so far.
   * @returns whether both directions are anchored now
   */
  judge(capturedNs: number, drops: number): boolean {
    const pending = this.#pending;
    if (drops !== this.#drops) {
      // An acknowledgment that nobody saw would make the upper bounds too low.
      this.#drops = drops;
      this.forget();
    }
    let done = 0;
    while (done < pending.length && pending[done]![Observed.afterNs]! <= capturedNs) {
      this.#judge(pending[done++]!);
    }
    if (done > 0) pending.splice(0, done);
    return this.out.anchored && this.in.anchored && !this.isHopeless && !this.isBroken;
  }

  /** From which offset on every byte's first packet is kept or to come; once anchored. */
  firstOffset(isOut: boolean): number {
    const side = isOut ? this.out : this.in;
    const { packets } = this;
    // What came behind what had been acknowledged came later.
    if (!isOut && packets.firstAckOut >= 0) side.keptFrom = side.offsetOf(packets.firstAckOut);
    const dropped = isOut ? packets.droppedOutEnd : packets.droppedInEnd;
    const floor = dropped < 0 ? side.floor : Math.max(side.floor, side.offsetOf(dropped));
    const first = packets.firstPayload(isOut);
    if (first >= 0) return Math.max(floor, side.offsetOf(first));
    // What has passed so far did so before the first packet that is kept.
    const reach = this.#lower;
    reach.copy(packets.before);
    for (let row = packets.folded; row < packets.count; row++) packets.reach(row, reach);
    const end = isOut ? reach.endOut : reach.endIn;
    const passed = end >= 0 ? side.offsetOf(end) : side.counter - side.base;
    return Math.max(floor, passed - (isOut ? reach.finOut : reach.finIn));
  }

  release(): void {
    this.packets.release();
    this.#pending = [];
  }

  #first(values: Float64Array): void {
    this.#seen = true;
    const { isLate, arrived } = this.#start;
    if (isLate) this.out.floorCount = values[Observed.written]!;
    if (!isLate && arrived >= 0) this.in.floorOffset = Math.max(this.in.floorOffset, arrived);
    else this.in.floorCount = values[Observed.received]!;
  }

  /** The first look at the socket is a moment, too, if it came before all packets. */
  #judgeBirth(): void {
    this.#isJudged = true;
    const { packets, out, in: inbound } = this;
    const { birthNs, acked, received } = this.#start;
    if (packets.total > packets.count || packets.folded > 0) return;
    if (packets.count > 0 && packets.timeNs(0) <= birthNs) return;
    out.blank(acked);
    inbound.blank(received);
  }

  #judge(values: Float64Array): void {
    const { packets, out, in: inbound } = this;
    const beforeNs = values[Observed.beforeNs]!;
    const afterNs = values[Observed.afterNs]!;
    // For want of room, what came later cannot be told apart any more.
    if (packets.foldedNs > beforeNs) return;
    if (!this.#isJudged) this.#judgeBirth();
    packets.fold(beforeNs);
    const upper = this.#upper;
    const lower = this.#lower;
    upper.copy(packets.before);
    lower.copy(packets.before);
    const dropped = packets.total - packets.count;
    let isQuiet = packets.foldedInNs <= beforeNs - DELIVERY_NS;
    let latestIn = packets.foldedIn;
    let judged = dropped + packets.folded;
    for (let row = packets.folded; row < packets.count; row++) {
      const timeNs = packets.timeNs(row);
      if (timeNs > afterNs) continue;
      judged++;
      packets.reach(row, upper);
      if (timeNs <= beforeNs) packets.reach(row, lower);
      if (packets.isOut(row)) continue;
      latestIn = dropped + row;
      if (timeNs > beforeNs - DELIVERY_NS) isQuiet = false;
    }
    const fresh = latestIn >= this.#since;
    if (judged > this.#judgedPackets) this.#judgedPackets = judged;
    const acked = values[Observed.acked]!;
    const received = values[Observed.received]!;
    out.counter = acked;
    inbound.counter = received;
    if (judged === 0) {
      out.blank(acked);
      inbound.blank(received);
    }
    if (fresh) {
      const moment: Moment = { timeNs: beforeNs, isQuiet, packets: judged };
      if (upper.ackIn >= 0) out.atMost(upper.ackIn, acked, moment, upper.ackInAt, packets.seenOut);
      if (upper.endIn >= 0) inbound.atMost(upper.endIn, received, moment, upper.endInAt, packets.seenIn);
    }
    if (lower.endOut >= 0 && values[Observed.steady] === 1) {
      out.atLeast(lower.endOut, acked + values[Observed.unacked]!);
    }
    if (lower.ackOut >= 0) inbound.atLeast(lower.ackOut, received);
    if (out.conclude() && inbound.conclude()) return;
    this.contradictions++;
    out.reset();
    inbound.reset();
  }
}
