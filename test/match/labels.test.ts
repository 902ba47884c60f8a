import { describe, expect, test } from "bun:test";
import { formatAddress, Labels } from "../../src/match/labels.ts";
import { ipv4 } from "./words.ts";

const text = (words: readonly number[]): string => formatAddress(Uint32Array.from(words));

describe("formatAddress", () => {
  test.each([
    [ipv4(10, 0, 0, 1), "10.0.0.1"],
    [ipv4(0, 0, 0, 0), "0.0.0.0"],
    [ipv4(255, 255, 255, 255), "255.255.255.255"],
    [[0, 0, 0, 0], "[::]"],
    [[0, 0, 0, 1], "[::1]"],
    [[0x20010db8, 0, 0, 0x53], "[2001:db8::53]"],
    // RFC 5952: the longest run, the first of equals, none of a single group, no leading zeros.
    [[0x20010db8, 0, 0x00010000, 1], "[2001:db8::1:0:0:1]"],
    [[0x20010000, 0, 0x00010000, 1], "[2001::1:0:0:1]"],
    [[0x20010db8, 0x00000001, 0x00010001, 0x00010001], "[2001:db8:0:1:1:1:1:1]"],
    [[0x00010002, 0x00030004, 0x00050006, 0x00000000], "[1:2:3:4:5:6::]"],
    [[0x00010002, 0x00030004, 0x00050006, 0x00070000], "[1:2:3:4:5:6:7:0]"],
    [[0x00010002, 0x00030004, 0x00050006, 0x00070008], "[1:2:3:4:5:6:7:8]"],
    [[0xfe800000, 0, 0x021122ff, 0xfe334455], "[fe80::211:22ff:fe33:4455]"],
    // IPv4-mapped only with the whole prefix.
    [[0, 1, 0xffff, 0x0a000001], "[::1:0:ffff:a00:1]"],
    [[0, 0, 0x1ffff, 0x0a000001], "[::1:ffff:a00:1]"],
  ])("%p is %s", (words, expected) => {
    expect(text(words)).toBe(expected);
  });
});

describe("Labels", () => {
  const remote = Uint32Array.from(ipv4(10, 0, 0, 2));
  const name = (mode: "none" | "port" | "peer", connected: boolean): string =>
    new Labels(mode).of(connected, 40000, 443, remote).name;

  test("a connected socket is called by the remote port, an accepted one by the local", () => {
    expect(name("port", true)).toBe("out:443");
    expect(name("port", false)).toBe("in:40000");
  });

  test("a peer's address appears only where it is asked for", () => {
    expect(name("peer", true)).toBe("out:10.0.0.2:443");
    expect(name("peer", false)).toBe("in:40000:10.0.0.2");
    expect(name("none", true)).toBe("");
  });

  test("sockets of one label share its books, in the order of the first of them", () => {
    const labels = new Labels("port");
    const first = labels.of(true, 40000, 443, remote);
    const second = labels.of(true, 40001, 80, remote);
    expect(labels.of(true, 50000, 443, remote)).toBe(first);
    expect([...labels.all()]).toEqual([first, second]);
  });
});
