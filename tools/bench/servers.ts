// What kqtime costs well-known servers, which it measures: nginx under wrk, with connections that stay
// and with a new one for each request, and redis under its own benchmark.

import { writeFileSync } from "node:fs";
import { type Lab, withLab } from "../../test/lib/network.ts";
import { until } from "../../test/lib/process.ts";
import { type Bench, requireLoad } from "./bench.ts";
import type { Target } from "./report.ts";
import { Comparison, type Started, type Way, WHOLE_TARGET } from "./ways.ts";
import { wrk, type WrkLoad } from "./wrk.ts";

const PORT = 8080;
const BODY_BYTES = 1000;
const CONNECTIONS = 32;
const PAUSE_MOST_MS = 9;
const P99_TARGET: Target = { sign: "<=", value: 1.03 };

function configure(lab: Lab): string {
  const path = lab.scope.path("nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${lab.scope.path(name)};`).join(" ");
  writeFileSync(path, `
daemon off; user root; worker_processes 1; pid ${lab.scope.path("nginx.pid")};
error_log /dev/null crit;
events { worker_connections 1024; }
http {
  access_log off; ${temporary}
  keepalive_requests 1000000000;
  server { listen ${PORT} backlog=1024; location / { return 200 "${"k".repeat(BODY_BYTES)}"; } }
}
`);
  return path;
}

async function answers(lab: Lab, port: number): Promise<void> {
  // A connection that is refused is asked for again.
  await until(`server on port ${port}`, async () => {
    const { code } = await lab.scope
      .start(["curl", "-s", "-o", "/dev/null", `http://${lab.left.v4}:${port}/`], {
        prefix: lab.right.prefix,
      })
      .exit();
    return code !== 7;
  });
}

async function serve<T>(
  comparison: Comparison, way: Way, command: readonly string[], port: number, signal: NodeJS.Signals,
  body: (started: Started) => Promise<T>,
): Promise<T> {
  const { lab } = comparison;
  const started = await comparison.start(way, lab.left, command);
  await answers(lab, port);
  started.begin();
  const result = await comparison.observe(started, () => body(started));
  await comparison.end(started, signal);
  return result;
}

async function benchNginx(bench: Bench, lab: Lab, turns: number): Promise<void> {
  const config = configure(lab);
  const seconds = bench.quick ? 1 : 2;
  const pacedSeconds = bench.quick ? 1 : 4;
  const url = `http://${lab.left.v4}:${PORT}/`;
  const loads: Record<"kept" | "paced" | "closed", WrkLoad> = {
    kept: { name: "kept", connections: CONNECTIONS, seconds, pauseMostMs: 0 },
    paced: {
      name: "paced", connections: CONNECTIONS, seconds: pacedSeconds, pauseMostMs: PAUSE_MOST_MS,
    },
    closed: { name: "closed", connections: CONNECTIONS, seconds, pauseMostMs: 0, close: true },
  };
  const comparison = new Comparison(bench, lab, "servers");
  await comparison.run(turns, (way) =>
    serve(comparison, way, ["nginx", "-c", config, "-e", "/dev/null"], PORT, "SIGTERM", async () => {
      const figures: Record<string, number> = {};
      for (const [name, load] of Object.entries(loads)) {
        const { p50, p99, rate } = await wrk(lab, lab.right, url, load);
        figures[`${name} rate`] = rate;
        figures[`${name} p50`] = p50;
        figures[`${name} p99`] = p99;
      }
      return figures;
    }),
  );
  comparison.tell("kept rate", "nginx, connections kept", "requests/s", WHOLE_TARGET, 0);
  comparison.tell("kept p99", "nginx, connections kept, p99", "ms", null);
  comparison.tell("closed rate", "nginx, a connection a request", "requests/s", WHOLE_TARGET, 0);
  comparison.tell("closed p99", "nginx, a connection a request, p99", "ms", null);
  comparison.tell("paced p50", "nginx, connections kept, paced, p50", "ms", null);
  comparison.tell("paced p99", "nginx, connections kept, paced, p99", "ms", P99_TARGET);
  comparison.judge("nginx");
}

async function benchRedis(bench: Bench, lab: Lab, turns: number): Promise<void> {
  const port = 6379;
  const server = [
    "redis-server", "--port", `${port}`, "--bind", lab.left.v4, "--save", "", "--appendonly", "no",
    "--protected-mode", "no",
  ];
  const client = [
    "redis-benchmark", "-h", lab.left.v4, "-p", `${port}`, "-t", "set,get", "-n",
    bench.quick ? "20000" : "60000", "-c", `${CONNECTIONS}`, "-d", "64", "--csv",
  ];
  const comparison = new Comparison(bench, lab, "servers");
  await comparison.run(turns, (way) =>
    serve(comparison, way, server, port, "SIGTERM", async () => {
      const { stdout } = await lab.scope.run(client, { prefix: lab.right.prefix });
      const lines = [...stdout.matchAll(/^"(?:SET|GET)",(.*)$/gm)].map(([, values]) =>
        values!.split(",").map((value) => Number(value.replaceAll('"', ""))),
      );
      if (lines.length !== 2) throw new Error(`redis-benchmark printed no figures: ${stdout}`);
      // rps, average, min, p50, p95, p99, max
      const mean = (at: number) => (lines[0]![at]! + lines[1]![at]!) / 2;
      return { rate: requireLoad(mean(0), "redis-benchmark"), p99: mean(5) };
    }),
  );
  comparison.tell("rate", "redis, set and get", "requests/s", WHOLE_TARGET, 0);
  comparison.tell("p99", "redis, set and get, p99", "ms", null);
  comparison.judge("redis");
}

export async function benchServers(bench: Bench): Promise<void> {
  const turns = bench.pairs ?? (bench.quick ? 2 : 10);
  await withLab({}, async (lab) => {
    // A connection a request needs many ports.
    const ports = ["sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 65000"];
    await lab.scope.run(ports, { prefix: lab.right.prefix });
    await benchNginx(bench, lab, turns);
    await benchRedis(bench, lab, turns);
  });
}
