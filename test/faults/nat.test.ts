// Addresses that are rewritten (nft) between the socket and the wire: joined where the rewriting is
// beyond the tap, else booked as `nat`, and said. Never silent, never matched with other bytes.

import { expect } from "bun:test";
import { IN, OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, booksFlaws, directionOf, flaws, Measurement } from "../lib/kqtime.ts";
import { withLab, type Lab, type Node } from "../lib/network.ts";

const TOTAL = 300_000;
const PORT = 7300;

/** What differs between IPv4 and IPv6. */
interface Family {
  name: string;
  /** As nft calls it. */
  word: "ip" | "ip6";
  of: (node: Node) => string;
  /** Nobody has it: what is sent there arrives somewhere else. */
  elsewhere: string;
  /** Of the router, on the server's side. */
  router: string;
  /** With a port. */
  withPort: (address: string, ports: string) => string;
}

const FAMILIES: readonly Family[] = [
  {
    name: "IPv4", word: "ip", of: ({ v4 }) => v4, elsewhere: "10.99.0.1", router: "10.77.2.254",
    withPort: (address, ports) => `${address}:${ports}`,
  },
  {
    name: "IPv6", word: "ip6", of: ({ v6 }) => v6, elsewhere: "fd99::1", router: "fd77:2::254",
    withPort: (address, ports) => `[${address}]:${ports}`,
  },
];

interface Case {
  name: string;
  /** Where the rules are, and what they are. */
  at: "left" | "middle" | "right";
  rules: (lab: Lab, family: Family) => string;
  /** Where the client connects to. */
  address: (lab: Lab, family: Family) => string;
  port: number;
  /** What the ends that are measured see. */
  client: "joined" | "nat" | "filtered";
  server: "joined" | "nat";
}

const nat = (hook: string, rule: string) =>
  `chain ${hook} { type nat hook ${hook} priority ${hook === "postrouting" ? 100 : -100}; ${rule}; }\n`;

/** What is sent to the address that nobody has goes to the server. */
const toServer = (hook: string, { right }: Lab, { word, of, elsewhere, withPort }: Family) =>
  nat(hook, `${word} daddr ${elsewhere} tcp dport 80 dnat ${word} to ${withPort(of(right), `${PORT}`)}`);
/** What is sent to the server comes from here, from another port. */
const from = (address: string, { word, withPort }: Family) =>
  nat("postrouting", `tcp dport ${PORT} snat ${word} to ${withPort(address, "20000-20010")}`);

const CASES: readonly Case[] = [
  {
    name: "DNAT on the client's host",
    at: "left",
    rules: (lab, family) => toServer("output", lab, family),
    address: (_, { elsewhere }) => elsewhere, port: 80, client: "nat", server: "joined",
  },
  {
    name: "SNAT on the client's host, to another port",
    at: "left",
    rules: ({ left }, family) => from(family.of(left), family),
    address: ({ right }, { of }) => of(right), port: PORT, client: "nat", server: "joined",
  },
  {
    // Nothing of the connection is left by which it could be recognised.
    name: "DNAT and SNAT on the client's host",
    at: "left",
    rules: (lab, family) => toServer("output", lab, family) + from(family.of(lab.left), family),
    address: (_, { elsewhere }) => elsewhere, port: 80, client: "filtered", server: "joined",
  },
  {
    name: "a redirected port on the server's host",
    at: "right",
    rules: () => nat("prerouting", `tcp dport 80 redirect to :${PORT}`),
    address: ({ right }, { of }) => of(right), port: 80, client: "joined", server: "nat",
  },
  {
    name: "DNAT and SNAT on a router",
    at: "middle",
    rules: (lab, family) => toServer("prerouting", lab, family) + from(family.router, family),
    address: (_, { elsewhere }) => elsewhere, port: 80, client: "joined", server: "joined",
  },
];

for (const family of FAMILIES) for (const each of CASES) translated(family, each);

function translated(family: Family, each: Case): void {
  const { at, rules, address, port, client: onClient, server: onServer } = each;
  e2e(`${each.name}, ${family.name}`, () => withLab({ middle: at === "middle" }, async (lab) => {
    const { scope, left, right } = lab;
    const where = at === "left" ? left : at === "right" ? right : lab.middle!;
    // Both ends know a way to the address that nobody has.
    if (at === "left") {
      await scope.run(["ip", "-n", left.name, "route", "add", "default", "via", family.of(right)]);
    }
    // Not by a pipe: nft 1.0.9 reads none.
    await scope.run(
      ["nft", `table ${family.word} kqnat { ${rules(lab, family)} }`], { prefix: where.prefix },
    );
    const program = await fixture("flow");
    // Other contents depend on the ports, which the two ends do not agree on.
    const flow = ["--total", `${TOTAL}`, "--size", "3000", "--both", "--content", "zero"];
    const server = new Measurement(
      scope, [program, "server", "--address", family.of(right), "--port", `${PORT}`, ...flow],
      { prefix: right.prefix },
    );
    await server.running.says(/ready/);
    const client = new Measurement(
      scope, [program, "client", "--address", address(lab, family), "--port", `${port}`, ...flow],
      { prefix: left.prefix },
    );
    await client.running.success();
    await server.running.success();
    if (BARE) return;
    for (const [measurement, what] of [[client, onClient], [server, onServer]] as const) {
      if (what === "joined") {
        expect(flaws(measurement, { out: TOTAL, in: TOTAL })).toEqual([]);
        continue;
      }
      const summary = measurement.summary();
      for (const direction of [OUT, IN] as const) {
        const books = directionOf(summary, direction);
        expect([books.bytesCalled, books.bytesMatched]).toEqual([TOTAL, 0]);
        expect(books.bytesUnmatched).toEqual({ [what]: TOTAL });
        expect(books.coverage).toBe(0);
      }
      expect(summary.warnings.join("\n")).toContain(` ${what}: `);
      expect(summary.booksBalance).toBe(true);
      expect(booksFlaws(measurement)).toEqual([]);
    }
  }), 60_000, ["nft"]);
}
