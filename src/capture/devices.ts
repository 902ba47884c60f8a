// Which device judges when a packet shows on several. A capture on `any` sees a packet on every
// device that it crosses: on a bridge and on its port, 62 ms apart when the port is shaped
// (measured). The outermost one tells when the bytes left or came; the inner ones are passed over.

import { interfaces, type NetworkInterface } from "../ffi/netlink.ts";

/**
 * Devices whose every packet also crosses a port of theirs, in a form that the capture decodes.
 * Not here: `vrf`, whose local traffic crosses no port; `batadv` and others that encapsulate.
 */
const KINDS_WITH_PORTS: ReadonlySet<string> = new Set(["bridge", "bond", "team"]);

/**
 * Devices whose every packet also crosses the device that they lie on, with a tag at most.
 * Not here: tunnels and `macsec`, whose packets are something else further out, and `dsa`.
 */
const KINDS_ON_A_LINK: ReadonlySet<string> = new Set(["vlan"]);

/**
 * In these modes of a macvlan all that it sends leaves by the device below. In the others, what it
 * sends to a sibling shows below as incoming (measured), and only its own sighting is a departure:
 * there it is not called inner, and its times lack the queue of the device below.
 */
const MACVLAN_PRIVATE = 1;
const MACVLAN_VEPA = 2;
const MACVLAN_PASSTHRU = 8;

const TABLE_MAXIMUM = 65_536;

export class Devices {
  #list: readonly NetworkInterface[] = [];
  /** 1 by interface index: asked for each packet. */
  #inner = new Uint8Array(64);
  /** Indices too large for that table; they are small as a rule, but may be any u31. */
  readonly #innerBeyond = new Set<number>();

  /**
   * Reads the interfaces of this network namespace anew.
   * @throws KQTimeError `E_NETLINK`
   */
  refresh(): void {
    this.#list = interfaces();
    this.#inner.fill(0);
    this.#innerBeyond.clear();
    for (const index of innerDevices(this.#list)) {
      if (index >= TABLE_MAXIMUM) {
        this.#innerBeyond.add(index);
        continue;
      }
      if (index >= this.#inner.length) {
        const larger = new Uint8Array(Math.min(TABLE_MAXIMUM, index * 2));
        larger.set(this.#inner);
        this.#inner = larger;
      }
      this.#inner[index] = 1;
    }
  }

  /** True if each packet of this device is also seen on one further out. */
  isInner(interfaceIndex: number): boolean {
    if (interfaceIndex < this.#inner.length) return this.#inner[interfaceIndex] === 1;
    return this.#innerBeyond.size !== 0 && this.#innerBeyond.has(interfaceIndex);
  }

  /** Reads them, and puts the indices of inner ones into `inner`; tells whether these are others. */
  readInner(inner: Set<number>): boolean {
    const before = [...inner].join();
    this.refresh();
    inner.clear();
    for (const { index } of this.#list) if (this.isInner(index)) inner.add(index);
    return [...inner].join() !== before;
  }

  /** As read last. */
  get list(): readonly NetworkInterface[] {
    return this.#list;
  }

  /** The device's name as read last, or null. */
  nameOf(interfaceIndex: number): string | null {
    return this.#list.find((device) => device.index === interfaceIndex)?.name ?? null;
  }
}

/** The indices of the inner ones among the interfaces of a namespace. */
export function innerDevices(list: readonly NetworkInterface[]): number[] {
  const present = new Set(list.map((device) => device.index));
  const withPorts = new Set<number>();
  for (const device of list) if (device.master !== 0) withPorts.add(device.master);
  return list.filter((device) => {
    if (KINDS_WITH_PORTS.has(device.kind)) return withPorts.has(device.index);
    if (device.link === 0 || !present.has(device.link)) return false;
    return KINDS_ON_A_LINK.has(device.kind) || isOuterBoundMacvlan(device);
  }).map((device) => device.index);
}

function isOuterBoundMacvlan(device: NetworkInterface): boolean {
  if (device.kind !== "macvlan" && device.kind !== "macvtap") return false;
  return (
    device.mode === MACVLAN_PRIVATE || device.mode === MACVLAN_VEPA ||
    device.mode === MACVLAN_PASSTHRU
  );
}
