// Addresses that are rewritten (nft) between the socket and the wire: joined where the rewriting is
// beyond the tap, else booked as `nat`, and said. Never silent, never matched with other bytes.

import { expect } from "bun:test";
import { IN, OUT } from "../lib/calllog.ts";
import { e2e } from "../lib/e2e.ts";
import { fixture } from "../lib/fixtures.ts";
import { BARE, booksFlaws, directionOf, flaws, Measurement } from "../lib/kqtime.ts";
import { withLab, type Lab } from "../lib/network.ts";

/** Nobody has it: what is sent there arrives somewhere else. */
const ELSEWHERE = "10.99.0.1";
const TOTAL = 300_000;
const PORT = 7300;
/** Of the router, on the server's side. */
const ROUTER = "10.77.2.254";

interface Case {
  name: string;
  /** Where the rules are, and what they are. */
  at: "left" | "middle" | "right";
  rules: (lab: Lab) => string;
  /** Where the client connects to. */
  address: (lab: Lab) => string;
  port: number;
  /** What the ends that are measured see. */
  client: "joined" | "nat" | "filtered";
  server: "joined" | "nat";
}

const nat = (hook: string, rule: string) =>
  `chain ${hook} { type nat hook ${hook} priority ${hook === "postrouting" ? 100 : -100}; ${rule}; }\n`;

const CASES: readonly Case[] = [
  {
    name: "DNAT on the client's host",
    at: "left",
    rules: ({ right }) => nat("output", `ip daddr ${ELSEWHERE} tcp dport 80 dnat ip to ${right.v4}:${PORT}`),
    address: () => ELSEWHERE, port: 80, client: "nat", server: "joined",
  },
  {
    name: "SNAT on the client's host, to another port",
    at: "left",
    rules: ({ left }) => nat("postrouting", `tcp dport ${PORT} snat ip to ${left.v4}:20000-20010`),
    address: ({ right }) => right.v4, port: PORT, client: "nat", server: "joined",
  },
  {
    // Nothing of the connection is left by which it could be recognised.
    name: "DNAT and SNAT on the client's host",
    at: "left",
    rules: ({ left, right }) =>
      nat("output", `ip daddr ${ELSEWHERE} tcp dport 80 dnat ip to ${right.v4}:${PORT}`) +
      nat("postrouting", `tcp dport ${PORT} snat ip to ${left.v4}:20000-20010`),
    address: () => ELSEWHERE, port: 80, client: "filtered", server: "joined",
  },
  {
    name: "a redirected port on the server's host",
    at: "right",
    rules: () => nat("prerouting", `tcp dport 80 redirect to :${PORT}`),
    address: ({ right }) => right.v4, port: 80, client: "joined", server: "nat",
  },
  {
    name: "DNAT and SNAT on a router",
    at: "middle",
    rules: ({ right }) =>
      nat("prerouting", `ip daddr ${ELSEWHERE} tcp dport 80 dnat ip to ${right.v4}:${PORT}`) +
      nat("postrouting", `tcp dport ${PORT} snat ip to ${ROUTER}:20000-20010`),
    address: () => ELSEWHERE, port: 80, client: "joined", server: "joined",
  },
];

for (const { name, at, rules, address, port, client: onClient, server: onServer } of CASES) {
  e2e(name, () => withLab({ middle: at === "middle" }, async (lab) => {
    const { scope, left, right } = lab;
    const where = at === "left" ? left : at === "right" ? right : lab.middle!;
    // Both ends know a way to the address that nobody has.
    if (at === "left") await scope.run(["ip", "-n", left.name, "route", "add", "default", "via", right.v4]);
    // Not by a pipe: nft 1.0.9 reads none.
    await scope.run(["nft", `table ip kqnat { ${rules(lab)} }`], { prefix: where.prefix });
    const program = await fixture("flow");
    // Other contents depend on the ports, which the two ends do not agree on.
    const flow = ["--total", `${TOTAL}`, "--size", "3000", "--both", "--content", "zero"];
    const server = new Measurement(
      scope, [program, "server", "--address", right.v4, "--port", `${PORT}`, ...flow],
      { prefix: right.prefix },
    );
    await server.running.says(/ready/);
    const client = new Measurement(
      scope, [program, "client", "--address", address(lab), "--port", `${port}`, ...flow],
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
