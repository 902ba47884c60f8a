import { expect, test } from "bun:test";
import { Devices, innerDevices } from "../../src/capture/devices.ts";
import type { NetworkInterface } from "../../src/ffi/netlink.ts";

const NONE = { master: 0, link: 0, mode: 0, receiveDrops: 0 };

function device(
  index: number,
  kind: string,
  change: Partial<NetworkInterface> = {},
): NetworkInterface {
  return { ...NONE, index, name: `d${index}`, kind, ...change };
}

test("what lies on ports or on a device is inner, in any depth", () => {
  // vlan 5 on bridge 4 on bond 3 on hardware 1 and 2
  const list = [
    device(1, "", { master: 3 }),
    device(2, "", { master: 3 }),
    device(3, "bond", { master: 4 }),
    device(4, "bridge"),
    device(5, "vlan", { link: 4 }),
  ];
  expect(innerDevices(list)).toEqual([3, 4, 5]);
});

test("what carries its packets in another form is not", () => {
  for (const kind of ["vxlan", "gretap", "macsec", "ipip", "wireguard", "xfrm", "dsa", "vrf"]) {
    expect(innerDevices([device(1, ""), device(2, kind, { link: 1 })])).toEqual([]);
  }
  expect(innerDevices([device(1, "", { master: 2 }), device(2, "vrf")])).toEqual([]);
  expect(innerDevices([device(1, "", { master: 2 }), device(2, "batadv")])).toEqual([]);
});

test("a bridge without ports, a link that is not here, a pair of veth", () => {
  expect(innerDevices([device(1, "bridge")])).toEqual([]);
  expect(innerDevices([device(7, "vlan", { link: 2 })])).toEqual([]);
  const pair = [device(1, "veth", { link: 2 }), device(2, "veth", { link: 1 })];
  expect(innerDevices(pair)).toEqual([]);
});

test("modes of macvlan", () => {
  const on = (mode: number): number[] =>
    innerDevices([device(1, ""), device(2, "macvlan", { link: 1, mode })]);
  expect([1, 2, 4, 8, 16].map((mode) => on(mode).length)).toEqual([1, 1, 0, 1, 0]);
});

test("this machine: loopback and unknown indices are not inner", () => {
  const devices = new Devices();
  expect(devices.isInner(1)).toBe(false);
  devices.refresh();
  devices.refresh();
  for (const index of [0, 1, 4_000_000, 0xffffffff]) expect(devices.isInner(index)).toBe(false);
  expect(devices.nameOf(1)).toBe("lo");
  expect(devices.nameOf(4_000_000)).toBeNull();
});
